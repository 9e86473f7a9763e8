"""One small class per detector: how far may a prediction be trusted (§3.3, §4)?

Every scorer learns from one :class:`~mistakes_lib.features.FeatureSet` and scores others. The law
for all of them: **a higher score means more trustworthy**.
"""

import warnings
from numbers import Integral

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.features import FeatureSet
from mistakes_lib.validation import check_positive

__all__ = [
    "Energy",
    "LogLikelihood",
    "Mahalanobis",
    "MaxLogit",
    "MaxSoftmax",
    "Scorer",
    "TemperatureScaling",
]


class Scorer(BaseEstimator):
    """What all detectors share: ``fit`` on a FeatureSet, ``score`` others, check what comes in.

    A detector says what it is by four class attributes and fills in ``_score`` and, if it learns,
    ``_fit``. It is a scikit-learn estimator: ``clone`` and ``get_params`` work.

    Attributes:
        name: short name for tables and legends.
        reads: "features" or "logits", the part of a FeatureSet that it looks at.
        class_agnostic: it looks at no classes at all, neither labels nor logits (§1).
        needs_labels: ``fit`` needs the labels of its FeatureSet.
        fits_on: "train" or "validation", the split to give to ``fit``.
    """

    name = None
    reads = "features"
    class_agnostic = False
    needs_labels = False
    fits_on = "train"

    def fit(self, train):
        """Learn from a FeatureSet of the split named by ``fits_on``.

        Args:
            train: FeatureSet of n inputs.

        Returns:
            The scorer itself.

        Raises:
            TypeError: ``train`` is no FeatureSet.
            ValueError: labels are needed, but ``train`` has none.
        """
        values = self._read(train)
        if self.needs_labels and train.labels is None:
            raise ValueError(
                f"{type(self).__name__}.fit needs labels: "
                f"pass the FeatureSet of the {self.fits_on} split with its labels"
            )
        self._fit(values, train.labels)
        self.n_columns_ = values.shape[1]
        return self

    def score(self, batch):
        """Score a FeatureSet.

        Args:
            batch: FeatureSet of n inputs; its labels are never looked at.

        Returns:
            float64 (n,), higher = more trustworthy.

        Raises:
            TypeError: ``batch`` is no FeatureSet.
            ValueError: it has another number of features or classes than ``fit`` saw.
            sklearn.exceptions.NotFittedError: ``fit`` must come first.
        """
        return np.asarray(self._score(self._read_like_fitted(batch)), dtype=np.float64)

    def _read(self, batch):
        if not isinstance(batch, FeatureSet):
            raise TypeError(
                f"{type(self).__name__} expects a FeatureSet, got {type(batch).__name__}: "
                "make one with extract_features or FeatureSet(features, logits, labels)"
            )
        return getattr(batch, self.reads)

    def _read_like_fitted(self, batch):
        values = self._read(batch)
        expected = getattr(self, "n_columns_", values.shape[1])
        if values.shape[1] != expected:
            raise ValueError(
                f"{type(self).__name__} was fitted on {expected} {self.reads}, but this FeatureSet "
                f"has {values.shape[1]}: score what the same classifier says"
            )
        return values

    def _check_fitted(self, attribute):
        check_is_fitted(
            self, attribute, msg=f"this %(name)s is not fitted yet: call fit({self.fits_on}) first"
        )

    def _fit(self, values, labels):
        """Learn from float32 values (n, d) or (n, c); most logit scores learn nothing."""

    def _score(self, values):
        raise NotImplementedError


class LogLikelihood(Scorer):
    """The paper's score: log-likelihood log p(F) of the features under a density (§3.2–3.3).

    Sees the training features only, no labels and no logits: class-agnostic. An unfitted density
    is cloned and fitted on them; a fitted one is used as it is, and then ``fit`` only checks.

    Args:
        density: an estimator with ``fit(X)`` and ``score_samples(X)`` in nats, such as
            :class:`~mistakes_lib.density.DiagonalGMM`.

    Attributes:
        density_: the fitted density.

    Example:
        >>> from sklearn.mixture import GaussianMixture
        >>> train = FeatureSet([[0.0], [1.0], [2.0]], np.zeros((3, 2)))
        >>> scorer = LogLikelihood(GaussianMixture(1)).fit(train)
        >>> near, far = scorer.score(FeatureSet([[1.0], [9.0]], np.zeros((2, 2))))
        >>> bool(near > far)
        True
    """

    name = "Log-likelihood"
    class_agnostic = True

    def __init__(self, density):
        self.density = density

    def _fit(self, features, labels):
        if _is_fitted(self.density):
            self.density_ = self.density
            self.density_.score_samples(features[:1])  # raises on another number of features
        else:
            self.density_ = clone(self.density).fit(features)

    def _score(self, features):
        density = getattr(self, "density_", self.density)
        if not _is_fitted(density):
            raise NotFittedError(
                "this LogLikelihood is not fitted yet: call fit(train) first, "
                "or give it a fitted density"
            )
        return density.score_samples(features)


class MaxSoftmax(Scorer):
    """Highest softmax probability of the logits, "Logits" in the paper's figures (§4).

    Learns nothing: ``fit`` may be left out. Reads the logits, so it is not class-agnostic.

    Source: Hendrycks & Gimpel, *A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks*, 2016, https://arxiv.org/abs/1610.02136

    Example:
        >>> batch = FeatureSet(np.zeros((2, 1)), [[0.0, 0.0], [0.0, np.log(3)]])
        >>> MaxSoftmax().score(batch).round(6)
        array([0.5 , 0.75])
    """

    name = "Max softmax"
    reads = "logits"

    def _score(self, logits):
        return _max_softmax(logits.astype(np.float64))


class MaxLogit(Scorer):
    """Highest logit, not normalised over the classes.

    Learns nothing: ``fit`` may be left out. Reads the logits, so it is not class-agnostic.

    Source: Hendrycks et al., *Scaling Out-of-Distribution Detection for Real-World Settings*, 2019,
    https://arxiv.org/abs/1911.11132

    Example:
        >>> MaxLogit().score(FeatureSet(np.zeros((1, 1)), [[1.0, 4.0]]))
        array([4.])
    """

    name = "Max logit"
    reads = "logits"

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
        >>> Energy().score(FeatureSet(np.zeros((1, 1)), [[0.0, np.log(3)]])).round(6)
        array([1.386294])
    """

    name = "Energy"
    reads = "logits"

    def __init__(self, temperature=1.0):
        self.temperature = temperature

    def _fit(self, logits, labels):
        check_positive(self.temperature, "temperature")

    def _score(self, logits):
        temperature = check_positive(self.temperature, "temperature")
        return temperature * logsumexp(logits.astype(np.float64) / temperature, axis=1)


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
        >>> validation = FeatureSet(np.zeros((4, 1)), np.tile([9.0, 0.0], (4, 1)), [0, 0, 0, 1])
        >>> scorer = TemperatureScaling().fit(validation)  # right 3 times of 4
        >>> scorer.score(validation).round(3)
        array([0.75, 0.75, 0.75, 0.75])
        >>> round(scorer.temperature_, 3)  # 9 / log 3
        8.192
    """

    name = "Temperature scaling"
    reads = "logits"
    needs_labels = True
    fits_on = "validation"

    def __init__(self, max_iter=100):
        self.max_iter = max_iter

    def _fit(self, logits, labels):
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)
        logits = logits.astype(np.float64)  # (n, c)
        label_logits = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]  # (n,)

        def nll_and_gradient(log_temperature):
            inverse = np.exp(-log_temperature[0])
            log_probabilities = log_softmax(logits * inverse, axis=1)
            expected_logits = (np.exp(log_probabilities) * logits).sum(axis=1)
            nll = -np.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()
            return nll, np.array([inverse * (label_logits - expected_logits).mean()])

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
        return _max_softmax(logits.astype(np.float64) / self.temperature_)

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
        logits = self._read_like_fitted(batch)
        self._check_fitted("temperature_")
        return softmax(logits.astype(np.float64) / self.temperature_, axis=1)


class Mahalanobis(Scorer):
    """Minus the squared Mahalanobis distance of the features to the nearest class mean (§4).

    The score is max_c −(F − μ_c)ᵀ Σ⁺ (F − μ_c) with one covariance Σ shared by all classes (divided
    by n). Sees the features and labels of the training split: class-conditional. A class without a
    training input has no mean and is left out (see ``classes_``).

    Source: Lee et al., *A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks*, 2018, https://arxiv.org/abs/1807.03888, eq. 2, on the last features,
    without input pre-processing and without a feature ensemble.

    Args:
        rcond: Σ⁺ is a pseudo-inverse: directions whose variance within the classes is at most
            ``rcond`` times the largest are left out. There float32 features hold only rounding.

    Attributes:
        classes_: int64 (k,), the classes that have a mean.
        means_: float64 (k, d).
        whitening_: float64 (d, r), Σ⁺ = whitening_ whitening_ᵀ, r the rank of Σ.

    Example:
        >>> features = [[-1.0, 0], [1, 0], [0, -1], [0, 1]]
        >>> train = FeatureSet(features, np.zeros((4, 2)), [0, 0, 0, 0])
        >>> scorer = Mahalanobis().fit(train)  # variance 1/2 along each axis
        >>> scorer.score(FeatureSet([[1.0, 0], [3, 4]], np.zeros((2, 2)))).round(6)
        array([ -2., -50.])
    """

    name = "Mahalanobis"
    needs_labels = True

    def __init__(self, rcond=1e-12):
        self.rcond = rcond

    def _fit(self, features, labels):
        check_positive(self.rcond, "rcond")
        features = features.astype(np.float64)  # (n, d)
        classes, members = np.unique(labels, return_inverse=True)
        means = np.stack([features[labels == c].mean(axis=0) for c in classes])  # (k, d)
        centred = features - means[members]
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        kept = variances > self.rcond * variances[-1]
        if variances[-1] <= (np.finfo(np.float32).eps * np.abs(features).max()) ** 2:
            raise ValueError(
                "the features do not vary within any class, so they have no covariance: "
                "fit on more inputs of each class"
            )
        self.classes_ = classes
        self.means_ = means
        self.whitening_ = directions[:, kept] / np.sqrt(variances[kept])  # (d, r)

    def _score(self, features):
        self._check_fitted("whitening_")
        # In whitened coordinates the distance is Euclidean: one matrix product, (n, k) memory.
        # Shifting both sides first keeps the squares small.
        origin = self.means_.mean(axis=0)
        return -euclidean_distances(
            (features - origin) @ self.whitening_,
            (self.means_ - origin) @ self.whitening_,
            squared=True,
        ).min(axis=1)


def _max_softmax(logits):
    """Highest softmax probability of float64 logits (n, c), without overflow."""
    return np.exp(logits.max(axis=1) - logsumexp(logits, axis=1))


def _is_fitted(density):
    try:
        check_is_fitted(density)
    except NotFittedError:
        return False
    return True
