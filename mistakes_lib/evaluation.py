"""How well do scores find failures? Curves' areas, thresholds, calibration, risk (§3.3, §4)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state, check_scalar

from mistakes_lib.hypothesis import mann_whitney
from mistakes_lib.validation import as_labels, as_matrix, as_vector, check_fraction

__all__ = [
    "DetectionReport",
    "ReliabilityBins",
    "RiskCoverage",
    "Threshold",
    "conformal_threshold",
    "detection_report",
    "expected_calibration_error",
    "reliability_bins",
    "risk_coverage",
    "select_threshold",
]


# --- Detection ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DetectionReport:
    """How well scores tell trusted inputs from suspect ones; the positive class is the failure.

    Attributes:
        auroc: chance that a random trusted input outranks a random suspect one.
        auroc_ci: (low, high), by DeLong's standard error.
        aupr: average precision with the suspect inputs as positive class; depends on their share.
        aupr_ci: (low, high), bootstrap percentiles.
        fpr95: least share of trusted inputs that is flagged when at least 95 % of the suspect are.
        fpr95_ci: (low, high), bootstrap percentiles.
        n_trusted: number of trusted inputs.
        n_suspect: number of suspect inputs.

    Example:
        >>> report = detection_report([3.0, 4.0, 5.0], [1.0, 2.0], random_state=0)
        >>> report.auroc, report.aupr, report.fpr95, report.n_suspect
        (1.0, 1.0, 0.0, 2)
    """

    auroc: float
    auroc_ci: tuple
    aupr: float
    aupr_ci: tuple
    fpr95: float
    fpr95_ci: tuple
    n_trusted: int
    n_suspect: int


def detection_report(trusted, suspect, *, confidence=0.95, resamples=500, random_state=None):
    """Measure a detector: AUROC, AUPR and FPR95, each with a confidence interval (§4).

    Args:
        trusted: scores of inputs to be kept (correct, clean, in-distribution), (n,), higher = more
            trusted.
        suspect: scores of inputs to be flagged (mistakes, adversarial, out-of-distribution), (m,).
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap samples behind the intervals of AUPR and FPR95; each draws n trusted
            and m suspect inputs anew.
        random_state: seed of the bootstrap.

    Returns:
        DetectionReport.

    Raises:
        ValueError: an input is empty, not one-dimensional, or has a NaN (its index is named), or an
            option is out of range.

    Example:
        >>> report = detection_report([0.9, 0.8, 0.7, 0.2], [0.1, 0.3], random_state=0)
        >>> report.auroc, round(report.aupr, 3), report.fpr95
        (0.875, 0.833, 0.25)
    """
    trusted, suspect = as_vector(trusted, "trusted"), as_vector(suspect, "suspect")
    check_fraction(confidence, "confidence")
    check_scalar(resamples, "resamples", Integral, min_val=1)
    rng = check_random_state(random_state)
    n, m = len(trusted), len(suspect)
    scores = np.r_[trusted, suspect]
    order = np.argsort(scores, kind="stable")  # most suspect first
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) > 0, True])  # last of each group of ties
    places = np.argsort(order)  # of each input in that order

    def areas(counts_trusted, counts_suspect):
        false_alarms = np.bincount(places[:n], counts_trusted, n + m).cumsum()[ends]
        hits = np.bincount(places[n:], counts_suspect, n + m).cumsum()[ends]
        return _average_precision(hits, false_alarms), _fpr_at(0.95, hits, false_alarms)

    aupr, fpr95 = areas(np.ones(n), np.ones(m))
    samples = np.array(
        [
            areas(
                np.bincount(rng.randint(n, size=n), minlength=n),
                np.bincount(rng.randint(m, size=m), minlength=m),
            )
            for _ in range(resamples)
        ]
    )  # (resamples, 2)
    ranked = mann_whitney(trusted, suspect, confidence=confidence)
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return DetectionReport(
        auroc=ranked.auroc,
        auroc_ci=ranked.auroc_ci,
        aupr=float(aupr),
        aupr_ci=(float(low[0]), float(high[0])),
        fpr95=float(fpr95),
        fpr95_ci=(float(low[1]), float(high[1])),
        n_trusted=n,
        n_suspect=m,
    )


def _average_precision(hits, false_alarms):
    """Σ (Rₖ − Rₖ₋₁) Pₖ over the thresholds, from cumulative counts of flagged inputs."""
    flagged = hits + false_alarms
    precision = np.divide(hits, flagged, out=np.ones(len(hits)), where=flagged > 0)
    return (np.diff(hits, prepend=0) * precision).sum() / hits[-1]


def _fpr_at(recall, hits, false_alarms):
    """Least false positive rate at which at least ``recall`` of the failures are flagged."""
    first = np.argmax(hits >= recall * hits[-1])
    return false_alarms[first] / false_alarms[-1]


# --- Thresholds ---------------------------------------------------------------------------------


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
    scores, correct = as_vector(scores, "scores"), _as_flags(correct, "correct", scores)
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


# --- Calibration --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions by confidence, in B equally wide bins; an empty bin has NaN averages.

    Attributes:
        edges: float64 (B + 1,), from 0 to 1.
        counts: int64 (B,), predictions in each bin.
        confidence: float64 (B,), their mean confidence.
        accuracy: float64 (B,), the share of them that is right.

    Example:
        >>> bins = reliability_bins([[0.9, 0.1], [0.2, 0.8]], [0, 0], n_bins=2)
        >>> bins.edges, bins.counts, bins.accuracy
        (array([0. , 0.5, 1. ]), array([0, 2]), array([nan, 0.5]))
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability_bins(logits_or_probs, labels, n_bins=10):
    """Sort predictions into bins of confidence (§4, Appendix C: B = 10).

    Args:
        logits_or_probs: (n, c); rows that are not negative and sum to 1 are taken as probabilities,
            all else goes through the softmax.
        labels: true classes, int (n,).
        n_bins: B, bins ((b − 1) / B, b / B].

    Returns:
        ReliabilityBins.

    Raises:
        ValueError: shapes disagree, a label is out of range, or ``n_bins`` is below 1.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, 2017, eq. 1–2,
    https://arxiv.org/abs/1706.04599

    Example:
        >>> bins = reliability_bins([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45]], [0, 0, 0], n_bins=2)
        >>> bins.counts, bins.confidence, bins.accuracy.round(3)
        (array([0, 3]), array([ nan, 0.75]), array([  nan, 0.667]))
    """
    values = as_matrix(logits_or_probs, "logits_or_probs")
    labels = as_labels(labels, "labels", length=len(values), num_classes=values.shape[1])
    check_scalar(n_bins, "n_bins", Integral, min_val=1)
    is_probability = values.min() >= 0 and np.allclose(values.sum(axis=1), 1, rtol=0, atol=1e-4)
    probabilities = values if is_probability else softmax(values, axis=1)
    confidence = probabilities.max(axis=1)
    right = values.argmax(axis=1) == labels
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    sums = (np.bincount(bins, weights, n_bins) for weights in (confidence, right))
    with np.errstate(invalid="ignore"):
        means = [total / counts for total in sums]
    return ReliabilityBins(edges, counts, *means)


def expected_calibration_error(logits_or_probs, labels, n_bins=10):
    """Mean gap between confidence and accuracy over the bins: ECE (§4, Appendix C).

    ``ECE = Σ_b (n_b / n) |accuracy_b − confidence_b|``.

    Args:
        logits_or_probs, labels, n_bins: as for :func:`reliability_bins`.

    Returns:
        float in [0, 1].

    Raises:
        ValueError: as :func:`reliability_bins`.

    Example:
        >>> round(expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]), 3)
        0.4
    """
    bins = reliability_bins(logits_or_probs, labels, n_bins)
    filled = bins.counts > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    return float(np.average(gaps, weights=bins.counts[filled]))


# --- Risk and coverage --------------------------------------------------------------------------


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
    scores, correct = as_vector(scores, "scores"), _as_flags(correct, "correct", scores)
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    error_rates = np.bincount(group, ~correct) / sizes  # of each group of equal scores
    kept = np.arange(1, len(scores) + 1)
    risk = np.repeat(error_rates, sizes).cumsum() / kept
    return RiskCoverage(kept / len(scores), risk, float(risk.mean()))


def _as_flags(values, name, scores):
    """Return bool (n,), one for each score."""
    flags = as_vector(values, name)
    if len(flags) != len(scores):
        raise ValueError(f"{name} has {len(flags)} entries, but there are {len(scores)} scores")
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(f"{name} must be true or false for each score")
    return flags.astype(bool)
