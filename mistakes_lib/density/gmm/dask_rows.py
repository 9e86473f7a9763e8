"""The rows of a Dask array: each worker sums the statistics of its own, and only sums travel."""

from functools import partial

import dask
import numpy as np
import torch

from mistakes_lib.density.gmm.em import Statistics
from mistakes_lib.density.gmm.rows import ArrayRows
from mistakes_lib.support.checks import as_matrix
from mistakes_lib.support.devices import resolve_device

__all__ = ["DaskRows"]

FAN_IN = 8  # statistics that one task adds: a tree, so that no worker holds all of them


class DaskRows:
    """The rows of a Dask array, as :class:`~mistakes_lib.density.gmm.rows.ArrayRows`.

    A worker that dies takes nothing with it: Dask computes its blocks again elsewhere. Persist the
    array (``X.persist()``) if reading it takes long, since each iteration of EM reads it once.

    Args:
        X: Dask array (n, d) of float32 or float64.
        block_rows_of: d → rows of the blocks that a worker works on at a time.
        device: name of the workers' device, "auto", "cpu", "cuda", …

    Raises:
        ValueError: X is no matrix of finite numbers.
    """

    def __init__(self, X, block_rows_of, device):
        X = X.to_dask_array(lengths=True) if hasattr(X, "to_dask_array") else X  # a data frame
        if X.ndim != 2:
            raise ValueError(f"X must have shape (n, d), got {X.ndim} dimensions")
        if np.isnan(X.shape[0]):  # chunks of unknown sizes, as after a filter
            X = X.compute_chunk_sizes()
        self.X, self.device_name = X.rechunk({1: -1}), device
        self.device = torch.device("cpu")  # of what travels
        self.d, self.block_rows = X.shape[1], block_rows_of(X.shape[1])
        self.chunks = self.X.to_delayed().ravel()
        measured = dask.compute(*(dask.delayed(_measure)(chunk) for chunk in self.chunks))
        # A filter may have emptied some.
        self.chunks = [c for c, (n, _) in zip(self.chunks, measured, strict=True) if n]
        self.n = sum(n for n, _ in measured)
        self.centre = sum(total for _, total in measured) / self.n

    def take(self, numbers):
        order = np.argsort(numbers)
        rows = np.empty((len(numbers), self.d))
        rows[order] = self.X[np.asarray(numbers)[order]].compute()
        return torch.from_numpy(rows - self.centre)

    def sum(self, make_statistics_of):
        work = partial(_statistics, block_rows=self.block_rows)
        # The mixture is sent as it lies in memory, without a hash of its content, and what follows
        # from it is computed once on each worker, not for each chunk.
        given = dask.delayed(make_statistics_of, pure=False, traverse=False)
        shared = dask.delayed(_prepare, pure=False)(given, self.centre, self.device_name)
        parts = [dask.delayed(work, pure=False)(chunk, shared) for chunk in self.chunks]
        while len(parts) > 1:
            groups = (parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN))
            parts = [dask.delayed(_total, pure=False)(group) for group in groups]
        return Statistics.unpacked(parts[0].compute(optimize_graph=False), self.d)

    def __iter__(self):
        for chunk in self.chunks:
            yield from ArrayRows(chunk.compute(), self.block_rows, self.device, self.centre)


def _measure(chunk):
    """Number of rows and their sum (d,), once they are known to be finite."""
    if not len(chunk):
        return 0, np.zeros(chunk.shape[1])
    rows = as_matrix(chunk, "a chunk of X", dtype=None)
    return len(rows), rows.sum(axis=0, dtype=np.float64)


def _prepare(make_statistics_of, centre, device):
    device = resolve_device(device)
    return make_statistics_of(device), centre, device


def _statistics(chunk, shared, *, block_rows):
    """The packed statistics of a chunk: one array, which travels as it lies in memory."""
    statistics_of, centre, device = shared
    rows = ArrayRows(np.asarray(chunk), block_rows, device, centre)
    return rows.sum(lambda device: statistics_of).packed()


def _total(parts):
    """The sum of packed statistics, which stay as they are."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total
