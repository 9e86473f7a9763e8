"""Detectors that measure how far the features lie from those of the training split."""

from numbers import Integral

import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_scalar

from mistakes_lib.scores.base import Scorer
from mistakes_lib.scores.nearest import kth_nearest
from mistakes_lib.support.blocks import in_blocks, row_blocks
from mistakes_lib.support.checks import check_positive

__all__ = ["Mahalanobis", "NearestNeighbors", "RelativeMahalanobis"]

BLOCK_ROWS = 1024


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
        whitening_: float64 (d, r), Σ⁺ = ``whitening_ whitening_ᵀ``, r the rank of Σ.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> features = [[-1.0, 0], [1, 0], [0, -1], [0, 1]]
        >>> train = FeatureSet(features, np.zeros((4, 2)), [0, 0, 0, 0])
        >>> scorer = Mahalanobis().fit(train)  # variance 1/2 along each axis
        >>> scorer.score_samples(FeatureSet([[1.0, 0], [3, 4]], np.zeros((2, 2)))).round(6)
        array([ -2., -50.])
    """

    name = "Mahalanobis"
    needs_labels = True

    def __init__(self, rcond=1e-12):
        self.rcond = rcond

    def _fit(self, features, labels):
        check_positive(self.rcond, "rcond")
        self.classes_, members = np.unique(labels, return_inverse=True)
        self.means_ = _means(features, members, len(self.classes_))
        self.whitening_ = _whitening(features, self.means_, members, self.rcond)

    def _score(self, features):
        self._check_fitted("whitening_")
        return -_squared_distances(features, self.means_, self.whitening_)


class RelativeMahalanobis(Mahalanobis):
    """How much nearer the features are to a class mean than to the mean of all (§4's baseline).

    The score is max_c −[(F − μ_c)ᵀ Σ⁺ (F − μ_c) − (F − μ_0)ᵀ Σ_0⁺ (F − μ_0)]: the squared
    Mahalanobis distance less that under one Gaussian N(μ_0, Σ_0) of all features, so that
    directions which tell no class from another count less. Both covariances are divided by n. Sees
    the features and labels of the training split: class-conditional. A class without a training
    input is left out.

    Source: Ren et al., *A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection*,
    2021, https://arxiv.org/abs/2106.09022, eq. 3 (there the score is −RMD).

    Args:
        rcond: as in :class:`Mahalanobis`, for both covariances.

    Attributes:
        classes_, means_, whitening_: as in :class:`Mahalanobis`.
        background_mean_: μ_0, float64 (d,).
        background_whitening_: float64 (d, r), the same for Σ_0⁺.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> features = [[-3.0, -1], [-3, 1], [3, -1], [3, 1]]
        >>> train = FeatureSet(features, np.zeros((4, 2)), [0, 0, 1, 1])
        >>> scorer = RelativeMahalanobis().fit(train)
        >>> far_along_either_axis = FeatureSet([[3.0, 9], [12, 0]], np.zeros((2, 2)))
        >>> scorer.score_samples(far_along_either_axis).round(6)  # axis 2 tells no classes apart
        array([ 1., 16.])
    """

    name = "Relative Mahalanobis"

    def _fit(self, features, labels):
        super()._fit(features, labels)
        self.background_mean_ = features.mean(axis=0, dtype=np.float64)
        only, mean = np.zeros(len(features), dtype=np.int64), self.background_mean_[None]
        self.background_whitening_ = _whitening(features, mean, only, self.rcond)

    def _score(self, features):
        nearest_class = super()._score(features)
        background = _squared_distances(
            features, self.background_mean_[None], self.background_whitening_
        )
        return nearest_class + background


class NearestNeighbors(Scorer):
    """Minus the distance to the k-th nearest training features, all scaled to length 1.

    Sees the training features only, no labels and no logits: class-agnostic. The search is exact
    and goes block by block through both the inputs scored and the training features, which may be
    mapped from a file: memory grows with neither. A training input that is scored has itself as its
    first neighbor.

    Source: Sun et al., *Out-of-Distribution Detection with Deep Nearest Neighbors*, 2022,
    https://arxiv.org/abs/2204.06507, whose k on CIFAR-10 is 50 (200 on CIFAR-100, 1000 on
    ImageNet).

    Args:
        k: which neighbor counts, 1 … number of training inputs.

    Attributes:
        features_: the training features themselves, float32 (n, d), not a copy.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> train = FeatureSet([[2.0, 0.0], [0.0, 5.0]], np.zeros((2, 2)))
        >>> batch = FeatureSet([[7.0, 0.0], [-1.0, 0.0]], np.zeros((2, 2)))
        >>> NearestNeighbors(k=1).fit(train).score_samples(batch).round(6) + 0.0
        array([ 0.      , -1.414214])
    """

    name = "Nearest neighbors"
    class_agnostic = True
    keeps_inputs = True
    needs_memory = True

    def __init__(self, k=50):
        self.k = k

    def _fit(self, features, labels):
        check_scalar(self.k, "k", Integral, min_val=1)
        if len(features) < self.k:
            raise ValueError(
                f"k={self.k} neighbors need as many training inputs, but there are {len(features)}"
            )
        self.features_ = features

    def _fitted(self):
        return {"features": self.features_}, {}

    def _restore(self, arrays, metadata):
        # Files of an earlier version hold the features scaled to length 1 already.
        self.features_ = arrays["features" if "features" in arrays else "directions"]

    def _score(self, features):
        self._check_fitted("features_")
        return -in_blocks(lambda rows: kth_nearest(rows, self.features_, self.k), features)


def _means(features, members, k):
    """Means of the rows (n, d) with each number 0 … k − 1, float64 (k, d), in blocks of rows."""
    sums = np.zeros((k, features.shape[1]))
    for block in row_blocks(len(features)):
        own = members[block]
        indicator = csr_array((np.ones(len(own)), (own, np.arange(len(own)))), (k, len(own)))
        sums += indicator @ features[block].astype(np.float64)
    return sums / np.bincount(members, minlength=k)[:, None]


def _whitening(features, means, members, rcond):
    """W (d, r) with W Wᵀ the pseudo-inverse of the covariance of features (n, d) about means.

    ``members`` (n,) are the numbers of the rows' means (k, d). Only a block of rows is ever copied.
    """
    covariance = np.zeros((features.shape[1], features.shape[1]))
    for start in range(0, len(features), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        centred = features[block] - means[members[block]]  # float64
        covariance += centred.T @ centred
    variances, directions = np.linalg.eigh(covariance / len(features))  # ascending
    if variances[-1] <= (np.finfo(np.float32).eps * max(features.max(), -features.min())) ** 2:
        raise ValueError(
            "the features do not vary within any class, so they have no covariance: "
            "fit on more inputs of each class"
        )
    kept = variances > rcond * variances[-1]
    return directions[:, kept] / np.sqrt(variances[kept])


def _squared_distances(features, means, whitening):
    """Squared Mahalanobis distances of (n, d) to the nearest of (k, d), float64 (n,)."""
    # In whitened coordinates the distance is Euclidean: one matrix product, in blocks that stay in
    # the processor's cache. Shifting both sides first keeps the squares small.
    origin = means.mean(axis=0)
    centres = (means - origin) @ whitening  # (k, r)
    blocks = np.array_split(features, max(1, len(features) // BLOCK_ROWS))
    whitened = ((block - origin) @ whitening for block in blocks)
    distances = (euclidean_distances(block, centres, squared=True) for block in whitened)
    return np.concatenate([block.min(axis=1) for block in distances])
