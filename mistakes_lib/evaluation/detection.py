"""How well do scores separate trusted from suspect inputs? Areas under curves (§3.3, §4)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.support.checks import as_vector, check_fraction

__all__ = ["DetectionReport", "detection_report"]


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
