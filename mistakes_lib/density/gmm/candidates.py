"""Which components may matter to a row: upper bounds of the log-joint by products in float32.

A component matters to a row if its log-joint lies at most 40 nats below that of the best: e⁻⁴⁰ is
lost in a float64 sum. In hundreds of dimensions these are very few, and some of the features
suffice to rule out nearly all others, because each feature can only lower the log-joint

    log w_k N(x; k) = log norm_k − ½ Σ_j z_kj²,    z_kj = (x_j − μ_kj) / σ_kj.
"""

import math

import numpy as np
import torch

from mistakes_lib.density.gmm.products import Affine

__all__ = ["Candidates", "with_squares"]

NEGLIGIBLE = 40.0  # nats below a row's best component
FEWEST_FEATURES = 64  # a product over fewer is not worth dividing
PART = 4  # the first product sees one feature in so many
PROBES = 256  # rows on which it is tried whether that suffices
PROBED_FEW = 1 / 8
FEW_OF_SOME = 1 / 48  # share of (row, component) pairs up to which no second product is needed
FEW = 1 / 8  # share of pairs up to which evaluating them one by one pays


class Candidates:
    """The pairs of rows and components that may matter under one mixture.

    Args:
        mixture: :class:`~mistakes_lib.density.gmm.em.Mixture`.
    """

    def __init__(self, mixture):
        # Features in units of their own spread keep float32 in its range.
        scale = (mixture.weights @ (mixture.variances + mixture.means.square())).sqrt()  # (d,)
        d = len(scale)
        every = torch.arange(d, device=scale.device)
        self.stages = [(UpperBound(mixture, every, scale), FEW)]
        if d >= FEWEST_FEATURES:
            # The features in which components differ most, for their own spread.
            information = mixture.weights @ (scale.square() / mixture.variances).log()  # (d,)
            telling = information.argsort(descending=True, stable=True)[: d // PART].sort().values
            first = UpperBound(mixture, telling, scale)
            if _leaves_few(first, mixture):
                self.stages.insert(0, (first, FEW_OF_SOME))

    def pairs(self, stacked, log_joint_of):
        """Candidates of float64 rows.

        Args:
            stacked: [x, x²], tensor (b, 2d).
            log_joint_of: (rows, components), both (p,), by rows → exact log-joint of the pairs.

        Returns:
            (rows, components, log-joint), each (p,), those of each row's best candidate first;
            None if they are many, or beyond float32.
        """
        n, best, joint = len(stacked), None, None
        each = torch.arange(n, device=stacked.device)
        for bound, few in self.stages:
            upper = bound(stacked)  # (b, K)
            found = _argmax(upper)  # (b,)
            if not torch.isfinite(upper[each, found]).all():
                return None
            values = log_joint_of(each, found)
            if best is not None:
                higher = joint > values
                found, values = found.where(~higher, best), values.where(~higher, joint)
            best, joint = found, values
            matters = upper >= bound.least(joint - NEGLIGIBLE)[:, None]
            matters[each, best] = False
            if matters.count_nonzero() <= few * matters.numel():
                row, component = _where(matters)
                others = log_joint_of(row, component) if len(row) else joint[:0]
                pairs = (each, row), (best, component), (joint, others)
                return tuple(torch.cat(parts) for parts in pairs)
        return None


def _leaves_few(bound, mixture):
    """Whether a bound rules out most components of rows near the means of some of them."""
    k, d = mixture.means.shape
    some = torch.linspace(0, k - 1, min(k, PROBES), device=mixture.means.device).long()
    own = mixture.log_norms()[some] - 0.5 * d  # about the log-joint of a row of that component
    upper = bound(with_squares(mixture.means[some]))  # (PROBES, K)
    left = upper >= bound.least(own - NEGLIGIBLE)[:, None]
    return bool(left.count_nonzero() <= PROBED_FEW * left.numel())


class UpperBound:
    """An upper bound of the log-joint by some of the features, [x, x²] (b, 2d) → float32 (b, K).

    It allows for the rounding of a product in float32: a random walk of 2 m steps, four times its
    standard deviation, relative to the size of the terms, which is at most
    3 Σ μ²/σ² + |log norm| + 4 (log norm − log joint).

    Args:
        mixture: :class:`~mistakes_lib.density.gmm.em.Mixture`.
        features: numbers of the features, int64 (m,).
        scale: unit of each of all features, (d,).
    """

    def __init__(self, mixture, features, scale):
        self.features = None if len(features) == len(scale) else features
        self.d, self.scale = len(scale), scale[features]
        means, precisions = mixture.means[:, features], 1 / mixture.variances[:, features]
        log_norms, energy = mixture.log_norms(), (means.square() * precisions).sum(dim=1)  # (K,)
        self.highest = log_norms.max()
        self.rounding = rounding(len(features), torch.float32)
        error = torch.nan_to_num(self.rounding * (3 * energy + log_norms.abs()), posinf=0)
        scaled = torch.cat([means * precisions * self.scale, -0.5 * precisions * self.scale**2], 1)
        self.product = Affine(scaled.float(), (log_norms - 0.5 * energy + error).float())

    def __call__(self, stacked):
        rows = stacked[:, : self.d]
        some = rows if self.features is None else rows.index_select(1, self.features)
        return self.product(with_squares((some / self.scale).float()))

    def least(self, limit):
        """The bound, float32 (b,), of whatever has a log-joint of at least ``limit``, (b,)."""
        distance = (self.highest - limit).clamp_min(0)  # bounds ½ Σ z² of such a component
        least = limit - 4 * self.rounding * distance
        return (least - torch.finfo(torch.float32).eps * least.abs()).float()


def rounding(features, dtype):
    """What a product of [x, x²] may err by, relative to the size of its terms."""
    return 4 * math.sqrt(2 * features) * torch.finfo(dtype).eps / 2


def with_squares(rows, out=None):
    """[x, x²], (b, 2d), into ``out`` if it is given."""
    n, d = rows.shape
    stacked = rows.new_empty(n, 2 * d) if out is None else out
    stacked[:, :d] = rows
    torch.mul(rows, rows, out=stacked[:, d:])
    return stacked


def _argmax(values):
    """Where each row is largest; NumPy is several times as fast at it."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argmax(values.numpy(), axis=1))
    return values.argmax(dim=1)


def _where(mask):
    """Rows and columns of what is true in a mask (n, k)."""
    if mask.device.type == "cpu":  # again NumPy is faster
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
        row = flat.div(mask.shape[1], rounding_mode="floor")
        return row, flat - row * mask.shape[1]
    return mask.nonzero(as_tuple=True)
