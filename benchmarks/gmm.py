"""Fitting and scoring a diagonal Gaussian mixture: ours against its peers, in one run.

    python -m benchmarks.gmm [--components 100 1000] [--dimensions 342] [--whole 342]

All start from the same mixture and take the same number of EM iterations, in turns; each iteration
is timed by itself, from the end of one M-step to the end of the next. scikit-learn computes in
float64, the others in their own float32. Three kinds of features (see benchmarks/kinds.py) are
measured: tanh and ReLU features of published runs, and synthetic ones. torchgmm and pomegranate
are compared where they can be imported, on fewer rows (ours on the same ones), since they are slow.
Writes its tables to benchmarks/results.md.
"""

import importlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from benchmarks.headlines import mixture_headlines
from benchmarks.kinds import KINDS, random_start
from benchmarks.measuring import (
    as_table,
    busy_neighbours,
    gemm_rate,
    in_turns,
    limit_threads,
    machine,
    new_parser,
    ratio,
    spread,
    start,
    ticks,
    timed,
)
from benchmarks.results import write_section
from mistakes_lib import DiagonalGMM

PARTS = ("weights", "means", "precisions")
NEIGHBOURS = 2  # processes that keep the cores busy meanwhile
ROUNDS, ITERATIONS = 2, 4  # of each fit the first iteration, which warms up, does not count
BLOCK = 4096  # rows of the product whose rate is measured; about what our E-step has at a time


@dataclass(frozen=True)
class Library:
    """How a library fits a mixture, and where it passes once in each EM iteration.

    Attributes:
        make: (mixture to start from, iterations) → estimator with ``fit``.
        step: () → (owner, name) of the function that ends an iteration.
        steps: calls of that function in one iteration.
        rows_as: array → what ``fit`` takes.
        share: of the rows on which it is measured, one in so many.
        largest: number of components up to which it is measured.
        note: what the reader has to know of the comparison.
    """

    make: Callable
    step: Callable
    steps: int = 1
    rows_as: Callable = np.asarray
    share: int = 1
    largest: int = 10**9
    note: str = ""


def ours(mixture, iterations):
    given = {f"{name}_init": value for name, value in mixture.items()}
    return DiagonalGMM(len(mixture["weights"]), max_iter=iterations, tol=0, device="cpu", **given)


def sklearns(mixture, iterations):
    given = {f"{name}_init": value for name, value in mixture.items()}
    return GaussianMixture(
        len(mixture["weights"]),
        covariance_type="diag",
        max_iter=iterations,
        tol=0,
        init_params="random_from_data",  # cheap, and replaced by what is given
        **given,
    )


def torchgmms(mixture, iterations, accelerator="cpu"):
    """torchgmm takes the means alone: its first weights and variances are of the nearest rows."""
    from torchgmm.bayes import GaussianMixture as TorchGMM

    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    return TorchGMM(
        len(mixture["weights"]),
        covariance_type="diag",
        init_means=torch.tensor(mixture["means"], dtype=torch.float32),
        convergence_tolerance=0,
        trainer_params={"max_epochs": iterations, "accelerator": accelerator} | quiet,
    )


def pomegranates(mixture, iterations):
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    parts = {name: torch.tensor(value, dtype=torch.float32) for name, value in mixture.items()}
    components = [
        Normal(mean, 1 / precision, covariance_type="diag", inertia=1.0)
        for mean, precision in zip(parts["means"], parts["precisions"], strict=True)
    ]
    return GeneralMixtureModel(
        components, priors=parts["weights"], max_iter=iterations, tol=-np.inf, inertia=1.0
    )


def attribute(module, owner, name):
    """(owner, name) of a class in a module that is imported only when it is asked for."""
    return lambda: (getattr(importlib.import_module(module), owner), name)


def float32(X):
    return torch.tensor(X, dtype=torch.float32)


OURS = Library(ours, lambda: (importlib.import_module("mistakes_lib.density.gmm.gmm"), "maximise"))
PEERS = {
    "scikit-learn": Library(
        sklearns, attribute("sklearn.mixture._gaussian_mixture", "GaussianMixture", "_m_step")
    ),
    "torchgmm": Library(
        torchgmms,
        attribute(
            "torchgmm.bayes.gmm.lightning_module",
            "GaussianMixtureLightningModule",
            "nonparametric_training_epoch_end",
        ),
        steps=2,
        rows_as=float32,
        share=5,
        note="it takes the means of the start alone, and passes twice over the rows an iteration",
    ),
    "pomegranate": Library(
        pomegranates,
        attribute("pomegranate.gmm", "GeneralMixtureModel", "from_summaries"),
        rows_as=float32,
        share=20,
        largest=100,
        note="it has no floor for variances, so it does an iteration's work, but keeps the start "
        "(inertia 1); it goes through the components one by one",
    ),
}


def parts_of(estimator):
    """Weights, means and precisions of a fitted mixture."""
    return {name: getattr(estimator, f"{name}_") for name in PARTS}


def iteration_seconds(library, mixture, rows):
    """Seconds of each EM iteration but the first, and the fitted estimator."""
    estimator = library.make(mixture, ITERATIONS)
    with ticks(*library.step()) as times:
        estimator.fit(rows)
    ends = times[library.steps - 1 :: library.steps]
    return [float(seconds) for seconds in np.diff(ends)], estimator


def compare(name, X, mixture):
    """Seconds of the peer's iterations and of ours on the same rows, in turns, and both fits."""
    peer, theirs, own = PEERS[name], [], []
    X = X[:: peer.share]
    rows = peer.rows_as(X)
    for _ in range(ROUNDS):
        limit_threads()  # some peers change their number
        seconds, mine = iteration_seconds(OURS, mixture, X)
        own += seconds
        seconds, other = iteration_seconds(peer, mixture, rows)
        theirs += seconds
    return theirs, own, mine, other


def score(mine, other, X, repeats):
    """Seconds of ``score_samples``, ours and scikit-learn's, and the largest difference."""
    actions = {"ours": mine, "scikit-learn": other}
    seconds, scores = in_turns(
        {name: (lambda e=estimator: e.score_samples(X)) for name, estimator in actions.items()},
        repeats,
    )
    difference = np.abs(scores["ours"] - scores["scikit-learn"]).max() / X.shape[1]
    return seconds, float(difference)


def peer_rows(X, k, mixture, kind=""):
    """Rows of the table for the peers other than scikit-learn, a remark on each of these, and its
    and our seconds by its name."""
    rows, remarks, seconds = [], [], {}
    for name, peer in list(PEERS.items())[1:]:
        if k > peer.largest:
            continue
        try:
            theirs, own, _, _ = compare(name, X, mixture)
        except Exception as error:  # whatever a peer raises is what there is to say of it
            remarks.append(f"{name} was not compared: {type(error).__name__}: {error}")
            continue
        n, d = X[:: peer.share].shape
        remarks.append(f"{name}: {peer.note}")
        seconds[name] = theirs, own
        both = spread(theirs), spread(own)
        rows.append([kind, n, d, k, name, *both, ratio(theirs, own), None])
    return rows, remarks, seconds


def slowdown(X, k, mixture, quiet):
    """A row of the table of busy cores, and the seconds of both; ``quiet``: those without."""
    with busy_neighbours(NEIGHBOURS):
        busy = compare("scikit-learn", X, mixture)[:2]
    times = [median(b) / median(q) for b, q in zip(busy, quiet, strict=True)]
    return [k, *(spread(seconds) for seconds in busy), ratio(*busy), *times], busy


def roofline(X, k, own):
    """What matrix products of float32 alone would take, beside an iteration of ours."""
    n, d = X.shape
    product = 4 * n * d * k / gemm_rate(BLOCK, 2 * d, k)
    return [n, d, k, 2 * product, median(own), f"{2 * product / median(own):.0%}"]


def whole_fit(X, k, iteration, patience):
    """A fit from its own start to its own convergence, ours and scikit-learn's.

    Where scikit-learn's would take longer than ``patience`` seconds, it is put together from its
    parts: its start (a fit of no iterations), and one measured iteration times their number, which
    ours, which takes the same steps, needs from that start.
    """
    options = {"covariance_type": "diag", "init_params": "k-means++", "random_state": 0}
    seconds, own = timed(lambda: DiagonalGMM(k, device="cpu", random_state=0).fit(X))
    until_start, beginning = timed(lambda: GaussianMixture(k, max_iter=0, **options).fit(X))
    given = {f"{name}_init": value for name, value in parts_of(beginning).items()}
    given["weights_init"] /= given["weights_init"].sum()  # all equal, but scikit-learn's add to K/n
    same = DiagonalGMM(k, device="cpu", **given).fit(X)
    theirs, how = until_start + same.n_iter_ * iteration, "from its parts"
    if theirs < patience:
        whole, same = timed(lambda: GaussianMixture(k, **options).fit(X))
        theirs, how = whole, f"measured (from its parts: {theirs:.3g})"
    d = X.shape[1]
    bounds = [f"{e.lower_bound_ / d:.4f}" for e in (own, same)]
    counts = [own.n_iter_, same.n_iter_]
    return [d, k, seconds, theirs, how, theirs / seconds, *counts, *bounds]


def measure(kind, X, k, arguments):
    """Rows of the tables for one kind of features and number of components, remarks, and a dict of
    what was done → (the peer's seconds, ours)."""
    mixture = random_start(X, k)
    theirs, own, mine, other = compare("scikit-learn", X, mixture)
    gap = abs(mine.lower_bound_ - other.lower_bound_) / X.shape[1]
    about = [kind, *X.shape, k]
    line = [*about, "scikit-learn", spread(theirs), spread(own), ratio(theirs, own), gap]
    seconds, difference = score(mine, other, X, arguments.repeats)
    of_both = [seconds[name] for name in ("scikit-learn", "ours")]
    found = {"iteration": (theirs, own), "scoring": of_both}
    scores = [*about, *(spread(times) for times in of_both), ratio(*of_both), difference]
    # What differs little between kinds is measured on the first alone.
    more, remarks, busy, bound, fits = [], [], [], [], []
    if kind == arguments.kinds[0]:
        more, remarks, others = peer_rows(X, k, mixture, kind)
        found |= others
        row, found["busy"] = slowdown(X, k, mixture, (theirs, own))
        busy, bound = [row], [roofline(X, k, own)]
        if X.shape[1] in arguments.whole:
            fits = [whole_fit(X, k, median(theirs), arguments.patience)]
            found["fit"] = [fits[0][3]], [fits[0][2]]
    return ([line, *more], [scores], busy, bound, fits), remarks, found


def as_list(remarks):
    """Each remark once, as a Markdown list."""
    return "\n".join(f"- {remark}." for remark in dict.fromkeys(remarks))


def whole_section(fits, patience):
    """The text on whole fits, from the rows of their table."""
    head = ["d", "K", "ours, s", "scikit-learn, s", "how", "ratio", "its, ours", "its, peer"]
    head += ["ours, nats/dim", "peer, nats/dim"]
    return f"""
A whole fit, each once from its own k-means++ start to its own convergence. Five repeats of
scikit-learn's would take an hour, so that one of more than {patience:.0f} s is put
together from its parts: its start, and the number of iterations that it needs (ours take the same
steps from the same start) times its median iteration.

{as_table(head, fits)}
"""


def page(arguments, tables, remarks):
    """The section's text from the rows of its tables."""
    iterations, scores, busy, bound, fits = tables
    about = ["features", "rows", "d", "K"]
    head = [*about, "peer", "peer, s", "ours, s", "peer / ours", "gap, nats/dim"]
    score_head = [*about, "scikit-learn, s", "ours, s", "ratio", "difference, nats/dim"]
    busy_head = ["K", "scikit-learn, s", "ours, s", "ratio", "its slowdown", "our slowdown"]
    bound_head = ["rows", "d", "K", "both products, s", "our iteration, s", "products / ours"]
    whole = whole_section(fits, arguments.patience) if fits else ""
    kinds = "\n".join(f"- {kind}: {KINDS[kind][1]}" for kind in arguments.kinds)
    return f"""{machine("scikit-learn", "numpy")}.

{kinds}

All begin with K random rows as means, equal weights and the variances of the data. Seconds are
medians, with the least and the greatest in brackets; ratios are of pairs taken in turns.

An EM iteration, timed by itself: {ROUNDS} fits of {ITERATIONS} iterations of each, in turns; the
first of each fit does not count. *gap*: difference of the mean log-likelihoods after {ITERATIONS}
iterations. scikit-learn in float64, the others in float32; a peer with fewer rows stands beside
ours on those same rows.

{as_table(head, iterations)}

{as_list(remarks)}

`score_samples` of all rows, {arguments.repeats} times in turns:

{as_table(score_head, scores)}

The same iterations ({arguments.kinds[0]} features) while {NEIGHBOURS} other processes keep the
cores busy, and how many times as long they take as without them:

{as_table(busy_head, busy)}

Beside them the two float32 products [x, x²] W and Rᵀ [x, x²] of all rows with all components,
4 n d K operations each, at the rate measured for the first. Ours can be faster than these: some of
the features rule out most components, and responsibilities are nearly one-hot.

{as_table(bound_head, bound)}
{whole}"""


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rows", type=int, default=45_000, help="at most so many")
    parser.add_argument("--components", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[342])
    parser.add_argument("--whole", type=int, nargs="+", default=[342], help="d of whole fits")
    parser.add_argument("--patience", type=float, default=60, help="seconds for a peer's whole fit")
    arguments = start(parser, argv)
    tables, remarks, found = ([], [], [], [], []), [], {}
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    cases = [(kind, d) for kind in arguments.kinds for d in arguments.dimensions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few iterations do not converge is meant
        for kind, d in cases:
            X = KINDS[kind][0](arguments.rows, d, np.random.default_rng(0))
            for k in arguments.components:
                rows, missing, found[k, X.shape[1], kind] = measure(kind, X, k, arguments)
                for table, more in zip(tables, rows, strict=True):
                    table += more
                remarks += missing
                print(*rows, *missing, sep="\n", flush=True)
    text = page(arguments, tables, remarks)
    lines = mixture_headlines(found, tables[3], tables[2])
    write_section("gmm", "Gaussian mixture: seconds of EM and of scoring", text, lines)


if __name__ == "__main__":
    main()
