"""Does a confidence say how often the classifier is right? (Guo et al. 2017; §4)."""

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.special import softmax
from sklearn.utils import check_scalar

from mistakes_lib.support.blocks import in_blocks
from mistakes_lib.support.checks import as_labels, as_matrix, looks_like_probabilities

__all__ = ["ReliabilityBins", "expected_calibration_error", "reliability_bins"]

ROUNDING = 1e-2  # of a row's sum: a thousand probabilities in half precision


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions by confidence, in B equally wide bins; an empty bin has NaN averages.

    Attributes:
        edges: float64 (B + 1,), from 0 to 1.
        counts: int64 (B,), predictions in each bin.
        confidence: float64 (B,), their mean confidence.
        accuracy: float64 (B,), the share of them that is right.

    Example:
        >>> two = [[0.9, 0.1], [0.2, 0.8]]
        >>> bins = reliability_bins(labels=[0, 0], probabilities=two, n_bins=2)
        >>> bins.edges, bins.counts, bins.accuracy
        (array([0. , 0.5, 1. ]), array([0, 2]), array([nan, 0.5]))
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, confidence, right, *, n_bins=10):
        """Sort confidences in [0, 1], (n,), and whether the predictions are right, bool (n,)."""
        edges = np.linspace(0, 1, n_bins + 1)
        bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
        counts = np.bincount(bins, minlength=n_bins)
        sums = (np.bincount(bins, weights, n_bins) for weights in (confidence, right))
        with np.errstate(invalid="ignore"):
            means = [total / counts for total in sums]
        return cls(edges, counts, *means)

    @property
    def calibration_error(self):
        """ECE, the mean gap between confidence and accuracy, weighted by the predictions."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float(np.average(gaps, weights=self.counts[filled]))


def reliability_bins(logits=None, labels=None, *, probabilities=None, n_bins=10):
    """Sort predictions into bins of confidence (§4, Appendix C: B = 10).

    Args:
        logits: unnormalised class scores, (n, c); they go through the softmax.
        labels: true classes, int (n,).
        probabilities: (n, c), instead of logits; rows are not negative and sum to 1.
        n_bins: B, bins ((b − 1) / B, b / B].

    Returns:
        ReliabilityBins.

    Warns:
        UserWarning: every row of ``logits`` looks like probabilities.

    Raises:
        TypeError: not exactly one of ``logits`` and ``probabilities``.
        ValueError: shapes disagree, a label is out of range, ``n_bins`` is below 1, or
            probabilities are negative or do not sum to 1.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, 2017, eq. 1–2,
    https://arxiv.org/abs/1706.04599

    Example:
        >>> confident = [[0.9, 0.1], [0.2, 0.8], [0.55, 0.45]]
        >>> bins = reliability_bins(labels=[0, 0, 0], probabilities=confident, n_bins=2)
        >>> bins.counts, bins.confidence, bins.accuracy.round(3)
        (array([0, 3]), array([ nan, 0.75]), array([  nan, 0.667]))
    """
    values, confidence = _confidence(logits, probabilities)
    labels = as_labels(labels, "labels", length=len(values), num_classes=values.shape[1])
    check_scalar(n_bins, "n_bins", Integral, min_val=1)
    return ReliabilityBins.of(confidence, values.argmax(axis=1) == labels, n_bins=n_bins)


def expected_calibration_error(logits=None, labels=None, *, probabilities=None, n_bins=10):
    """Mean gap between confidence and accuracy over the bins: ECE (§4, Appendix C).

    ``ECE = Σ_b (n_b / n) |accuracy_b − confidence_b|``. Whether numbers are logits or probabilities
    is never guessed: say so by the argument.

    Args:
        logits, labels, probabilities, n_bins: as for :func:`reliability_bins`.

    Returns:
        float in [0, 1].

    Raises:
        TypeError, ValueError: as :func:`reliability_bins`.

    Example:
        >>> confident = [[0.9, 0.1], [0.9, 0.1]]
        >>> round(expected_calibration_error(labels=[0, 1], probabilities=confident), 3)
        0.4
    """
    bins = reliability_bins(logits, labels, probabilities=probabilities, n_bins=n_bins)
    return bins.calibration_error


def _confidence(logits, probabilities):
    """What was given, (n, c), and the highest probability that each row means, float64 (n,)."""
    if (logits is None) == (probabilities is None):
        raise TypeError("give either logits or probabilities=…, and labels")
    if probabilities is None:
        values = as_matrix(logits, "logits", dtype=None)
        if looks_like_probabilities(values):
            warnings.warn(
                "every row of logits is not negative and sums to 1: if these are probabilities, "
                "pass them as probabilities=…",
                stacklevel=3,
            )
        return values, in_blocks(_highest_probability, values)
    values = as_matrix(probabilities, "probabilities", dtype=None)
    sums = values.sum(axis=1)
    if values.min() < 0 or not np.allclose(sums, 1, rtol=0, atol=ROUNDING):
        raise ValueError(
            f"probabilities must not be negative and their rows must sum to 1, got a least value "
            f"of {values.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    return values, values.max(axis=1).astype(np.float64)


def _highest_probability(logits):
    return softmax(logits.astype(np.float64), axis=1).max(axis=1)
