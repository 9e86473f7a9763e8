"""A single tool: one threshold against every kind of failure, with a promise on false alarms."""

import numpy as np
import pandas as pd

from mistakes_lib.evaluation.thresholds import conformal_threshold
from mistakes_lib.support.checks import as_matrix, as_vector, check_fraction

__all__ = ["conformal_p_values", "joint_conformal_p_values", "shares_caught"]


def conformal_p_values(calibration, scores):
    """How unusual is each score among those of correct predictions?

    p = (1 + number of calibration scores that are not above it) / (n + 1). If a correct prediction
    is exchangeable with the n calibration ones, its rank among all n + 1 is uniform (ties make it
    larger only), so P(p ≤ α) ≤ α for every α.

    Args:
        calibration: scores of correct predictions that nothing was fitted to, (n,).
        scores: of the inputs to be judged, (m,), higher = more trusted.

    Returns:
        float64 (m,) in (0, 1]; flag an input where it is at most α.

    Raises:
        ValueError: an input is empty, or has a NaN.

    Source: Bates et al., *Testing for Outliers with Conformal p-values*, 2021,
    https://arxiv.org/abs/2104.08279

    Example:
        >>> conformal_p_values(range(99), [-1.0, 3.5, 98.0])
        array([0.01, 0.05, 1.  ])
    """
    calibration = np.sort(as_vector(calibration, "calibration"))
    scores = as_vector(scores, "scores")
    return (1 + np.searchsorted(calibration, scores, side="right")) / (len(calibration) + 1)


def joint_conformal_p_values(calibration, scores):
    """The smaller of two conformal p-values, calibrated again so that its promise holds.

    The smaller of two p-values is below α too often. Instead, put the new input among the n
    calibration ones, rank all n + 1 by each score (an input's rank counts those that are not above
    it), and let T be the smaller of an input's two ranks. The p-value is the share of the n + 1
    inputs whose T is not above the new one's.

    *Why the promise holds.* T is computed from the n + 1 inputs in a way that does not depend on
    their order. If the new input is exchangeable with the others, so are the n + 1 values T, and
    that of the new one is among the k smallest with probability at most k / (n + 1). So
    P(p ≤ α) ≤ α, however the two scores depend on each other.

    Args:
        calibration: two scores of correct predictions that nothing was fitted to, (n, 2).
        scores: the two scores of the inputs to be judged, (m, 2), higher = more trusted.

    Returns:
        float64 (m,) in (0, 1]; flag an input where it is at most α.

    Raises:
        ValueError: an input is empty, has a NaN, or other than two columns.

    Example:
        >>> grid = np.stack([np.arange(9), np.arange(9)[::-1]], axis=1)  # opposite orders
        >>> joint_conformal_p_values(grid, [[-1, 9], [1.5, 9]])  # lowest, third lowest by the first
        array([0.2, 0.6])
    """
    calibration = as_matrix(calibration, "calibration", columns=2)
    scores = as_matrix(scores, "scores", columns=2)
    n = len(calibration)
    ordered = np.sort(calibration, axis=0)
    own = np.stack(
        [np.searchsorted(ordered[:, j], calibration[:, j], side="right") for j in (0, 1)]
    )  # (2, n): ranks among the calibration inputs, from 1
    new = np.stack(
        [np.searchsorted(ordered[:, j], scores[:, j], side="right") + 1 for j in (0, 1)]
    )  # (2, m): ranks of each new input among all n + 1
    smaller = new.min(axis=0)  # T of the new inputs
    # The new input pushes up the ranks of those above it. By the score in which it has rank T,
    # those with a rank of T or less had T − 1 or less; by the other, in which it stands higher,
    # they had T or less (T − 1 where it has the same rank in both).
    cases = [  # score with rank T, what the other's rank is raised by, inputs of which this holds
        (0, 0, new[0] < new[1]),
        (1, 0, new[0] > new[1]),
        (0, 1, new[0] == new[1]),
    ]
    below = np.zeros(len(scores))
    for first, shift, chosen in cases:
        leader, other = own[first], own[1 - first]
        # An input counts as soon as T reaches the smaller of these two.
        reached = np.sort(np.minimum(leader + 1, other + shift))
        below[chosen] = np.searchsorted(reached, smaller[chosen], side="right")
    return (1 + below) / (n + 1)


def shares_caught(calibration, usual, failures, *, joint=None, false_alarms=0.05):
    """One threshold for each method, chosen on correct validation predictions: what does it catch?

    Args:
        calibration: dict of method → scores (n,) of correct validation predictions.
        usual: dict of method → scores of correct test predictions, which should not be flagged.
        failures: dict of failure → dict of method → scores of the inputs that should be.
        joint: (method, method, name): add the smaller of the two p-values of two methods, by
            :func:`joint_conformal_p_values`, under that name.
        false_alarms: promised share of correct predictions that are flagged, in (0, 1).

    Returns:
        DataFrame indexed by method; the column "false alarms" is the share flagged of ``usual``,
        the others are the shares flagged of each failure.

    Raises:
        ValueError: a method is missing somewhere, or ``false_alarms`` lies outside (0, 1).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> groups = [{"GMM": rng.normal(shift, 1, 1000)} for shift in (0, 0, -3)]
        >>> table = shares_caught(groups[0], groups[1], {"noise": groups[2]})
        >>> table.round(2).loc["GMM"].to_dict()
        {'false alarms': 0.06, 'noise': 0.92}
    """
    check_fraction(false_alarms, "false_alarms")
    columns = {"false alarms": usual, **failures}
    wanted = list(calibration) if joint is None else [*calibration, *joint[:2]]
    for name, own in {"calibration": calibration, **columns}.items():
        for method in wanted:
            if method not in own:
                raise ValueError(f"{name} has no scores of {method!r}: it has {', '.join(own)}")
    rows = {}
    for method, known in calibration.items():
        limit = conformal_threshold(known, false_alarms)
        rows[method] = {
            name: float((as_vector(own[method], name) < limit).mean())
            for name, own in columns.items()
        }
    if joint is not None:
        first, second, label = joint
        known = _two(calibration, first, second)
        rows[label] = {
            name: float(
                (joint_conformal_p_values(known, _two(own, first, second)) <= false_alarms).mean()
            )
            for name, own in columns.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def _two(scores, first, second):
    return np.stack([np.asarray(scores[first]), np.asarray(scores[second])], axis=1)
