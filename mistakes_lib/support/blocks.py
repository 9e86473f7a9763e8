"""Rows some at a time, so that arrays may be mapped from files that are larger than memory."""

import numpy as np

__all__ = ["in_blocks", "row_blocks"]

BLOCK_ROWS = 4096  # such as 32 MB of 2048 features in float32


def row_blocks(n):
    """Slices that cut n rows into blocks.

    Example:
        >>> list(row_blocks(5000))
        [slice(0, 4096, None), slice(4096, 5000, None)]
    """
    for start in range(0, n, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n))


def in_blocks(function, *parts):
    """A function of rows, applied to one block of rows after the other.

    Args:
        function: of arrays (b, …), one for each part, that returns an array (b, …).
        parts: arrays (n, …), n > 0.

    Returns:
        array (n, …).

    Example:
        >>> in_blocks(np.add, np.array([1.0, 2.0]), np.array([0.5, 0.5]))
        array([1.5, 2.5])
    """
    return np.concatenate(
        [function(*(p[rows] for p in parts)) for rows in row_blocks(len(parts[0]))]
    )
