"""Mahalanobis scores: ours against pytorch-ood's, in one run, with the memory that they take.

    python -m benchmarks.mahalanobis [--rows 20000] [--dimensions 342] [--classes 10 100]

Both are fitted on the same training features, and score them. Ours computes in float64, the peer in
its float32; that they agree is checked against the peer in float64. Memory is the growth of a fresh
process's peak while it scores.
"""

from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from pytorch_ood.detector import Mahalanobis as Peer

from benchmarks.kinds import widened
from benchmarks.measuring import RUN, as_table, in_turns, machine, new_parser, ratio, spread, start
from benchmarks.results import write_section
from mistakes_lib import FeatureSet, Mahalanobis, load_run

RIDGE = 1e-6  # that pytorch-ood adds to the covariance's diagonal
SOME = 2000  # rows on which the two are compared, and on which memory's detectors are fitted


@contextmanager
def default_dtype(dtype):
    """pytorch-ood works in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def peer_fitted_on(train, dtype):
    with default_dtype(dtype):
        features = torch.tensor(train.features, dtype=dtype)
        return Peer(None).fit_features(features, torch.tensor(train.labels))


def difference(train, ours):
    """Largest relative difference of the two scores in float64, once they are on one scale."""
    some = train.features[:SOME]
    peer = peer_fitted_on(train, torch.float64)
    # Without the ridge, which counts where a feature hardly varies and rows are few.
    peer.precision = torch.linalg.inv(peer.cov - RIDGE * torch.eye(len(peer.cov)).double())
    # Half the squared distance, with a covariance that is not divided by n, and no minus sign.
    theirs = -2 * len(train) * peer.predict_features(torch.tensor(some).double()).numpy()
    scores = ours.score_samples(FeatureSet(some, train.logits[:SOME]))
    np.testing.assert_allclose(scores, theirs, rtol=1e-3)
    return float(np.abs(scores / theirs - 1).max())


def labelled_by(n_classes, train, d):
    """The training features in d dimensions; each class in parts, or some joined, as need be."""
    rng = np.random.default_rng(0)
    features = widened(train.features.astype(np.float64), d, rng)
    parts = -(-n_classes // train.logits.shape[1])
    labels = (train.labels * parts + rng.integers(parts, size=len(train))) % n_classes
    return FeatureSet(features, np.zeros((len(train), n_classes)), labels)


def compare(train, repeats):
    """A row of the table."""
    ours, peer = Mahalanobis().fit(train), peer_fitted_on(train, torch.float32)
    unequal, rows = difference(train, ours), torch.tensor(train.features)
    actions = {
        "ours": lambda: ours.score_samples(train),
        "peer": lambda: peer.predict_features(rows),
    }
    seconds, _ = in_turns(actions, repeats)
    both = seconds["peer"], seconds["ours"]
    d, classes = train.features.shape[1], train.logits.shape[1]
    return [len(train), d, classes, *(spread(times) for times in both), ratio(*both), unequal]


def peak_growth(library, n, d, n_classes):
    """MB by which scoring n rows raises this process's peak; None where the system tells no peak.

    To be called in a fresh process.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, d), dtype=np.float32)
    labels = np.arange(n) % n_classes
    batch = FeatureSet(features, np.zeros((n, n_classes), dtype=np.float32), labels)
    if library == "ours":
        score, rows = Mahalanobis().fit(batch[:SOME]).score, batch
    else:
        score = peer_fitted_on(batch[:SOME], torch.float32).predict_features
        rows = torch.from_numpy(batch.features)
    before = _peak(anew=True)
    score(rows)
    return None if before is None else (_peak() - before) / 1024


def _peak(*, anew=False):
    """Greatest resident memory, kB, counted anew from now on; None where nothing tells it."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def memory(n, d, n_classes):
    """A row of the table of memory: ours and the peer's, each in a process of its own."""
    forks = get_context("forkserver")  # it imports once, and computes nothing itself
    forks.set_forkserver_preload(["benchmarks.mahalanobis"])
    growth = []
    for library in ("peer", "ours"):
        with ProcessPoolExecutor(1, mp_context=forks) as pool:
            growth.append(pool.submit(peak_growth, library, n, d, n_classes).result())
    return [n, d, n_classes, 4 * n * d / 2**20, *growth]


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--run", default=RUN)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=342)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument(
        "--memory", type=int, nargs="+", default=[25_000, 50_000, 100_000], help="rows, for memory"
    )
    arguments = start(parser, argv)
    whole = load_run(arguments.run).features("train")[: arguments.rows]
    d = arguments.dimensions
    rows = [compare(labelled_by(c, whole, d), arguments.repeats) for c in arguments.classes]
    memories = [memory(n, d, arguments.classes[0]) for n in arguments.memory]
    head = ["rows", "d", "classes", "pytorch-ood, s", "ours, s", "ratio", "difference"]
    memory_head = ["rows", "d", "classes", "the features, MB", "pytorch-ood, MB", "ours, MB"]
    text = f"""{machine("pytorch-ood", "numpy")}. Training features of {arguments.run}, widened to
{d} dimensions; more classes than its own are made by splitting each, fewer by joining some.

Seconds to score all rows, {arguments.repeats} times in turns: median (least–greatest).
*difference*: the largest relative one of the two scores in float64, on one scale.

{as_table(head, rows)}

Growth of a fresh process's peak memory while it scores, beside the features themselves:

{as_table(memory_head, memories)}"""
    write_section("mahalanobis", "Mahalanobis scores", text)


if __name__ == "__main__":
    main()
