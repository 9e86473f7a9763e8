"""Does a confidence say how often the classifier is right? (Guo et al. 2017; §4)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.special import softmax
from sklearn.utils import check_scalar

from mistakes_lib.support.checks import as_labels, as_matrix

__all__ = ["ReliabilityBins", "expected_calibration_error", "reliability_bins"]


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
