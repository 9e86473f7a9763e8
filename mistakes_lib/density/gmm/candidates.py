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
FEWEST_FEATURES = 16  # a product over fewer is not worth its while
PARTS = 8, 4, 2  # the first product sees one feature in so many
PROBES = 256  # rows on which it is tried whether they suffice
PROBED_FEW = 1 / 16  # share of the pairs that they may leave
FEW_OF_SOME = 1 / 48  # share of (row, component) pairs up to which no second product is needed
FEW = 1 / 8  # share of pairs up to which evaluating them one by one pays
UNITS = 1e-17, 1e17  # spreads of features whose squares float32 can hold


class Candidates:
    """The pairs of rows and components that may matter under one mixture.

    Args:
        mixture: :class:`~mistakes_lib.density.gmm.em.Mixture`.
    """

    def __init__(self, mixture):
        spread = (mixture.weights @ (mixture.variances + mixture.means.square())).sqrt()  # (d,)
        d, log_norms = len(spread), mixture.log_norms()
        self.stages = []
        if UNITS[0] < spread.min() and spread.max() < UNITS[1]:
            self.stages = [(UpperBound(mixture, log_norms, 0, d), FEW)]
        # How much components differ in each feature, for their own spread.
        information = mixture.weights @ (spread.square() / mixture.variances).log()  # (d,)
        for m in (d // part for part in PARTS if self.stages and d // part >= FEWEST_FEATURES):
            start = int(information[: d // m * m].view(-1, m).sum(dim=1).argmax()) * m
            first = UpperBound(mixture, log_norms, start, start + m)
            if _leaves_few(first, mixture, log_norms):
                self.stages.insert(0, (first, FEW_OF_SOME))
                break

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
            matters = _at_least(upper, bound.least(joint - NEGLIGIBLE)[:, None])
            matters[each, best] = False
            if matters.count_nonzero() <= few * matters.numel():
                row, component = _where(matters)
                others = log_joint_of(row, component) if len(row) else joint[:0]
                pairs = (each, row), (best, component), (joint, others)
                return tuple(torch.cat(parts) for parts in pairs)
        return None


def _leaves_few(bound, mixture, log_norms):
    """Whether a bound rules out most components of rows near the means of some of them."""
    k, d = mixture.means.shape
    some = torch.linspace(0, k - 1, min(k, PROBES), device=mixture.means.device).long()
    own = log_norms[some] - 0.5 * d  # about the log-joint of a row of that component
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
        log_norms: its log norms, (K,).
        start, stop: the features, a range of them.
    """

    def __init__(self, mixture, log_norms, start, stop):
        features = slice(start, stop)
        d = mixture.means.shape[1]
        self.parts = features, slice(d + start, d + stop)  # of [x, x²]
        means, precisions = mixture.means[:, features], 1 / mixture.variances[:, features]
        energy = (means.square() * precisions).sum(dim=1)  # (K,)
        self.highest = log_norms.max()
        self.rounding = rounding(stop - start, torch.float32)
        size = 3 * energy + log_norms.abs()
        self.error = torch.nan_to_num(self.rounding * size, posinf=0).float()  # (K,)
        weight = torch.cat([means * precisions, -0.5 * precisions], dim=1)
        self.product = Affine(weight.float(), (log_norms - 0.5 * energy + self.error).float())

    def __call__(self, stacked):
        m = self.parts[0].stop - self.parts[0].start
        if 2 * m == stacked.shape[1]:
            return self.product(stacked.float())
        some = torch.empty(len(stacked), 2 * m, device=stacked.device)
        for half, part in zip(some.split(m, dim=1), self.parts, strict=True):
            half.copy_(stacked[:, part])
        return self.product(some)

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
    if out is None:
        return torch.cat([rows, rows.square()], dim=1)
    d = rows.shape[1]
    out[:, :d] = rows
    torch.mul(rows, rows, out=out[:, d:])
    return out


def _argmax(values):
    """Where each row is largest; NumPy is several times as fast at it."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argmax(values.numpy(), axis=1))
    return values.argmax(dim=1)


def _at_least(values, least):
    """values ≥ least; NumPy compares by rows twice as fast."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy() >= least.numpy())
    return values >= least


def _where(mask):
    """Rows and columns of what is true in a mask (n, k)."""
    if mask.device.type == "cpu":  # again NumPy is faster
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
        row = flat.div(mask.shape[1], rounding_mode="floor")
        return row, flat - row * mask.shape[1]
    return mask.nonzero(as_tuple=True)
