"""Virtual-logit matching: what the network says against what its last layer can't see."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from mistakes_lib.scores.base import Scorer
from mistakes_lib.scores.logits import log_sum_exp
from mistakes_lib.support.blocks import in_blocks, row_blocks

__all__ = ["ViM"]

ROUNDING = 1e-6  # share of the largest deviation below which a direction is float32's rounding
UNEXPLAINED = 0.01  # share of the logits' variance that an affine map may leave unexplained


class ViM(Scorer):
    """Energy of the logits less a virtual logit: how far the features leave their usual subspace.

    The score is logsumexp(z) − α ‖Rᵀ(F − u)‖. About the origin u = −W⁺b, where all logits are 0,
    the training features spread mostly along ``dim`` principal directions; R holds the remaining
    ones. α makes the mean virtual logit of the training split as large as its mean highest logit.
    The softmax over (z, virtual logit) gives the virtual class a probability that falls as the
    score rises: the two rank inputs alike.

    Sees the features and logits of the training split, no labels, but the logits are the classes':
    not class-agnostic. The head (W, b) is read off both by least squares, which is exact up to
    rounding, as logits are affine in the features. Features that never vary tell nothing of their
    weights; these then count as 0. ``fit`` and scores read the inputs block by block.

    Source: Wang et al., *ViM: Out-Of-Distribution with Virtual-logit Matching*, 2022,
    https://arxiv.org/abs/2203.10807, eq. 4–7.

    Args:
        dim: number of principal directions, 0 … d − 1; None takes the paper's rule: 1000 from
            d = 2048 on, 512 from d = 768 on, else d // 2.

    Attributes:
        origin_: u, float64 (d,).
        residual_: R, float64 (d, d − dim), orthonormal columns.
        alpha_: α > 0, logits per unit of the features.

    Raises:
        ValueError: at ``fit``, logits that are no affine function of the features, a mean highest
            logit of at most 0 (the score would turn round), features without a residual, or
            ``dim`` not below d.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> rng = np.random.default_rng(0)
        >>> features = rng.normal(size=(100, 4)) * [3, 3, 0.1, 0.1]
        >>> head = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])
        >>> scorer = ViM().fit(FeatureSet(features, features @ head.T))
        >>> same_logits = FeatureSet([[3.0, 0, 0, 0], [3, 0, 1, 0]], [[3.0, 0], [3, 0]])
        >>> inside, outside = scorer.score_samples(same_logits)
        >>> bool(inside > outside)
        True
    """

    name = "ViM"
    reads = ("features", "logits")
    needs_memory = True

    def __init__(self, dim=None):
        self.dim = dim

    def _fit(self, features, logits, labels):
        d = features.shape[1]
        dim = _usual_dim(d) if self.dim is None else self.dim
        check_scalar(dim, "dim", Integral, min_val=0, max_val=d - 1)
        highest = logits.max(axis=1).mean(dtype=np.float64)
        if highest <= 0:
            raise ValueError(
                "ViM scales its virtual logit by the mean highest logit, which must be above 0, "
                f"but is {highest:.4g}: pass the head's own logits, not log-probabilities"
            )
        mean = features.mean(axis=0, dtype=np.float64)  # (d,)
        mean_logits = logits.mean(axis=0, dtype=np.float64)  # (c,)
        moments = _moments(features, logits, mean, mean_logits)
        weight = _weight(*moments)  # (c, d)
        bias = mean_logits - weight @ mean
        # Singular values that float32 can't tell from 0 would put the origin anywhere.
        origin = -np.linalg.pinv(weight, rcond=d * np.finfo(np.float32).eps) @ bias  # (d,)
        shift = mean - origin
        about_origin = moments[0] / len(features) + np.outer(shift, shift)
        _, directions = np.linalg.eigh(about_origin)  # ascending
        residual = directions[:, : d - dim]
        length = in_blocks(partial(_length, origin, residual), features).mean()
        if length <= np.finfo(np.float32).eps * max(features.max(), -features.min()):
            raise ValueError(
                f"the training features lie in dim={dim} directions and leave no residual: "
                "lower dim, or pass more training inputs"
            )
        self.origin_, self.residual_, self.alpha_ = origin, residual, float(highest / length)

    def _score(self, features, logits):
        self._check_fitted("alpha_")
        return in_blocks(self._score_block, features, logits)

    def _score_block(self, features, logits):
        energy = log_sum_exp(logits.astype(np.float64))
        return energy - self.alpha_ * _length(self.origin_, self.residual_, features)


def _length(origin, residual, features):
    """Lengths (b,) of the part of features (b, d), about the origin, in the residual directions."""
    return np.linalg.norm((features - origin) @ residual, axis=1)


def _usual_dim(d):
    """The paper's number of principal directions for d features (its §5)."""
    return 1000 if d >= 2048 else 512 if d >= 768 else d // 2


def _moments(features, logits, mean, mean_logits):
    """Sums over all rows, about the means: features with features (d, d), features with logits
    (d, c), and the squares of the logits. Only a block of rows is ever copied.
    """
    d, c = len(mean), len(mean_logits)
    scatter, cross, squares = np.zeros((d, d)), np.zeros((d, c)), 0.0
    for block in row_blocks(len(features)):
        own, own_logits = features[block] - mean, logits[block] - mean_logits  # float64
        scatter += own.T @ own
        cross += own.T @ own_logits
        squares += np.square(own_logits).sum()
    return scatter, cross, squares


def _weight(scatter, cross, squares):
    """Weights (c, d) of the affine map from features to logits, by least squares."""
    variances, directions = np.linalg.eigh(scatter)  # ascending
    # Directions that hold only float32's rounding are left out.
    kept = variances > ROUNDING**2 * variances[-1]
    directions = directions[:, kept]
    weight = directions @ ((directions.T @ cross) / variances[kept, None])  # (d, c)
    unexplained = squares - 2 * (weight * cross).sum() + (weight * (scatter @ weight)).sum()
    if unexplained > UNEXPLAINED * squares:
        raise ValueError(
            f"the logits are no affine function of the features ({unexplained / squares:.0%} of "
            "their variance is left): ViM needs the features that enter the network's last linear "
            "layer"
        )
    return weight.T
