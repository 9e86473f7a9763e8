"""The distance to the k-th nearest direction: searched in float32, decided in float64."""

from functools import cache, partial

import numpy as np
import torch
from sklearn import neighbors
from sklearn.preprocessing import normalize
from threadpoolctl import ThreadpoolController

from mistakes_lib.support.blocks import row_blocks
from mistakes_lib.support.threads import in_order

__all__ = ["kth_nearest"]

ROWS, OTHERS = 256, 1024  # of a tile, whose products stay in the processor's cache
PAIRS = 1024  # whose distances are computed at a time
SPARE = 16  # others kept beyond k and a quarter of it, so that near ties at the k-th place are seen


def kth_nearest(rows, others, k):
    """Distance of each row to the k-th nearest of the others, all scaled to length 1.

    The search is exact. Let q be a row and r one of the others, of length 1 (or 0, if all their
    features are 0). The nearer r is, the greater is q·r − |r|²/2, which one product in float32
    tells with an error below ε = (d + 8) 2⁻²⁴. Whatever is greater than the k-th greatest by more
    than 2ε is surely nearer, whatever is less by more than 2ε is surely farther. Only the few in
    between are compared in float64. Rows with too many of these, such as those of which hundreds of
    others are copies, are compared with all others in float64.

    Args:
        rows: float (b, d); what is held meanwhile grows with b k, but not with the others.
        others: float (n, d) with n ≥ k, possibly mapped from a file.
        k: which counts, 1 … n.

    Returns:
        float64 (b,).

    Example:
        >>> kth_nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 3.0], [5.0, 0.0], [-1.0, 0.0]]), 2)
        array([1.41421356])
    """
    values, places = _greatest(rows, others, min(k + k // 4 + SPARE, len(others)))
    margin = 2 * (rows.shape[1] + 8) * 2.0**-24
    kth = np.partition(values, -k, axis=1)[:, [-k]].astype(np.float64)
    told = values.min(axis=1) < kth[:, 0] - margin  # nothing that was not kept can be the k-th
    told |= values.shape[1] == len(others)
    directions, distances = _directions(rows), np.empty(len(rows))
    distances[told] = _decided(
        directions[told], others, k, values[told], places[told], kth[told], margin
    )
    if not told.all():
        distances[~told] = _compared_with_all(directions[~told], others, k)
    return distances


def _directions(rows):
    """Rows scaled to length 1, float64."""
    return normalize(rows.astype(np.float64), copy=False)


def _greatest(rows, others, keep):
    """The ``keep`` greatest q·r − |r|²/2 of each row, float32 (b, keep), and of which others they
    are, int64 (b, keep)."""
    left = _with_column(_directions(rows), 1.0)
    tiles = [left[start : start + ROWS] for start in range(0, len(left), ROWS)]
    found = [(np.empty((len(t), 0), np.float32), np.empty((len(t), 0), np.int64)) for t in tiles]
    with _controller().limit(limits=1, user_api="blas"):  # a thread for each tile of rows
        for block in row_blocks(len(others)):
            right = _directions(others[block])
            right = _with_column(right, -np.einsum("ij,ij->i", right, right) / 2)
            search = partial(_searched, right=right, first=block.start, keep=keep)
            tasks = zip(tiles, found, strict=True)
            found = list(in_order(search, tasks, torch.device("cpu")))
    return tuple(np.vstack(parts) for parts in zip(*found, strict=True))


@cache
def _controller():
    """Of the threads of NumPy's products; to find their libraries takes a while."""
    return ThreadpoolController()


def _searched(tile, right, first, keep):
    """What :func:`_greatest` says of some rows, from what they kept so far and more others."""
    rows, kept = tile
    for start in range(0, len(right), OTHERS):
        products = rows @ right[start : start + OTHERS].T
        kept = _merged(*kept, products, first + start, keep)
    return kept


def _with_column(directions, last):
    """Directions (b, d) and one more column, float32 (b, d + 1)."""
    wide = np.empty((len(directions), directions.shape[1] + 1), np.float32)
    wide[:, :-1], wide[:, -1] = directions, last
    return wide


def _merged(values, places, products, first, keep):
    """The ``keep`` greatest of values (b, w) and products (b, m), and their places."""
    if values.shape[1] == keep:
        products, new = _passing(products, values.min(axis=1, keepdims=True), first)
    else:
        new = np.broadcast_to(first + np.arange(products.shape[1]), products.shape)
        products, new = _largest(products, new, keep)
    return _largest(np.hstack([values, products]), np.hstack([places, new]), keep)


def _largest(values, places, keep):
    """The ``keep`` greatest values (b, w) of each row and their places; all if w ≤ keep."""
    if values.shape[1] <= keep:
        return values, places
    chosen = np.argpartition(values, -keep, axis=1)[:, -keep:].copy()
    return tuple(np.take_along_axis(part, chosen, axis=1) for part in (values, places))


def _passing(products, bar, first):
    """The products (b, m) above a bar (b, 1), side by side in as few columns as hold them."""
    flat = np.flatnonzero(products > bar)
    rows, columns = np.divmod(flat, products.shape[1])
    counts = np.bincount(rows, minlength=len(products))
    slots = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((len(products), counts.max(initial=0)), -np.inf, np.float32)
    places = np.zeros(values.shape, np.int64)
    values[rows, slots] = products.ravel()[flat]
    places[rows, slots] = first + columns
    return values, places


def _decided(directions, others, k, values, places, kth, margin):
    """The k-th distance, where values (b, w) near the k-th (b, 1) are compared in float64."""
    nearer = (values > kth + margin).sum(axis=1)
    rows, columns = np.nonzero(np.abs(values - kth) <= margin)
    distances = np.full(values.shape, np.inf)
    for start in range(0, len(rows), PAIRS):
        i, j = rows[start : start + PAIRS], columns[start : start + PAIRS]
        right = _directions(others[places[i, j]])
        distances[i, j] = np.linalg.norm(directions[i] - right, axis=1)
    distances.sort(axis=1)
    return np.take_along_axis(distances, (k - 1 - nearer)[:, None], axis=1)[:, 0]


def _compared_with_all(directions, others, k):
    """The k-th distance by scikit-learn's search in float64, block by block."""
    nearest = np.empty((len(directions), 0))
    for block in row_blocks(len(others)):
        right = _directions(others[block])
        index = neighbors.NearestNeighbors(n_neighbors=min(k, len(right)), algorithm="brute")
        nearest = np.hstack([nearest, index.fit(right).kneighbors(directions)[0]])
        if nearest.shape[1] > k:
            nearest = np.partition(nearest, k - 1, axis=1)[:, :k]
    return nearest.max(axis=1)
