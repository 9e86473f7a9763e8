"""EM on Dask workers: a model of its time, checked against one and two workers, then extrapolated.

    python -m benchmarks.scaling [--rows 40000] [--dimensions 342] [--components 1000]

Writes benchmarks/scaling.md. Every worker computes with one thread, so that two of them on two
cores are what two machines with one core would be, but for the network.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from statistics import median

import dask.array as da
import numpy as np
import torch
from dask.distributed import Client, LocalCluster, wait
from sklearn.exceptions import ConvergenceWarning

from benchmarks.measuring import as_table, limit_threads, machine, new_parser, spread, start, ticks
from benchmarks.results import headline, pages_folder, write_section
from mistakes_lib import DiagonalGMM

NETWORK = 1.25e9  # bytes a second: 10 Gbit/s
IMAGENET = {"n": 1_281_167, "d": 2048, "k": 1000}
FAR = (1, 8, 64)  # workers of the extrapolation
BLOCKS = 4  # of each worker
MOST = 1.3  # times as long as in memory an iteration on two workers may take
PARTS = ("weights", "means", "precisions")


@dataclass(frozen=True)
class Measured:
    """Seconds of each EM iteration but the first, and bytes that workers sent in one."""

    seconds: list
    sent: float = 0.0


def clusters(n, d, k, rng):
    """Rows around 2 K centres in d dimensions, float32."""
    centres = rng.normal(size=(2 * k, d)).astype(np.float32)
    rows = centres[rng.integers(2 * k, size=n)]
    rows += 0.7 * rng.standard_normal(size=rows.shape, dtype=np.float32)
    return rows


def iteration_seconds(fit):
    """Seconds of each EM iteration of ``fit()`` but the first, from M-step to M-step."""
    with ticks(import_module("mistakes_lib.density.gmm.gmm"), "maximise") as times:
        fit()
    return [float(seconds) for seconds in np.diff(times)]


def fit(X, mixture, iterations):
    given = {f"{name}_init": value for name, value in mixture.items()}
    k = len(mixture["weights"])
    DiagonalGMM(k, max_iter=iterations, tol=0, device="cpu", **given).fit(X)


def sent_so_far(client):
    """Bytes that all workers have sent, to each other and to the client."""
    return sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())


def measure(rows, mixture, workers, iterations):
    """:class:`Measured` on that many worker processes of one thread each."""
    own = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with own as cluster, Client(cluster) as client:
        client.run(torch.set_num_threads, 1)
        chunks = (-(-len(rows) // (BLOCKS * workers)), rows.shape[1])
        X = client.persist(da.from_array(rows, chunks))
        wait(X)
        before = sent_so_far(client)
        seconds = iteration_seconds(partial(fit, X, mixture, iterations))
        return Measured(seconds, (sent_so_far(client) - before) / iterations)


def mixture_bytes(d, k):
    """Bytes of a mixture: weights, means and variances, float64."""
    return 8 * (k + 2 * k * d)


def statistics_bytes(d, k):
    """Bytes of one set of statistics: log-likelihood, counts and moments, float64."""
    return 8 * (1 + k + 2 * k * d)


@dataclass(frozen=True)
class Model:
    """What an iteration takes: the rows' work, Dask's own, and what moves.

    Attributes:
        per_term: seconds of one thread for a row, dimension and component.
        overhead: seconds for a byte of mixture and statistics that Dask handles.
        sets: sets of statistics that a worker sends.
    """

    per_term: float
    overhead: float
    sets: float

    def parts(self, n, d, k, workers):
        """Seconds of the rows' work and of Dask; bytes that move, of all workers."""
        work = self.per_term * n * d * k / workers
        handling = self.overhead * (mixture_bytes(d, k) + statistics_bytes(d, k))
        moved = workers * (mixture_bytes(d, k) + self.sets * statistics_bytes(d, k))
        return work, handling, moved


def model_of(alone, measured, n, d, k):
    """Work from a fit without Dask, overhead from one worker, sets of statistics from the most."""
    single = median(alone)
    overhead = max(0.0, median(measured[1].seconds) - single)
    most = max(measured)
    return Model(
        single / (n * d * k),
        overhead / (mixture_bytes(d, k) + statistics_bytes(d, k)),
        measured[most].sent / (most * statistics_bytes(d, k)),
    )


def checked(model, measured, n, d, k):
    """Rows of the table that sets the model beside the measured runs."""
    rows = []
    for workers, found in measured.items():
        work, handling, _ = model.parts(n, d, k, workers)
        off = median(found.seconds) / (work + handling) - 1
        sent = f"{found.sent / 1e6:.1f}"
        rows.append([workers, work + handling, spread(found.seconds), f"{off:+.0%}", sent])
    return rows


def far(model):
    """Rows of the table for ImageNet."""
    rows = []
    for workers in FAR:
        work, handling, moved = model.parts(**IMAGENET, workers=workers)
        network = moved / NETWORK
        whole = work + handling + network
        rows.append([workers, moved / 1e9, work, handling, network, whole])
    return rows


def measured_at(n, d, k, iterations):
    """Seconds of an iteration in memory on two threads and on one, and :class:`Measured` by the
    number of workers."""
    rows = clusters(n, d, k, np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        some = DiagonalGMM(k, max_iter=2, tol=0, random_state=0, device="cpu").fit(rows)
        mixture = {name: getattr(some, f"{name}_") for name in PARTS}
        in_memory = []
        for threads in (2, 1):
            limit_threads(threads)
            in_memory.append(iteration_seconds(partial(fit, rows, mixture, iterations)))
        return *in_memory, {w: measure(rows, mixture, w, iterations) for w in (1, 2)}


def page(model, together, alone, measured, other, n, d, k):
    size = f"{IMAGENET['n']:,} × {IMAGENET['d']}, K = {IMAGENET['k']:,}"
    sent, returned = (f(IMAGENET["d"], IMAGENET["k"]) for f in (mixture_bytes, statistics_bytes))
    head = ["workers", "predicted, s", "measured, s", "off by", "MB sent by workers"]
    far_head = ["workers", "GB moved", "rows' work, s", "Dask, s", "network at worst, s", "sum, s"]
    return f"""# EM on a cluster

`python -m benchmarks.scaling` writes this page. {machine("dask", "distributed")} for each worker.

An iteration is a map-reduce: each worker is sent the mixture, 8 (K + 2 K d) bytes, sums the
statistics of its own blocks of rows, and sends sets of statistics, 8 (1 + K + 2 K d) bytes each, up
a tree of sums. The model: the rows' work, {model.per_term * 1e9:.4f} ns for each row, dimension and
component on one thread (from a fit without Dask), divided by the workers; what Dask takes to handle
a mixture and its statistics, {model.overhead * 1e9:.2f} ns a byte (from the run with one worker);
and {model.sets:.2f} sets of statistics sent by each worker (from the run with the most workers, of
{BLOCKS} blocks each).

## Checked: {n:,} × {d}, K = {k:,}

In memory, without Dask: {spread(together)} s an iteration on two threads, {spread(alone)} s on one:
median (least–greatest) of {len(alone)}. The row of one worker is what the model was fitted to; that
of two tests it.

{as_table(head, checked(model, measured, n, d, k))}

## Checked at another size: {other["n"]:,} × {other["d"]}, K = {other["k"]:,}

The model is that of the first size. In memory: {spread(other["together"])} s on two threads,
{spread(other["alone"])} s on one.

{as_table(head, checked(model, other["measured"], other["n"], other["d"], other["k"]))}

## On paper: ImageNet's training features, {size}

A mixture has {sent / 1e6:.0f} MB, a set of statistics {returned / 1e6:.0f} MB; the features,
{4e-9 * IMAGENET["n"] * IMAGENET["d"]:.1f} GB of float32, stay where they are. The network is at its
worst here, everything one after another over 10 Gbit/s: the tree of sums moves many sets at once.

{as_table(far_head, far(model))}
"""


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--dimensions", type=int, default=342)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--other-rows", type=int, default=4000, help="of the second size")
    parser.add_argument("--other-dimensions", type=int, default=2048)
    arguments = start(parser, argv)
    before, iterations = arguments.threads, arguments.repeats + 1  # the first does not count
    n, d, k = arguments.rows, arguments.dimensions, arguments.components
    together, alone, measured = measured_at(n, d, k, iterations)
    other = {"n": arguments.other_rows, "d": arguments.other_dimensions, "k": k}
    found = measured_at(**other, iterations=iterations)
    other |= dict(zip(("together", "alone", "measured"), found, strict=True))
    model = model_of(alone, measured, n, d, k)
    text = page(model, together, alone, measured, other, n, d, k)
    limit_threads(before)
    path = pages_folder() / "scaling.md"
    path.write_text(text, encoding="utf-8")
    print(f"Written to {path}.")
    line = headline(
        f"EM iteration on two Dask workers, {n:,} × {d}, K = {k}",
        "ours in memory on two threads",
        together,
        measured[2].seconds,
        wanted=1 / MOST,
        limit=f"Dask takes {model.overhead * 1e9:.2g} ns a byte of mixture and statistics",
        reason="what Dask takes for each byte does not shrink with more workers",
    )
    text = f"""The model of its time, its check and ImageNet's size are on [a page of their own](
scaling.md). {machine("dask", "distributed")}."""
    write_section("scaling", "EM on a cluster", text, [line])


if __name__ == "__main__":
    main()
