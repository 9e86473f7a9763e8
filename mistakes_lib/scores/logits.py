"""Detectors that read the network's logits alone."""

import warnings
from functools import partial
from numbers import Integral

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_scalar

from mistakes_lib.scores.base import Scorer
from mistakes_lib.support.blocks import in_blocks
from mistakes_lib.support.checks import check_positive

__all__ = ["Energy", "MaxLogit", "MaxSoftmax", "TemperatureScaling"]


class MaxSoftmax(Scorer):
    """Highest softmax probability of the logits, "Logits" in the paper's figures (§4).

    Learns nothing: ``fit`` may be left out. Reads the logits, so it is not class-agnostic.

    Source: Hendrycks & Gimpel, *A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks*, 2016, https://arxiv.org/abs/1610.02136

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> batch = FeatureSet(np.zeros((2, 1)), [[0.0, 0.0], [0.0, np.log(3)]])
        >>> MaxSoftmax().score_samples(batch).round(6)
        array([0.5 , 0.75])
    """

    name = "Max softmax"
    reads = ("logits",)
    fits_on = "validation"

    def _score(self, logits):
        return in_blocks(_max_softmax, logits)

    def log_odds(self, batch):
        """log(p / (1 − p)) of the score p, from the logits; the same order, without saturation.

        Where p is so near 1 that float64 cannot tell, log p − log(1 − p) still can.

        Args:
            batch: FeatureSet of n inputs.

        Returns:
            float64 (n,).

        Raises:
            TypeError, ValueError: as :meth:`~mistakes_lib.scores.Scorer.score_samples`.

        Example:
            >>> from mistakes_lib.features.feature_set import FeatureSet
            >>> MaxSoftmax().log_odds(FeatureSet(np.zeros((2, 1)), [[0.0, 50.0], [60.0, 0.0]]))
            array([50., 60.])
        """
        (logits,) = self._read_like_fitted(batch)
        return in_blocks(_log_odds, logits)


class MaxLogit(Scorer):
    """Highest logit, not normalised over the classes.

    Learns nothing: ``fit`` may be left out. Reads the logits, so it is not class-agnostic.

    Source: Hendrycks et al., *Scaling Out-of-Distribution Detection for Real-World Settings*, 2019,
    https://arxiv.org/abs/1911.11132

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> MaxLogit().score_samples(FeatureSet(np.zeros((1, 1)), [[1.0, 4.0]]))
        array([4.])
    """

    name = "Max logit"
    reads = ("logits",)
    fits_on = "validation"

    def _score(self, logits):
        return logits.max(axis=1)


class Energy(Scorer):
    """Negative free energy T · logsumexp(z / T) of the logits z.

    Learns nothing: ``fit`` may be left out. Reads the logits, so it is not class-agnostic.

    Source: Liu et al., *Energy-based Out-of-distribution Detection*, 2020,
    https://arxiv.org/abs/2010.03759, eq. 4 (there E = −score).

    Args:
        temperature: T > 0.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> Energy().score_samples(FeatureSet(np.zeros((1, 1)), [[0.0, np.log(3)]])).round(6)
        array([1.386294])
    """

    name = "Energy"
    reads = ("logits",)
    fits_on = "validation"

    def __init__(self, temperature=1.0):
        self.temperature = temperature

    def _fit(self, logits, labels):
        check_positive(self.temperature, "temperature")

    def _score(self, logits):
        temperature = check_positive(self.temperature, "temperature")

        def free(rows):
            return log_sum_exp(np.divide(rows, temperature, dtype=np.float64))

        return temperature * in_blocks(free, logits)


class TemperatureScaling(Scorer):
    """Highest calibrated probability softmax(z / T), "Calibrated" in the paper (§4, Appendix C).

    **Fit it on the validation split**: on the training split a network is near-perfect, and the
    temperature would be far too low. Sees the logits and the labels of that split, so it is not
    class-agnostic. T > 0 divides all logits of an input alike: no prediction ever changes.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, 2017,
    https://arxiv.org/abs/1706.04599. As in Appendix C, T minimises the negative log-likelihood by
    L-BFGS-B; we search over log T within ±10 from T = 1, with the analytic gradient.

    Args:
        max_iter: most L-BFGS-B iterations.

    Attributes:
        temperature_: T; above 1 the network was over-confident.
        nll_before_: mean negative log-likelihood of the fitted split at T = 1, in nats.
        nll_after_: the same at T = ``temperature_``.
        n_iter_: iterations used.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> validation = FeatureSet(np.zeros((4, 1)), np.tile([9.0, 0.0], (4, 1)), [0, 0, 0, 1])
        >>> scorer = TemperatureScaling().fit(validation)  # right 3 times of 4
        >>> scorer.score_samples(validation).round(3)
        array([0.75, 0.75, 0.75, 0.75])
        >>> round(scorer.temperature_, 3)  # 9 / log 3
        8.192
    """

    name = "Temperature scaling"
    reads = ("logits",)
    needs_labels = True
    fits_on = "validation"

    def __init__(self, max_iter=100):
        self.max_iter = max_iter

    def _fit(self, logits, labels):
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)

        def nll_and_gradient(log_temperature):
            inverse = np.exp(-log_temperature[0])
            nll, excess = in_blocks(partial(_nll_and_excess, inverse), logits, labels).T
            return nll.mean(), np.array([inverse * excess.mean()])

        self.nll_before_ = float(nll_and_gradient(np.zeros(1))[0])
        result = minimize(
            nll_and_gradient,
            x0=np.zeros(1),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-10.0, 10.0)],  # no finite optimum where every prediction is right
            options={"maxiter": self.max_iter, "ftol": 1e-13, "gtol": 1e-9},
        )
        self.temperature_ = float(np.exp(result.x[0]))
        self.nll_after_ = float(result.fun)
        self.n_iter_ = int(result.nit)
        if result.status == 1:  # SciPy's code for "stopped at maxiter"
            warnings.warn(
                f"TemperatureScaling stopped after max_iter={self.max_iter} iterations "
                "before it converged: raise max_iter",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _score(self, logits):
        self._check_fitted("temperature_")
        return in_blocks(partial(_max_softmax, temperature=self.temperature_), logits)

    def log_odds(self, batch):
        """Log-odds of the calibrated score, see :meth:`MaxSoftmax.log_odds`."""
        (logits,) = self._read_like_fitted(batch)
        self._check_fitted("temperature_")
        return in_blocks(partial(_log_odds, temperature=self.temperature_), logits)

    def calibrated_probabilities(self, batch):
        """Class probabilities softmax(z / T).

        Args:
            batch: FeatureSet of n inputs.

        Returns:
            float64 (n, c), rows sum to 1, with the predictions of the raw logits.

        Raises:
            TypeError: ``batch`` is no FeatureSet.
            ValueError: it has another number of classes than ``fit`` saw.
            sklearn.exceptions.NotFittedError: ``fit`` must come first.
        """
        (logits,) = self._read_like_fitted(batch)
        self._check_fitted("temperature_")
        return softmax(logits.astype(np.float64) / self.temperature_, axis=1)


def _nll_and_excess(inverse, logits, labels):
    """Of each row: −log softmax(z / T)_y, and z_y less its expectation; (b, 2)."""
    logits = logits.astype(np.float64)  # (b, c)
    log_probabilities = log_softmax(logits * inverse, axis=1)
    expected = (np.exp(log_probabilities) * logits).sum(axis=1)
    of_label = [
        np.take_along_axis(z, labels[:, None], 1)[:, 0] for z in (log_probabilities, logits)
    ]
    return np.stack([-of_label[0], of_label[1] - expected], axis=1)


def log_sum_exp(logits):
    """log Σ exp of each row of logits, float64 (n, c) → (n,), without overflow.

    By torch, which takes a quarter of SciPy's time.
    """
    return torch.logsumexp(torch.from_numpy(logits), dim=1).numpy()


def _max_softmax(logits, temperature=1.0):
    """Highest softmax probability of logits (n, c), in float64, without overflow."""
    logits = np.divide(logits, temperature, dtype=np.float64)
    return np.exp(logits.max(axis=1) - log_sum_exp(logits))


def _log_odds(logits, temperature=1.0):
    """Log-odds of the highest softmax probability: its logit against all others together."""
    logits = np.divide(logits, temperature, dtype=np.float64)
    rows, best = np.arange(len(logits)), logits.argmax(axis=1)
    others = logits.copy()
    others[rows, best] = -np.inf
    return logits[rows, best] - log_sum_exp(others)
