"""What the accepted inputs cost when the least trusted are refused."""

from dataclasses import dataclass

import numpy as np

from mistakes_lib.support.checks import as_flags, as_vector

__all__ = ["RiskCoverage", "risk_coverage"]


@dataclass(frozen=True)
class RiskCoverage:
    """What rejection of the least trusted inputs buys.

    Attributes:
        coverage: float64 (n,), share of inputs kept: 1/n, 2/n, …, 1.
        risk: float64 (n,), error rate among the kept.
        aurc: area under the curve: mean risk over the coverages; lower is better.

    Example:
        >>> curve = risk_coverage([0.9, 0.1], [True, False])
        >>> curve.coverage, curve.risk, curve.aurc
        (array([0.5, 1. ]), array([0. , 0.5]), 0.25)
    """

    coverage: np.ndarray
    risk: np.ndarray
    aurc: float


def risk_coverage(scores, correct):
    """Error rate among the most trusted inputs, at every coverage.

    Equal scores are in no order: among them the risk is the expected one of a random order.

    Args:
        scores: (n,), higher = more trusted.
        correct: whether each prediction is right, bool (n,).

    Returns:
        RiskCoverage.

    Raises:
        ValueError: shapes disagree, or a score is not finite.

    Source: Geifman & El-Yaniv, *Selective Classification for Deep Neural Networks*, 2017,
    https://arxiv.org/abs/1705.08500

    Example:
        >>> curve = risk_coverage([0.9, 0.8, 0.1], [True, False, True])
        >>> curve.risk.round(3), round(curve.aurc, 3)
        (array([0.   , 0.5  , 0.333]), 0.278)
    """
    scores, correct = as_vector(scores, "scores"), as_flags(correct, "correct", scores)
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    error_rates = np.bincount(group, ~correct) / sizes  # of each group of equal scores
    kept = np.arange(1, len(scores) + 1)
    risk = np.repeat(error_rates, sizes).cumsum() / kept
    return RiskCoverage(kept / len(scores), risk, float(risk.mean()))
