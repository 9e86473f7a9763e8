"""What all benchmarks share: turns, medians with their spread, tables, the machine's name."""

import argparse
import gc
import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest import mock

import torch
from threadpoolctl import threadpool_info, threadpool_limits

__all__ = [
    "as_table",
    "busy_neighbours",
    "copy_rate",
    "gemm_rate",
    "host",
    "in_turns",
    "limit_threads",
    "machine",
    "new_parser",
    "pairwise",
    "peak_memory",
    "ratio",
    "spread",
    "start",
    "ticks",
    "timed",
]

RUN = "cifar100/densenet_bc_100_12/seed0"  # a published run

_threads = 2


def new_parser(doc, *, repeats=5):
    """An argument parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="of which the median counts")
    parser.add_argument("--threads", type=int, default=2, help="of torch, NumPy and scikit-learn")
    return parser


def start(parser, argv):
    """Read the arguments and give all libraries the same number of threads."""
    arguments = parser.parse_args(argv)
    limit_threads(arguments.threads)
    return arguments


def limit_threads(threads=None):
    """Give all libraries that many threads; by default as many as the last time."""
    global _threads
    _threads = threads or _threads
    threadpool_limits(_threads)
    torch.set_num_threads(_threads)


def timed(action):
    """Seconds that ``action()`` takes, and what it returns."""
    gc.collect()  # what was left behind before is not this action's work
    started = perf_counter()
    result = action()
    return perf_counter() - started, result


def in_turns(actions, repeats):
    """Run actions one after the other, again and again, so that a slow minute hits all of them.

    Args:
        actions: dict of name → function without arguments.
        repeats: rounds.

    Returns:
        dict of name → list of seconds, and dict of name → what the last call returned.
    """
    seconds, results = {name: [] for name in actions}, {}
    for _ in range(repeats):
        for name, action in actions.items():
            time, results[name] = timed(action)
            seconds[name].append(time)
    return seconds, results


@contextmanager
def busy_neighbours(number):
    """So many processes that multiply matrices on one thread each, meanwhile."""
    work = "import numpy as np; a = np.random.rand(500, 500)\nwhile True: a @ a"
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, "-c", work]
    neighbours = [subprocess.Popen(command, env=environment) for _ in range(number)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


@contextmanager
def ticks(owner, name):
    """The times at which each call of ``owner.name`` returned, as a list that grows."""
    found, plain = [], getattr(owner, name)

    def ticking(*args, **kwargs):
        result = plain(*args, **kwargs)
        found.append(perf_counter())
        return result

    with mock.patch.object(owner, name, ticking):
        yield found


def spread(values, digits=3):
    """Median of the values, and between which two they lie: "1.23 (1.2–1.31)"."""
    middle, least, most = (f"{f(values):.{digits}g}" for f in (median, min, max))
    return f"{middle} ({least}–{most})"


def pairwise(theirs, ours):
    """How many times as long theirs took, pair by pair."""
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def ratio(theirs, ours):
    """How many times as long theirs took, pair by pair, as :func:`spread` writes it."""
    return spread(pairwise(theirs, ours))


def gemm_rate(rows, inner, columns, *, repeats=25):
    """Floating-point operations a second of a float32 product (rows, inner) @ (inner, columns).

    By torch's matrix product or by oneDNN's layer, whichever is faster on this machine.
    """
    a, b = torch.rand(rows, inner), torch.rand(inner, columns)
    ways = [lambda: a @ b]
    if torch.backends.mkldnn.is_available():
        x, weight = a.to_mkldnn(), b.T.contiguous().to_mkldnn()
        ways.append(lambda: torch.nn.functional.linear(x, weight))
    seconds = []
    for way in ways:
        way()  # the first product starts the threads
        seconds.append(median(timed(way)[0] for _ in range(repeats)))
    return 2 * rows * inner * columns / min(seconds)


def copy_rate(megabytes=256, *, repeats=5):
    """Bytes a second that a copy from memory to memory reads and writes, both counted."""
    a = torch.ones(megabytes * 2**18)
    b = torch.empty_like(a)
    b.copy_(a)  # the pages of b exist from now on
    return 2 * a.nbytes / median(timed(lambda: b.copy_(a))[0] for _ in range(repeats))


def peak_memory(*, anew=False):
    """Greatest resident memory of this process, MB; None where nothing tells it.

    Args:
        anew: count from now on.
    """
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def host():
    """Processor, cores, threads in use, and the kernel of NumPy's matrix products if it says so."""
    threads = f"{_threads} thread{'s' if _threads > 1 else ''}"
    parts = [_processor(), f"{os.cpu_count()} cores", threads]
    kernels = {pool.get("architecture") for pool in threadpool_info() if pool["user_api"] == "blas"}
    parts += [f"OpenBLAS kernel {kernel}" for kernel in sorted(filter(None, kernels))]
    return ", ".join(parts)


def machine(*packages):
    """One line: the :func:`host`, versions of Python, torch and the packages."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", *packages)]
    return ", ".join([host(), f"Python {platform.python_version()}", *versions])


def as_table(head, rows):
    """A Markdown table; floats with three digits, and a dash for None."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value):
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor():
    """The processor's name, or at least its kind."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
