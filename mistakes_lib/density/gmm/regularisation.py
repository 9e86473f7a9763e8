"""How much to add to the variances of a mixture, whatever the features' unit."""

import numpy as np

from mistakes_lib.support.blocks import row_blocks

__all__ = ["reg_covar_for"]

SHARE = 1e-6  # of the features' mean variance


def reg_covar_for(features):
    """``reg_covar`` that knows the features' scale: a millionth of their mean variance.

    That of :class:`~mistakes_lib.density.DiagonalGMM` is absolute, as scikit-learn's.

    Args:
        features: (n, d); read in blocks of rows, so they may be mapped from a file.

    Returns:
        float with three significant digits, in squared units of the features; 1e-6 if they do not
        vary.

    Example:
        >>> reg_covar_for(np.array([[0.0], [2e-4]]))  # variance 1e-8
        1e-14
    """
    mean, total = features.mean(axis=0, dtype=np.float64), 0.0
    for rows in row_blocks(len(features)):
        total += np.square(features[rows] - mean).sum()
    variance = float(np.float32(total / features.size))  # the same for float32 and float64 features
    return float(f"{SHARE * variance:.3g}") or SHARE
