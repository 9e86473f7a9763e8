"""How well do scores separate trusted from suspect inputs? Areas under curves (§3.3, §4)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.support.checks import as_vector, check_fraction

__all__ = ["DetectionReport", "detection_report", "detection_reports"]


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
    options = {"confidence": confidence, "resamples": resamples, "random_state": random_state}
    return detection_reports({"": (trusted, suspect)}, **options)[""]


def detection_reports(pairs, *, confidence=0.95, resamples=500, random_state=None):
    """Measure several detectors; those of the same inputs share the draws of the bootstrap.

    Args:
        pairs: dict of name → (trusted, suspect), the scores of :func:`detection_report`.
        confidence, resamples: as there.
        random_state: as there; with a whole number each report is that of ``detection_report``.

    Returns:
        dict of name → DetectionReport.

    Raises:
        ValueError: as :func:`detection_report`.

    Example:
        >>> pairs = {"sharp": ([0.8, 0.9], [0.1]), "blunt": ([0.8, 0.9], [0.85])}
        >>> reports = detection_reports(pairs, random_state=0)
        >>> [report.auroc for report in reports.values()]
        [1.0, 0.5]
    """
    check_fraction(confidence, "confidence")
    check_scalar(resamples, "resamples", Integral, min_val=1)
    pairs = {
        name: (as_vector(trusted, "trusted"), as_vector(suspect, "suspect"))
        for name, (trusted, suspect) in pairs.items()
    }
    places, reports = {name: _places(*pair) for name, pair in pairs.items()}, {}
    samples = _bootstrap(places, resamples, random_state)
    tail = (1 - confidence) / 2
    for name, (trusted, suspect) in pairs.items():
        ranked = mann_whitney(trusted, suspect, confidence=confidence)
        aupr, fpr95 = _areas(*places[name])
        low, high = np.quantile(samples[name], [tail, 1 - tail], axis=0)
        reports[name] = DetectionReport(
            auroc=ranked.auroc,
            auroc_ci=ranked.auroc_ci,
            aupr=float(aupr),
            aupr_ci=(float(low[0]), float(high[0])),
            fpr95=float(fpr95),
            fpr95_ci=(float(low[1]), float(high[1])),
            n_trusted=len(trusted),
            n_suspect=len(suspect),
        )
    return reports


def _places(trusted, suspect):
    """The first threshold that flags each input, (n,) and (m,), and the number of thresholds.

    These are the suspects' scores, the most suspect first: only there do the curves move.
    """
    thresholds, flagged_at = np.unique(suspect, return_inverse=True)
    return np.searchsorted(thresholds, trusted), flagged_at, len(thresholds)


def _bootstrap(places, resamples, random_state):
    """AUPR and FPR95 of inputs drawn anew: dict of name → list of ``resamples`` pairs.

    To draw takes longer than to evaluate, so detectors of as many inputs get the same draws.
    """
    samples, alike = {name: [] for name in places}, {}
    for name, (alarm_at, flagged_at, _) in places.items():
        alike.setdefault((len(alarm_at), len(flagged_at)), []).append(name)
    for (n, m), names in alike.items():
        rng = check_random_state(random_state)
        for _ in range(resamples):
            trusted, suspect = rng.randint(n, size=n), rng.randint(m, size=m)
            for name in names:
                alarm_at, flagged_at, thresholds = places[name]
                areas = _areas(alarm_at[trusted], flagged_at[suspect], thresholds)
                samples[name].append(areas)
    return samples


def _areas(alarm_at, flagged_at, thresholds):
    """AUPR and FPR95 of inputs from what :func:`_places` returns."""
    false_alarms = np.bincount(alarm_at, minlength=thresholds + 1)[:thresholds].cumsum()
    hits = np.bincount(flagged_at, minlength=thresholds).cumsum()
    flagged = hits + false_alarms
    precision = np.divide(hits, flagged, out=np.ones(thresholds), where=flagged > 0)
    average = (np.diff(hits, prepend=0) * precision).sum() / hits[-1]
    enough = np.argmax(hits >= 0.95 * hits[-1])
    return average, false_alarms[enough] / len(alarm_at)
