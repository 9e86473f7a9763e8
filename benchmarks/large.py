"""Nearest neighbors and ViM on the training features of ImageNet, from a subset of as many columns.

    python -m benchmarks.large [--rows 5000 10000 20000] [--dimensions 2048] [--classes 1000]

A line through the seconds at the first two sizes predicts those at the third, which checks it, and
at ImageNet's size. Memory is the growth of a fresh process's peak beside the features: it is to
be bounded by a block of rows, the same at each size.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import numpy as np

from benchmarks.measuring import (
    as_table,
    limit_threads,
    machine,
    new_parser,
    peak_memory,
    spread,
    start,
    timed,
)
from benchmarks.results import headline, write_section
from mistakes_lib import FeatureSet, NearestNeighbors, ViM

IMAGENET = 1_281_167  # training images
WHOLE_TEST = 50_000  # its validation images


def features_of(n, d, n_classes):
    """A FeatureSet of n rows around a centre for each class, and logits affine in the features."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((n_classes, d), dtype=np.float32)
    features = rng.standard_normal((n, d), dtype=np.float32)
    labels = np.arange(n) % n_classes
    for row, label in zip(features, labels, strict=True):
        row += centres[label]
    return FeatureSet(features, features @ centres.T / np.float32(d), labels)


def fit_vim(train, _):
    ViM().fit(train)


def score_neighbors(train, batch):
    NearestNeighbors(k=min(1000, len(train))).fit(train).score_samples(batch)


ACTIONS = {"ViM, fit": fit_vim, "nearest neighbors of some rows": score_neighbors}


def measure(name, n, d, n_classes, scored, repeats, threads):
    """Seconds of each repeat, and MB by which the first raises the peak (None where untold).

    To be called in a fresh process.
    """
    limit_threads(threads)
    train = features_of(n, d, n_classes)
    batch = train[:scored]
    before = peak_memory(anew=True)
    first, _ = timed(lambda: ACTIONS[name](train, batch))
    growth = None if before is None else peak_memory() - before
    more = [timed(lambda: ACTIONS[name](train, batch))[0] for _ in range(repeats - 1)]
    return [first, *more], growth


def line(sizes, seconds):
    """Intercept and slope of the line through two points (rows, seconds)."""
    slope = (seconds[1] - seconds[0]) / (sizes[1] - sizes[0])
    return seconds[0] - slope * sizes[0], slope


def rows_of(name, sizes, found):
    """Rows of the table, and the predicted hours at ImageNet's size; ``found``: seconds, MB."""
    middle = [median(seconds) for seconds, _ in found]
    intercept, slope = line(sizes, middle)
    rows = []
    for n, (seconds, growth) in zip(sizes, found, strict=True):
        predicted = intercept + slope * n
        off = f"{median(seconds) / predicted - 1:+.0%}" if n == sizes[2] else None
        rows.append([name, n, spread(seconds), predicted, off, growth])
    rows.append([name, IMAGENET, None, intercept + slope * IMAGENET, None, None])
    return rows


def summary_of(what, rows):
    """The headline of one of the actions, which has no peer; ``rows`` of the table."""
    *_, (_, _, _, _, off, growth), (_, _, _, seconds, _, _) = rows
    limit = f"predicted: {seconds / 60:.3g} minutes; a third size was off by {off}"
    if growth is not None:
        limit += f"; memory beside the features: {growth:.0f} MB"
    return headline(what, None, [], [], limit=limit)


def page(arguments, rows):
    """The section's text."""
    search = rows[-1][3] * WHOLE_TEST / arguments.scored / 3600
    d = arguments.dimensions
    head = ["what", "training rows", "measured, s", "predicted, s", "off by", "peak growth, MB"]
    return f"""{machine("scikit-learn", "numpy")}. Features of {d} columns around
{arguments.classes:,} centres; a row of them takes {4 * d / 1024:.0f} kB. ViM learns from all rows;
the nearest neighbors of {arguments.scored:,} rows, k = 1000, are searched among them. Medians of
{arguments.repeats} (least–greatest), each size in a fresh process.

{as_table(head, rows)}

To score ImageNet's {WHOLE_TEST:,} validation images against all training images would take
{search:.1f} hours. The search is exact; an index of approximate neighbors
would be another dependency and another score. `mistakes report` searches among 50,000 training
images drawn at random instead: the authors of the score find that a hundredth of ImageNet is enough
(Sun et al. 2022, https://arxiv.org/abs/2204.06507)."""


def main(argv=None):
    parser = new_parser(__doc__, repeats=2)
    parser.add_argument("--rows", type=int, nargs=3, default=[5000, 10_000, 20_000])
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument(
        "--scored", type=int, default=1000, help="rows whose neighbors are searched"
    )
    arguments = start(parser, argv)
    forks, rows, lines = get_context("forkserver"), [], []
    forks.set_forkserver_preload(["sklearn.neighbors", "torch"])
    for name in ACTIONS:
        found = []
        for n in arguments.rows:
            with ProcessPoolExecutor(1, mp_context=forks) as pool:
                size = n, arguments.dimensions, arguments.classes, arguments.scored
                task = pool.submit(measure, name, *size, arguments.repeats, arguments.threads)
                found.append(task.result())
            print(name, n, *found[-1], flush=True)
        rows += rows_of(name, arguments.rows, found)
        what = f"{name.replace('some', format(arguments.scored, ','))}, {IMAGENET:,} × "
        lines.append(summary_of(f"{what}{arguments.dimensions} to learn from", rows))
    title = "Nearest neighbors and ViM on ImageNet's size"
    write_section("large", title, page(arguments, rows), lines)


if __name__ == "__main__":
    main()
