"""Thresholds below which a score counts as a mistake: chosen on labels, or guaranteed."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_scalar

from mistakes_lib.support.checks import as_flags, as_vector, check_fraction

__all__ = ["Threshold", "conformal_threshold", "select_threshold"]


@dataclass(frozen=True)
class Threshold:
    """A threshold for use: an input is flagged when its score lies **below** ``value``.

    Attributes:
        value: the threshold, in the units of the scores.
        criterion: what it was chosen to maximise.
        performance: that criterion on held-out inputs, mean over the folds.
        performance_std: its standard deviation over the folds.

    Example:
        >>> found = select_threshold([1, 1, 1, 8, 8, 8], [0, 0, 0, 1, 1, 1], cv=3)
        >>> np.array([2.0, 7.0]) < found.value
        array([ True, False])
        >>> found.criterion, found.performance
        ('f1', 1.0)
    """

    value: float
    criterion: str
    performance: float
    performance_std: float


def _f1(hits, false_alarms, failures, successes):
    return 2 * hits / (hits + false_alarms + failures)


def _youden(hits, false_alarms, failures, successes):
    return hits / failures - false_alarms / successes


def _accuracy(hits, false_alarms, failures, successes):
    return (hits + successes - false_alarms) / (failures + successes)


CRITERIA = {"f1": _f1, "youden": _youden, "accuracy": _accuracy}


def select_threshold(scores, correct, *, criterion="f1", cv=5, random_state=0):
    """Choose the score below which predictions are flagged, by cross-validation (§3.3).

    "The value of the threshold is chosen by cross-validation on the validation set to obtain a good
    trade-off between precision and recall." Each fold's threshold is the best on the other folds
    and judged on its own; the value is the median of the folds' thresholds, which no single
    validation input can move far.

    Args:
        scores: of the validation split, (n,), higher = more trusted.
        correct: whether each prediction is right, bool (n,).
        criterion: what to maximise: "f1" of the failures (precision against recall), "youden"
            (true minus false positive rate) or "accuracy" of the flag.
        cv: number of folds, stratified by ``correct``.
        random_state: seed of the folds.

    Returns:
        Threshold.

    Raises:
        ValueError: shapes disagree, an unknown criterion, or fewer right or wrong predictions than
            folds.

    Example:
        >>> select_threshold([1, 1, 1, 8, 8, 8], [0, 0, 0, 1, 1, 1], cv=3).value
        4.5
    """
    scores, correct = as_vector(scores, "scores"), as_flags(correct, "correct", scores)
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}")
    check_scalar(cv, "cv", Integral, min_val=2)
    rarest = min(correct.sum(), (~correct).sum())
    if rarest < cv:
        raise ValueError(
            f"{cv} folds need at least {cv} correct and {cv} wrong predictions, but there are "
            f"{correct.sum()} and {(~correct).sum()}: use more inputs or a smaller cv"
        )
    folds = StratifiedKFold(cv, shuffle=True, random_state=random_state)
    values, performances = [], []
    for rest, held_out in folds.split(scores, correct):
        value = _best_threshold(scores[rest], correct[rest], CRITERIA[criterion])
        flagged, right = scores[held_out] < value, correct[held_out]
        counts = (flagged & ~right).sum(), (flagged & right).sum(), (~right).sum(), right.sum()
        values.append(value)
        performances.append(CRITERIA[criterion](*counts))
    return Threshold(
        value=float(np.median(values)),
        criterion=criterion,
        performance=float(np.mean(performances)),
        performance_std=float(np.std(performances)),
    )


def _best_threshold(scores, correct, criterion):
    """The threshold halfway between two neighbouring scores, or beyond all, that does best."""
    distinct, group = np.unique(scores, return_inverse=True)
    hits = np.r_[0, np.bincount(group, ~correct).cumsum()]  # flagged failures, one a threshold
    false_alarms = np.r_[0, np.bincount(group, correct).cumsum()]
    quality = criterion(hits, false_alarms, hits[-1], false_alarms[-1])
    middle = (distinct[:-1] + distinct[1:]) / 2
    beyond = np.nextafter(distinct[-1], np.inf)
    return np.r_[distinct[0], middle, beyond][np.argmax(quality)]


def conformal_threshold(scores_of_correct, alpha):
    """Threshold that flags a correct prediction with probability at most ``alpha``, guaranteed.

    The guarantee holds for every sample size and distribution, on average over calibration sets, as
    long as future correct inputs are exchangeable with these: the rank of a new score among n old
    ones is uniform, so it is below the k-th smallest of them with probability at most k / (n + 1).

    Args:
        scores_of_correct: scores of correctly classified validation inputs, (n,), higher = more
            trusted. They must not have been used to fit the scorer.
        alpha: false-alarm rate in (0, 1).

    Returns:
        float: flag an input when its score lies below. −inf, which flags nothing, if n is too small
        for the promise (n < 1 / alpha − 1).

    Raises:
        ValueError: no scores, a NaN, or ``alpha`` outside (0, 1).

    Source: Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005; Bates et al.,
    *Testing for Outliers with Conformal p-values*, 2021, https://arxiv.org/abs/2104.08279

    Example:
        >>> conformal_threshold(range(99), 0.05)  # 5 / 100: below the 5th smallest
        4.0
        >>> conformal_threshold([1.0, 2.0], 0.05)
        -inf
    """
    scores = np.sort(as_vector(scores_of_correct, "scores_of_correct"))
    check_fraction(alpha, "alpha")
    k = int(np.floor(alpha * (len(scores) + 1) * (1 + 1e-12)))  # 0.05 · 100 is 5, not 4.999…
    return float(scores[k - 1]) if k else -np.inf
