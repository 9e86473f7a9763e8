"""Fitting and scoring a diagonal Gaussian mixture: ours against scikit-learn's, in one run.

    python -m benchmarks.gmm [--run NAME] [--components 100 1000] [--dimensions 132 342 640]

Both start from the same mixture and take the same number of EM iterations, in turns; scikit-learn
in float64. The features are the training features of a published run, widened where more dimensions
are asked for than it has: by tanh of random projections, with noise. torchgmm and pomegranate are
compared where they are installed. Writes its tables to benchmarks/results.md.
"""

import argparse
import importlib.util
import platform
import warnings
from statistics import median
from time import perf_counter

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from benchmarks.results import write_section
from mistakes_lib import DiagonalGMM, load_run


def widened(features, d, rng):
    """Features with d columns: their own, and tanh of random projections of them with noise."""
    more = d - features.shape[1]
    if more <= 0:
        return features[:, :d]
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    projected = z @ rng.normal(size=(z.shape[1], more)) / np.sqrt(z.shape[1])
    noise = rng.normal(scale=0.03, size=projected.shape)
    return np.hstack([features, 0.2 * np.tanh(0.5 * projected) + noise])


def seconds(action):
    started = perf_counter()
    action()
    return perf_counter() - started


def ours(start, max_iter):
    given = {f"{name}_init": value for name, value in start.items()}
    return DiagonalGMM(len(start["weights"]), max_iter=max_iter, tol=0, **given)


def sklearns(start, max_iter):
    given = {f"{name}_init": value for name, value in start.items()}
    return GaussianMixture(
        len(start["weights"]),
        covariance_type="diag",
        max_iter=max_iter,
        tol=0,
        init_params="random_from_data",
        **given,
    )


def torchgmms(start, max_iter):
    """torchgmm's fit cannot start from a given mixture: it begins at random rows."""
    from torchgmm.bayes import GaussianMixture as TorchGMM

    return TorchGMM(
        len(start["weights"]),
        covariance_type="diag",
        init_strategy="random",
        trainer_params={"max_epochs": max_iter, "enable_progress_bar": False, "logger": False},
    )


def pomegranates(start, max_iter):
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    parts = [
        Normal(torch.tensor(mean), torch.tensor(1 / precision), covariance_type="diag")
        for mean, precision in zip(start["means"], start["precisions"], strict=True)
    ]
    return GeneralMixtureModel(parts, priors=torch.tensor(start["weights"]), max_iter=max_iter)


PEERS = {"scikit-learn": sklearns}
if importlib.util.find_spec("torchgmm"):
    PEERS["torchgmm"] = torchgmms
if importlib.util.find_spec("pomegranate"):
    PEERS["pomegranate"] = pomegranates


def iteration_seconds(make, start, X, repeats):
    """Median seconds of an EM iteration: three more of them, less the time that one takes."""
    times = []
    for _ in range(repeats):
        short, long = (seconds(lambda m=m: make(start, m).fit(X)) for m in (1, 4))
        times.append((long - short) / 3)
    return median(times)


def gemm_rate(rows, k, d, dtype):
    """Floating-point operations a second of the E-step's matrix product."""
    a, b = torch.rand(rows, 2 * d, dtype=dtype), torch.rand(2 * d, k, dtype=dtype)
    a @ b
    return 4 * rows * d * k / median(seconds(lambda: a @ b) for _ in range(5))


def compare(X, k, repeats):
    """One row of the table for each peer, and what the roofline says of ours."""
    start_of = DiagonalGMM(k, max_iter=3, tol=0, random_state=0).fit(X)
    start = {name: getattr(start_of, f"{name}_") for name in ("weights", "means", "precisions")}
    own = iteration_seconds(ours, start, X, repeats)
    own_score = median(seconds(lambda: start_of.score_samples(X)) for _ in range(repeats))
    rows = []
    for name, make in PEERS.items():
        theirs = iteration_seconds(make, start, X, repeats)
        row = [X.shape[1], k, name, theirs, own, theirs / own]
        if name == "scikit-learn":
            two, reference = ours(start, 2).fit(X), sklearns(start, 2).fit(X)
            score = median(seconds(lambda r=reference: r.score_samples(X)) for _ in range(repeats))
            gap = abs(two.score(X) - reference.score(X)) / X.shape[1]
            row += [score / own_score, gap]
        rows.append(row)
    floating = 4 * X.shape[0] * X.shape[1] * k  # of the one product that remains
    bound = floating / gemm_rate(4096, k, X.shape[1], torch.float32)
    return rows, (X.shape[1], k, bound, own, bound / own)


def whole_fit(X, k):
    """Seconds of a fit from its own start to convergence, ours and scikit-learn's."""
    own = DiagonalGMM(k, random_state=0)
    peer = GaussianMixture(k, covariance_type="diag", init_params="k-means++", random_state=0)
    times = [seconds(lambda e=e: e.fit(X)) for e in (own, peer)]
    bounds = [e.score(X) / X.shape[1] for e in (own, peer)]
    return [X.shape[1], k, *times, times[1] / times[0], own.n_iter_, peer.n_iter_, *bounds]


def as_table(head, rows):
    def cell(value):
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [cell(value) for value in row] + ["–"] * (len(head) - len(row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="cifar10/densenet_bc_40_12/seed0")
    parser.add_argument("--components", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[132, 342, 640])
    parser.add_argument("--repeats", type=int, default=5, help="of which the median counts")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    features = load_run(arguments.run).features("train").features.astype(np.float64)
    iterations, roofline, fits = [], [], []
    for d in arguments.dimensions:
        X = widened(features, d, np.random.default_rng(0))
        for k in arguments.components:
            rows, line = compare(X, k, arguments.repeats)
            iterations += rows
            roofline.append(line)
            fits.append(whole_fit(X, k))
            print(*rows, line, fits[-1], sep="\n", flush=True)
    hardware = f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
    head = ["d", "K", "peer", "peer, s", "ours, s", "peer / ours", "score: peer / ours", "gap"]
    bound = ["d", "K", "GEMM alone, s", "iteration, s", "share"]
    fit = ["d", "K", "ours, s", "scikit-learn, s", "ratio", "iterations", "its", "nats/dim", "its"]
    text = f"""{hardware}; {len(features):,} training features of {arguments.run}, widened beyond
{features.shape[1]} dimensions; medians of {arguments.repeats}.

An EM iteration from the same start, and `score_samples`. *gap*: difference of the mean
log-likelihoods per dimension after two iterations, nats.

{as_table(head, iterations)}

The roofline: one float32 product [x, x²] W of 4 n d K operations remains of EM's two, at the rate
measured for it.

{as_table(bound, roofline)}

A whole fit, each from its own k-means++ start to its own convergence:

{as_table(fit, fits)}"""
    write_section("gmm", "Gaussian mixture: seconds of EM and of scoring", text)


if __name__ == "__main__":
    main()
