"""EM on Dask workers: a model of its time, checked against one and two workers, then extrapolated.

    python -m benchmarks.scaling [--rows 40000] [--dimensions 342] [--components 1000]

Writes benchmarks/scaling.md. Every worker computes with one thread, so that two of them on two
cores are what two machines with one core would be, but for the network.
"""

import argparse
import platform
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import dask.array as da
import numpy as np
import torch
from dask.distributed import Client, LocalCluster, wait
from sklearn.exceptions import ConvergenceWarning

from mistakes_lib import DiagonalGMM

PAGE = Path(__file__).parent / "scaling.md"
NETWORK = 1.25e9  # bytes a second: 10 Gbit/s
IMAGENET = {"n": 1_281_167, "d": 2048, "k": 1000}


def clusters(n, d, k, rng):
    """Rows around 2 K centres in d dimensions, float32."""
    centres = rng.normal(size=(2 * k, d)).astype(np.float32)
    rows = centres[rng.integers(2 * k, size=n)]
    rows += 0.7 * rng.standard_normal(size=rows.shape, dtype=np.float32)
    return rows


def iteration_seconds(fit, repeats):
    """Median seconds of an EM iteration: three more of them, less the time that one takes."""
    times = []
    for _ in range(repeats):
        seconds = []
        for max_iter in (1, 4):
            started = perf_counter()
            fit(max_iter)
            seconds.append(perf_counter() - started)
        times.append((seconds[1] - seconds[0]) / 3)
    return median(times)


def fit_on(X, k, start, max_iter):
    given = {f"{name}_init": value for name, value in start.items()}
    DiagonalGMM(k, max_iter=max_iter, tol=0, device="cpu", **given).fit(X)


def measure(rows, k, start, workers, repeats):
    """Seconds of an iteration on that many worker processes of one thread each."""
    own = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with own as cluster, Client(cluster) as client:
        client.run(torch.set_num_threads, 1)
        X = client.persist(da.from_array(rows, (len(rows) // (4 * workers), rows.shape[1])))
        wait(X)
        return iteration_seconds(partial(fit_on, X, k, start), repeats)


def moved(d, k):
    """Bytes that a worker is sent and sends back in one iteration: mixture, then statistics."""
    return 8 * (k + 2 * k * d), 8 * (1 + k + 2 * k * d)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--dimensions", type=int, default=342)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    n, d, k = arguments.rows, arguments.dimensions, arguments.components
    rows = clusters(n, d, k, np.random.default_rng(0))
    some = DiagonalGMM(k, max_iter=2, tol=0, random_state=0, device="cpu").fit(rows)
    start = {name: getattr(some, f"{name}_") for name in ("weights", "means", "precisions")}

    torch.set_num_threads(1)
    alone = iteration_seconds(partial(fit_on, rows, k, start), arguments.repeats)
    per_term = alone / (n * d * k)  # seconds of one thread
    measured = {w: measure(rows, k, start, w, arguments.repeats) for w in (1, 2)}
    # What Dask and the moving of sums cost beside the rows' own work, from one worker alone.
    overhead = max(0.0, measured[1] - alone)
    predicted = {w: alone / w + overhead for w in measured}
    lines = [
        f"| {w} | {predicted[w]:.2f} | {measured[w]:.2f} | {measured[w] / predicted[w] - 1:+.0%} |"
        for w in measured
    ]
    sent, returned = moved(IMAGENET["d"], IMAGENET["k"])
    scale = overhead * (sent + returned) / sum(moved(d, k))
    work = per_term * IMAGENET["n"] * IMAGENET["d"] * IMAGENET["k"]
    far = [
        f"| {w} | {work / w:.1f} | {scale:.2f} | {w * (sent + returned) / NETWORK:.2f} | "
        f"{work / w + scale + w * (sent + returned) / NETWORK:.1f} |"
        for w in (1, 8, 64)
    ]
    size = f"{IMAGENET['n']:,} × {IMAGENET['d']}, K = {IMAGENET['k']:,}"
    text = f"""# EM on a cluster

`python -m benchmarks.scaling` writes this page. {platform.machine()}, torch {torch.__version__},
one thread a worker.

An iteration is a map-reduce: each worker is sent the mixture, 8 (K + 2 K d) bytes, sums the
statistics of its own rows, and sends back 8 (1 + K + 2 K d) bytes. The model: the rows' work,
{per_term * 1e9:.4f} ns for each row, dimension and component, divided by the workers; plus what
Dask and the moving of sums cost, {overhead:.2f} s here, taken from the run with one worker. The run
with two checks it.

## Checked: {n:,} × {d}, K = {k:,}

In memory, without Dask: {alone:.2f} s an iteration.

| workers | predicted, s | measured, s | off by |
|---|---|---|---|
{chr(10).join(lines)}

## On paper: ImageNet's training features, {size}

Each worker of one thread is sent {sent / 1e6:.0f} MB and returns {returned / 1e6:.0f} MB an
iteration. Moving them one after another over 10 Gbit/s is the worst case: the tree of sums moves
many at once.

| workers | rows' work, s | Dask, s | network at worst, s | an iteration, s |
|---|---|---|---|---|
{chr(10).join(far)}
"""
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
