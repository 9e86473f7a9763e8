"""Where the rows of a fit come from: one array, or blocks that are read one after another."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from mistakes_lib.density.gmm.em import sum_statistics
from mistakes_lib.support.checks import as_matrix
from mistakes_lib.support.threads import in_order

__all__ = ["ArrayRows", "BlockRows", "as_plain_rows", "come_in_blocks"]

PART_ROWS = 4096  # of a thread at a time: enough for one sum of the moments to be worth its while


class ArrayRows:
    """The rows of an array, in memory or mapped from a file; float64 about their mean, in blocks.

    Args:
        X: float32 or float64 (n, d).
        block_rows: rows of a block.
        device: torch.device of the blocks.
        centre: float64 (d,) that is subtracted; by default the mean of the rows.
    """

    def __init__(self, X, block_rows, device, centre=None):
        self.X, self.block_rows, self.device = X, block_rows, device
        self.n, self.d = X.shape
        self.centre = X.mean(axis=0, dtype=np.float64) if centre is None else centre

    def __iter__(self):
        """Yield the blocks, float64 tensors (b, d)."""
        for start in range(0, self.n, self.block_rows):
            yield self._centred(self.X[start : start + self.block_rows])

    def parts(self):
        """Yield the same rows as :class:`ArrayRows` of several blocks, one task of a thread each.

        Where they begin depends on the blocks alone, so that sums do not depend on the threads.
        """
        rows = self.block_rows * max(1, PART_ROWS // self.block_rows)
        for start in range(0, self.n, rows):
            X = self.X[start : start + rows]
            yield ArrayRows(X, self.block_rows, self.device, self.centre)

    def take(self, numbers):
        """The rows with these numbers, int (m,), in their order: float64 tensor (m, d)."""
        return self._centred(self.X[numbers])

    def sum(self, make_statistics_of):
        """The :class:`~mistakes_lib.density.gmm.em.Statistics` of all rows.

        Args:
            make_statistics_of: device → function of an iterable of blocks of rows on it; called
                once where the rows are, before their first block.
        """
        statistics_of = make_statistics_of(self.device)
        return sum_statistics(in_order(statistics_of, self.parts(), self.device))

    def _centred(self, rows):
        return torch.from_numpy(rows - self.centre).to(self.device)


class BlockRows:
    """The rows of many arrays that need not fit into memory together, as :class:`ArrayRows`.

    Args:
        blocks: iterable of arrays (m, d), gone through once for each iteration of EM.
        block_rows_of: d → rows of the blocks into which these are cut.
        device: torch.device of the blocks.

    Raises:
        TypeError: ``blocks`` is an iterator, which can be gone through only once.
        ValueError: there are no rows, a block is no matrix of finite numbers, or their widths
            differ.
    """

    def __init__(self, blocks, block_rows_of, device):
        if isinstance(blocks, Iterator):
            raise TypeError(
                "EM goes through the rows many times, but an iterator ends: pass a list of arrays, "
                "or an object whose __iter__ begins anew"
            )
        self.blocks, self.device = blocks, device
        self.n, self.d, total = 0, None, 0.0
        for rows in self._arrays():
            self.n, self.d = self.n + len(rows), rows.shape[1]
            total = total + rows.sum(axis=0, dtype=np.float64)
        if not self.n:
            raise ValueError("X has no blocks, so there are no rows to fit")
        self.centre, self.block_rows = total / self.n, block_rows_of(self.d)

    def __iter__(self):
        for rows in self._arrays():
            yield from ArrayRows(rows, self.block_rows, self.device, self.centre)

    def parts(self):
        for rows in self._arrays():
            yield from ArrayRows(rows, self.block_rows, self.device, self.centre).parts()

    def take(self, numbers):
        found, start = np.empty((len(numbers), self.d)), 0
        for rows in self._arrays():
            inside = (numbers >= start) & (numbers < start + len(rows))
            found[inside] = rows[numbers[inside] - start]
            start += len(rows)
        return torch.from_numpy(found - self.centre).to(self.device)

    sum = ArrayRows.sum

    def _arrays(self):
        """The blocks, checked."""
        for number, block in enumerate(self.blocks):
            if getattr(block, "shape", (1,))[0] == 0:  # a block whose rows were all filtered out
                continue
            rows = as_matrix(block, f"block {number} of X", dtype=None)
            if self.d is not None and rows.shape[1] != self.d:
                raise ValueError(
                    f"block {number} of X has {rows.shape[1]} features, those before {self.d}"
                )
            yield rows


def as_plain_rows(X):
    """A torch tensor of any precision, with gradients or without, as an array; all else as is."""
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X if X.dtype in (torch.float32, torch.float64) else X.float()).numpy()


def come_in_blocks(X):
    """Whether X is no array or array-like, but an iterable of matrices."""
    if hasattr(X, "shape") or hasattr(X, "__array__") or not isinstance(X, Iterable):
        return False
    if isinstance(X, list | tuple):
        return len(X) > 0 and getattr(X[0], "ndim", 0) == 2
    return not isinstance(X, str | bytes | dict)
