"""Detectors that ask a density how likely the features are."""

from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from mistakes_lib import density as densities
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.density.gmm.gmm import MAX_ITER
from mistakes_lib.scores.base import Scorer
from mistakes_lib.support.blocks import in_blocks, row_blocks

__all__ = ["LogLikelihood", "ZhengHong"]

MANY = 50_000  # inputs of a class from which on they are not copied together


class LogLikelihood(Scorer):
    """The paper's score: log-likelihood log p(F) of the features under a density (§3.2–3.3).

    Sees the training features only, no labels and no logits: class-agnostic. An unfitted density
    is cloned and fitted on them; a fitted one is used as it is, and then ``fit`` only checks, and
    ``clone`` keeps it.

    Args:
        density: an estimator with ``fit(X)`` and ``score_samples(X)`` in nats, such as
            :class:`~mistakes_lib.density.DiagonalGMM`.

    Attributes:
        density_: the fitted density.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> from sklearn.mixture import GaussianMixture
        >>> train = FeatureSet([[0.0], [1.0], [2.0]], np.zeros((3, 2)))
        >>> scorer = LogLikelihood(GaussianMixture(1)).fit(train)
        >>> near, far = scorer.score_samples(FeatureSet([[1.0], [9.0]], np.zeros((2, 2))))
        >>> bool(near > far)
        True
    """

    name = "Log-likelihood"
    class_agnostic = True

    def __init__(self, density):
        self.density = density

    def __sklearn_clone__(self):
        """A fitted density stays what it is; an unfitted one is cloned as scikit-learn does."""
        return type(self)(self.density) if _is_fitted(self.density) else super().__sklearn_clone__()

    def set_params(self, **params):
        """Set parameters, as scikit-learn does; a fitted density's cannot be set any more.

        Raises:
            ValueError: a parameter of a density that is fitted already.
        """
        inner = [name for name in params if name.startswith("density__")]
        if inner and _is_fitted(params.get("density", self.density)):
            raise ValueError(
                f"{inner[0]}: the density is fitted already, so that changing its parameters would "
                "change nothing: give LogLikelihood an unfitted one"
            )
        return super().set_params(**params)

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

    def _parameters(self):
        return {"density": None}  # the fitted one takes its place

    def _fitted(self):
        own = [name for name in densities.__all__ if name not in ("Density", "NetworkDensity")]
        if type(self.density_).__name__ not in own:
            raise TypeError(
                f"a {type(self.density_).__name__} cannot be saved: take one of {', '.join(own)}"
            )
        arrays, metadata = self.density_.pack()
        return arrays, {"density": metadata}

    def _restore(self, arrays, metadata):
        kind = getattr(densities, metadata["density"]["kind"])
        self.density = self.density_ = kind.unpack(arrays, metadata["density"])


class ZhengHong(Scorer):
    """Log-likelihood of the features under a mixture of the class that the network predicts (§4).

    The "I-defender" on the last hidden layer: one :class:`~mistakes_lib.density.DiagonalGMM` for
    each class c, fitted on the features of the training inputs labelled c; an input scores
    log p(F | ŷ), ŷ its predicted class. Sees the features and labels of the training split, and at
    scoring the logits (only for their argmax): class-conditional.

    Source: Zheng & Hong, *Robust Detection of Adversarial Attacks by Modeling the Intrinsic
    Properties of Deep Neural Networks*, 2018 (NeurIPS; not on arXiv),
    https://proceedings.neurips.cc/paper/2018/hash/e7a425c6ece20cbc9056f98699b53c6f-Abstract.html

    Args:
        n_components: Gaussians of each class; a class with fewer training inputs gets one for each
            of them. One for each of CIFAR-100's classes is as many as one GMM-100 has.
        max_iter: most EM iterations of each mixture.
        reg_covar: added to every variance, in squared units of the features; ``fit_detector`` and
            the report take a millionth of the features' variance.
        device: "auto", "cpu", "cuda", …
        random_state: seed of the mixtures' starts.

    Attributes:
        mixtures_: list of c fitted mixtures, in the order of the classes.

    Raises:
        ValueError: at ``fit``, a class with fewer than two training inputs: the network may predict
            it, and its features then have no density.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> rng = np.random.default_rng(0)
        >>> features = np.concatenate([rng.normal(-5, 1, (50, 2)), rng.normal(5, 1, (50, 2))])
        >>> train = FeatureSet(features, np.zeros((100, 2)), np.repeat([0, 1], 50))
        >>> scorer = ZhengHong(n_components=1, device="cpu").fit(train)
        >>> same = np.full((2, 2), 5.0)  # the same features, once taken for each class
        >>> wrong, right = scorer.score_samples(FeatureSet(same, [[1.0, 0.0], [0.0, 1.0]]))
        >>> bool(right > wrong + 50)  # nats
        True
    """

    name = "Zheng & Hong"
    reads = ("features", "logits")
    needs_labels = True

    def __init__(
        self,
        n_components=10,
        *,
        max_iter=MAX_ITER,
        reg_covar=1e-6,
        device="auto",
        random_state=None,
    ):
        self.n_components = n_components
        self.max_iter = max_iter
        self.reg_covar = reg_covar
        self.device = device
        self.random_state = random_state

    def _fit(self, features, logits, labels):
        check_scalar(self.n_components, "n_components", Integral, min_val=1)
        counts = np.bincount(labels, minlength=logits.shape[1])  # (c,)
        rarest = counts.argmin()
        if counts[rarest] < 2:
            raise ValueError(
                f"class {rarest} has {counts[rarest]} training inputs, but each of the "
                f"{len(counts)} classes needs at least 2 for its mixture: "
                "fit on a split that holds every class"
            )
        self.mixtures_ = [
            DiagonalGMM(
                min(self.n_components, count),
                max_iter=self.max_iter,
                reg_covar=self.reg_covar,
                device=self.device,
                random_state=self.random_state,
            ).fit(_rows(features, np.flatnonzero(labels == c)))
            for c, count in enumerate(counts.tolist())
        ]

    def _score(self, features, logits):
        self._check_fitted("mixtures_")
        return in_blocks(self._of_block, features, logits)

    def _of_block(self, features, logits):
        predictions = logits.argmax(axis=1)
        scores = np.empty(len(features))
        for c in np.unique(predictions):
            rows = predictions == c
            scores[rows] = self.mixtures_[c].score_samples(features[rows])
        return scores

    def _fitted(self):
        packed = [mixture.pack() for mixture in self.mixtures_]
        arrays = {f"{c}.{k}": v for c, (each, _) in enumerate(packed) for k, v in each.items()}
        return arrays, {"mixtures": [metadata for _, metadata in packed]}

    def _restore(self, arrays, metadata):
        own = [{} for _ in metadata["mixtures"]]
        for name, array in arrays.items():
            c, part = name.split(".", 1)
            own[int(c)][part] = array
        self.mixtures_ = [
            DiagonalGMM.unpack(each, facts)
            for each, facts in zip(own, metadata["mixtures"], strict=True)
        ]


def _rows(features, numbers):
    """Some of the rows: an array if they are few, else blocks that are read when they are used."""
    return features[numbers] if len(numbers) <= MANY else _Blocks(features, numbers)


class _Blocks:
    """Rows (n, d) with these numbers, in blocks, as often as they are wanted."""

    def __init__(self, features, numbers):
        self.features, self.numbers = features, numbers

    def __iter__(self):
        for rows in row_blocks(len(self.numbers)):
            yield self.features[self.numbers[rows]]


def _is_fitted(density):
    try:
        check_is_fitted(density)
    except NotFittedError:
        return False
    return True
