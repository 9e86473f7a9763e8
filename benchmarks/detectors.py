"""Detectors: ours against pytorch-ood's, in one run, with the memory that they take.

    python -m benchmarks.detectors [--rows 50000] [--known 10000] [--classes 100 1000]

Both are fitted on the same training features, and score the same rows. Ours computes in float64,
the peer in its float32. Memory is the growth of a fresh process's peak while it scores.
"""

from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from unittest import mock

import numpy as np
import torch
from pytorch_ood.detector import KNN, EnergyBased
from pytorch_ood.detector import Mahalanobis as PeerMahalanobis
from pytorch_ood.detector import ViM as PeerViM

from benchmarks.kinds import widened
from benchmarks.measuring import (
    RUN,
    as_table,
    in_turns,
    machine,
    new_parser,
    peak_memory,
    ratio,
    spread,
    start,
)
from benchmarks.results import headline, named, write_section
from mistakes_lib import Energy, FeatureSet, Mahalanobis, NearestNeighbors, ViM, load_run

RIDGE = 1e-6  # that pytorch-ood adds to the covariance's diagonal
SOME = 2000  # rows on which the two are compared, and on which memory's detectors are fitted
AGREE = 0.01  # standard deviations of the scores by which the two may differ
ONCE = {"nearest neighbors"}  # which know no classes: their number changes nothing
NOTES = {
    "Mahalanobis": "",
    "ViM": "each makes the logits of the features first",
    "nearest neighbors": "exact in both; ours searches in float32 and decides near ties in float64",
    "energy": "one pass over the logits in both",
}


def head(n_classes, d):
    """Weights (c, d) and bias (c,) of a network's last layer, float32."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(n_classes, d)) / np.sqrt(d)
    return weight.astype(np.float32), rng.normal(size=n_classes).astype(np.float32)


def with_logits(features, n_classes, labels=None):
    """A FeatureSet whose logits are those of :func:`head`."""
    weight, bias = head(n_classes, features.shape[1])
    return FeatureSet(features, features @ weight.T + bias, labels)


def mahalanobis(train, library):
    if library == "ours":
        return Mahalanobis().fit(train).score_samples
    peer = peer_mahalanobis_fitted_on(train, torch.float32)
    return lambda batch: -peer.predict_features(torch.from_numpy(batch.features)).numpy()


def vim(train, library):
    n_classes, d = train.logits.shape[1], train.features.shape[1]
    if library == "ours":
        scorer = ViM(d // 2).fit(train)
        return lambda batch: scorer.score_samples(with_logits(batch.features, n_classes))
    peer = peer_vim_fitted_on(train, torch.float32)
    return lambda batch: -peer.predict_features(torch.from_numpy(batch.features)).numpy()


def nearest(train, library):
    if library == "ours":
        return NearestNeighbors().fit(train).score_samples
    peer = KNN(None)
    peer.fit_features(torch.from_numpy(train.features), torch.from_numpy(train.labels))
    return lambda batch: -peer.predict_features(torch.from_numpy(batch.features)).numpy()


def energy(train, library):
    if library == "ours":
        return Energy().fit(train).score_samples
    peer = EnergyBased(None)
    return lambda batch: -peer.predict_logits(torch.from_numpy(batch.logits)).numpy()


# Name → (FeatureSet to fit on, "ours" or "peer") → function of a FeatureSet that scores its rows.
DETECTORS = {
    "Mahalanobis": mahalanobis,
    "ViM": vim,
    "nearest neighbors": nearest,
    "energy": energy,
}


@contextmanager
def default_dtype(dtype):
    """pytorch-ood works in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def peer_mahalanobis_fitted_on(train, dtype):
    with default_dtype(dtype):
        features = torch.tensor(train.features, dtype=dtype)
        return PeerMahalanobis(None).fit_features(features, torch.tensor(train.labels))


def peer_vim_fitted_on(train, dtype):
    n_classes, d = train.logits.shape[1], train.features.shape[1]
    peer = PeerViM(None, d // 2, *(torch.tensor(part, dtype=dtype) for part in head(n_classes, d)))
    return peer.fit_features(torch.from_numpy(train.features), torch.from_numpy(train.labels))


def vim_difference(train, some, scores):
    """Largest difference of ours and the peer's in float64.

    In float32 it finds other directions where neighbouring eigenvalues are nearly equal.
    """
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):  # it rounds all by itself
        peer = peer_vim_fitted_on(train, torch.float64)
        theirs = -peer.predict_features(torch.from_numpy(some.features)).numpy()
    return difference(scores, theirs)


def mahalanobis_difference(train, some, scores):
    """Largest difference of ours and the peer's in float64, once they are on one scale."""
    peer = peer_mahalanobis_fitted_on(train, torch.float64)
    # Without the ridge, which counts where a feature hardly varies and rows are few.
    peer.precision = torch.linalg.inv(peer.cov - RIDGE * torch.eye(len(peer.cov)).double())
    # Half the squared distance, with a covariance that is not divided by n, and no minus sign.
    theirs = -2 * len(train) * peer.predict_features(torch.tensor(some.features).double()).numpy()
    return difference(scores, theirs)


# How to compare with a peer whose own precision decides what it finds.
IN_FLOAT64 = {"Mahalanobis": mahalanobis_difference, "ViM": vim_difference}


def difference(scores, theirs):
    """The largest, in standard deviations of the scores; raises where the two disagree."""
    found = float(np.abs(scores - theirs).max() / scores.std())
    if found > AGREE:
        raise AssertionError(f"the scores differ by {found:.2g} standard deviations")
    return found


def labelled_by(n_classes, batch, d):
    """The features in d dimensions; each class in parts, or some joined, as need be."""
    rng = np.random.default_rng(0)
    features = widened(batch.features.astype(np.float64), d, rng).astype(np.float32)
    parts = -(-n_classes // batch.logits.shape[1])
    labels = (batch.labels * parts + rng.integers(parts, size=len(batch))) % n_classes
    return with_logits(features, n_classes, labels)


def compare(name, train, batch, repeats):
    """A row of the table, and the seconds of both."""
    fitted = {library: DETECTORS[name](train, library) for library in ("ours", "peer")}
    actions = {library: (lambda s=score: s(batch)) for library, score in fitted.items()}
    seconds, scores = in_turns(actions, repeats)
    few, some = {key: value[:SOME] for key, value in scores.items()}, batch[:SOME]
    if name in IN_FLOAT64:
        unequal = IN_FLOAT64[name](train, some, few["ours"])
    else:
        unequal = difference(few["ours"], few["peer"])
    both = seconds["peer"], seconds["ours"]
    row = [name, train.logits.shape[1], *(spread(times) for times in both), ratio(*both), unequal]
    return row, both


def peak_growth(name, library, n, d, n_classes):
    """MB by which scoring n rows raises this process's peak; None where the system tells no peak.

    To be called in a fresh process.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, d), dtype=np.float32)
    batch = with_logits(features, n_classes, np.arange(n) % n_classes)
    score = DETECTORS[name](batch[:SOME], library)
    before = peak_memory(anew=True)
    score(batch)
    return None if before is None else peak_memory() - before


def memory(name, n, d, n_classes):
    """A row of the table of memory: the peer's and ours, each in a process of its own."""
    forks = get_context("forkserver")  # it imports once, and computes nothing itself
    forks.set_forkserver_preload(["pytorch_ood.detector", "sklearn.neighbors"])
    growth = []
    for library in ("peer", "ours"):
        with ProcessPoolExecutor(1, mp_context=forks) as pool:
            growth.append(pool.submit(peak_growth, name, library, n, d, n_classes).result())
    return [name, n_classes, *growth]


def page(arguments, d, rows, memories):
    """The section's text."""
    head_of_times = ["detector", "classes", "pytorch-ood, s", "ours, s", "ratio", "difference"]
    notes = "\n".join(f"- {name}: {note}." for name, note in NOTES.items() if note)
    size = 4 * arguments.rows * d / 2**20
    return f"""{machine("pytorch-ood", "numpy", "scikit-learn")}. Features of {arguments.run},
widened to {d} dimensions; more classes than its own are made by splitting each, fewer by joining
some. The detectors are fitted on {arguments.known:,} rows.

Seconds to score {arguments.rows:,} rows, {arguments.repeats} times in turns: median
(least–greatest). *difference*: the largest of {SOME:,} scores, in their standard deviations; for
Mahalanobis (once both are on one scale) and ViM with the peer in float64.

{as_table(head_of_times, rows)}

{notes}

Growth of a fresh process's peak memory while it scores as many rows of noise; their features
themselves take {size:.0f} MB:

{as_table(["detector", "classes", "pytorch-ood, MB", "ours, MB"], memories)}"""


def main(argv=None):
    parser = new_parser(__doc__, repeats=2)
    parser.add_argument("--run", default=RUN)
    parser.add_argument("--rows", type=int, default=50_000, help="that are scored")
    parser.add_argument("--known", type=int, default=10_000, help="rows that detectors learn from")
    parser.add_argument("--dimensions", type=int, default=342)
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000])
    arguments = start(parser, argv)
    run, d = load_run(arguments.run), arguments.dimensions
    parts = [run.features(split) for split in ("train", "validation")]
    whole = FeatureSet(
        *(
            np.concatenate([getattr(part, name) for part in parts])[: arguments.rows]
            for name in ("features", "logits", "labels")
        )
    )
    arguments.rows = len(whole)
    rows, memories, lines = [], [], []
    for n_classes in arguments.classes:
        batch = labelled_by(n_classes, whole, d)
        for name in DETECTORS:
            if name in ONCE and n_classes != arguments.classes[0]:
                continue
            row, both = compare(name, batch[: arguments.known], batch, arguments.repeats)
            *_, theirs, own = grown = memory(name, arguments.rows, d, n_classes)
            limit = "" if own is None else f"peak memory {own:.0f} MB, its {theirs:.0f} MB"
            limit = "; ".join(filter(None, [limit, NOTES[name]]))
            what = f"{name}, {arguments.rows:,} × {d}, {n_classes} classes"
            lines.append(headline(what, named("pytorch-ood"), *both, limit=limit))
            rows.append(row)
            memories.append(grown)
            print(row, grown, flush=True)
    write_section("detectors", "Detectors", page(arguments, d, rows, memories), lines)


if __name__ == "__main__":
    main()
