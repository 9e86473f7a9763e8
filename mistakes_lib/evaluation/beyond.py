"""Does a score know anything that another does not? Within groups, and by a likelihood ratio."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2
from sklearn.utils import check_scalar

from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.support.checks import as_array, as_flags, as_labels, as_vector

__all__ = ["LikelihoodRatio", "auroc_by_group", "auroc_within", "likelihood_ratio_test"]


def auroc_within(scores, correct, by, *, n_bins=10):
    """AUROC of one score for mistakes, among inputs on which another score agrees.

    Inputs are sorted by the other score and cut into bins of equal size. A score that only repeats
    the other one has an AUROC of about one half in each.

    Args:
        scores: (n,), higher = more trusted.
        correct: whether each prediction is right, bool (n,).
        by: the other score, (n,).
        n_bins: number of bins; 10 are deciles.

    Returns:
        DataFrame indexed by bin (1 = least trusted by the other score) with the columns inputs,
        mistakes, AUROC, low, high; NaN where a bin holds one kind of predictions only.

    Raises:
        ValueError: shapes disagree, or there are fewer inputs than bins.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> confidence = rng.random(2000)
        >>> correct = rng.random(2000) < confidence
        >>> twice = 2 * confidence + rng.normal(0, 0.01, 2000)  # says the same again
        >>> table = auroc_within(twice, correct, confidence, n_bins=50)
        >>> bool(abs(table.AUROC.mean() - 0.5) < 0.1)
        True
    """
    scores, correct = as_vector(scores, "scores"), as_flags(correct, "correct", scores)
    by = as_vector(by, "by")
    if len(by) != len(scores):
        raise ValueError(f"by has {len(by)} entries, but there are {len(scores)} scores")
    check_scalar(n_bins, "n_bins", Integral, min_val=1, max_val=len(scores))
    bins = np.empty(len(scores), dtype=np.int64)
    bins[np.argsort(by, kind="stable")] = np.arange(len(scores)) * n_bins // len(scores)
    return auroc_by_group(scores, correct, bins, names=range(1, n_bins + 1)).rename_axis("bin")


def auroc_by_group(scores, correct, groups, *, names=None):
    """AUROC of a score for mistakes, in each group of inputs alone, such as each predicted class.

    Args:
        scores: (n,), higher = more trusted.
        correct: whether each prediction is right, bool (n,).
        groups: the group of each input, int (n,) from 0.
        names: of the groups; None: their numbers.

    Returns:
        DataFrame indexed by group with the columns inputs, mistakes, AUROC, low, high; NaN where a
        group holds one kind of predictions only.

    Raises:
        ValueError: shapes disagree, or a group has no name.

    Example:
        >>> table = auroc_by_group([3, 1, 2, 5], [1, 0, 1, 1], [0, 0, 1, 1], names=["cat", "dog"])
        >>> table.AUROC.tolist(), table.mistakes.tolist()
        ([1.0, nan], [1, 0])
    """
    scores, correct = as_vector(scores, "scores"), as_flags(correct, "correct", scores)
    groups = as_labels(groups, "groups", length=len(scores))
    names = list(range(groups.max() + 1)) if names is None else list(names)
    groups = as_labels(groups, "groups", num_classes=len(names))
    rows = {}
    for group, name in enumerate(names):
        own = groups == group
        right, wrong = scores[own & correct], scores[own & ~correct]
        row = {"inputs": own.sum(), "mistakes": len(wrong)}
        row |= dict.fromkeys(("AUROC", "low", "high"), np.nan)
        if len(right) and len(wrong):
            result = mann_whitney(right, wrong)
            row |= {"AUROC": result.auroc, "low": result.auroc_ci[0], "high": result.auroc_ci[1]}
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")


@dataclass(frozen=True)
class LikelihoodRatio:
    """Outcome of :func:`likelihood_ratio_test`.

    Attributes:
        statistic: twice the log-likelihood gained by the added scores, in nats.
        degrees: number of added scores.
        p_value: of "the added scores say nothing beyond the others", by the χ² distribution.
        coefficients: of the larger regression, on standardised scores: the base ones, then the
            added ones, float64 (s,).

    Example:
        >>> LikelihoodRatio(5.0, 1, 0.025, np.array([1.2, 0.3])).degrees
        1
    """

    statistic: float
    degrees: int
    p_value: float
    coefficients: np.ndarray


def likelihood_ratio_test(base, added, correct):
    """Test whether scores add anything to others when mistakes are predicted.

    Two logistic regressions of "the prediction is right", without penalty: on the base scores, and
    on the base and the added scores. Twice the difference of their log-likelihoods is χ² with one
    degree of freedom for each added score, if these say nothing more (Wilks 1938). Probabilities
    should come as log-odds: only then is a calibrated confidence, alone, well described.

    Args:
        base: scores (n,) or (n, s).
        added: scores (n,) or (n, t).
        correct: whether each prediction is right, bool (n,).

    Returns:
        LikelihoodRatio.

    Raises:
        ValueError: shapes disagree, all predictions are right or all wrong, a score is constant,
            or the scores separate right from wrong, so that no regression has a maximum.

    Source: Wilks, *The Large-Sample Distribution of the Likelihood Ratio*, 1938.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> confidence, hunch = rng.normal(size=(2, 3000))
        >>> correct = rng.random(3000) < expit(confidence + hunch)
        >>> likelihood_ratio_test(confidence, hunch, correct).p_value < 1e-6
        True
    """
    base, added = _columns(base, "base"), _columns(added, "added")
    correct = as_flags(correct, "correct", base)
    if len(added) != len(base):
        raise ValueError(f"added has {len(added)} rows, but base has {len(base)}")
    if correct.all() or not correct.any():
        raise ValueError("correct must hold right and wrong predictions: pass more inputs")
    smaller, _ = _maximum(base, correct)
    larger, coefficients = _maximum(np.hstack([base, added]), correct)
    statistic = max(2 * (larger - smaller), 0.0)
    degrees = added.shape[1]
    return LikelihoodRatio(
        float(statistic), degrees, float(chi2.sf(statistic, degrees)), coefficients
    )


def _columns(values, name):
    values = as_array(values, name)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ValueError(f"{name} must have shape (n,) or (n, s), got {values.shape}")
    spread = values.std(axis=0)
    if (spread == 0).any():
        raise ValueError(
            f"{name}: score {np.flatnonzero(spread == 0)[0]} is constant, leave it out"
        )
    return (values - values.mean(axis=0)) / spread


def _maximum(columns, correct):
    """Largest log-likelihood of a logistic regression, and its coefficients without intercept."""
    design = np.hstack([columns, np.ones((len(columns), 1))])  # (n, s + 1)
    signs = np.where(correct, 1.0, -1.0)

    def loss(coefficients):
        margins = signs * (design @ coefficients)
        gradient = -(signs * expit(-margins)) @ design
        return np.logaddexp(0, -margins).sum(), gradient

    start = np.zeros(design.shape[1])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-8}
    )
    if np.abs(found.x).max() > 1e3 or found.fun < 1e-3:
        raise ValueError("the scores separate right from wrong predictions: no test is needed")
    return -found.fun, found.x[:-1]
