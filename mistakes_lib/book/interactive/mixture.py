"""The mixture explorer: drag the centres, step through EM, watch the log-likelihood climb."""

from math import floor, log10

import numpy as np

from mistakes_lib.book.interactive.figure import InteractiveFigure
from mistakes_lib.support.checks import as_matrix, check_positive

__all__ = ["mixture_explorer"]

COLOURS = 6  # in style.css, one a component


def mixture_explorer(
    points, means, *, n_components=None, tol=1e-3, reg_covar=1e-6, max_iter=100, names=("x", "y")
):
    """Points in the plane and a diagonal Gaussian mixture whose centres the reader drags.

    EM starts with the centres where they are put, equal weights, and the variances of all points
    for each component. It takes the steps of :class:`~mistakes_lib.density.DiagonalGMM` and
    stops by the same rule.

    Args:
        points: (n, 2); the page has them with four significant digits of their range.
        means: the centres to begin with, (k, 2), 1 ≤ k ≤ 6.
        n_components: how many of the centres are shown at first; all by default.
        tol: EM has converged when the mean log-likelihood changes by less.
        reg_covar: added to the variances.
        max_iter: steps at most.
        names: of the two axes.

    Returns:
        InteractiveFigure.

    Raises:
        ValueError: points or means have another shape, are not finite, or too many; all points lie
            on one horizontal or vertical line; a number is out of range.

    Example:
        >>> points = [[0.0, 0.1], [0.2, 0.0], [1.0, 1.1], [1.2, 1.0]]
        >>> figure = mixture_explorer(points, points[::2])
        >>> figure.data["points"][1], figure.data["count"]
        ([0.2, 0.0], 2)
    """
    points = as_matrix(points, "points", columns=2)
    means = as_matrix(means, "means", columns=2)
    if len(means) > COLOURS:
        raise ValueError(f"means has {len(means)} centres, but there are colours for {COLOURS}")
    count = len(means) if n_components is None else n_components
    if count not in range(1, len(means) + 1):
        raise ValueError(f"n_components must be 1…{len(means)}, as means has, got {count!r}")
    spans = np.ptp(points, axis=0)
    if not spans.all():
        raise ValueError("points lie on one line: both coordinates must vary")
    decimals = max(0, 3 - floor(log10(spans.max())))
    data = {
        "points": np.round(points, decimals).tolist(),
        "means": np.round(means, decimals).tolist(),
        "decimals": decimals,
        "count": int(count),
        "tol": check_positive(tol, "tol"),
        "regularisation": check_positive(reg_covar, "reg_covar"),
        "steps": int(check_positive(max_iter, "max_iter")),
        "names": [str(name) for name in names],
    }
    return InteractiveFigure(
        "mixture",
        data,
        label="A Gaussian mixture in the plane, with centres to drag, fitted step by step",
    )
