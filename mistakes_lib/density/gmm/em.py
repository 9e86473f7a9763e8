"""EM of a diagonal Gaussian mixture from sufficient statistics of blocks of rows (§3.2, eq. 3–5).

In hundreds of dimensions a row has a responsibility that float64 can tell from 0 for very few of
the components. A product in float32 finds these, with room for its rounding; only they are
evaluated, in float64, and enter the sums. The results are those of evaluating all components in
float64, to rounding.
"""

import math
import operator
from dataclasses import dataclass
from functools import reduce

import torch

from mistakes_lib.density.gmm.products import Affine

__all__ = [
    "Expectation",
    "Mixture",
    "Statistics",
    "maximise",
    "one_hot_statistics",
    "sum_statistics",
    "with_squares",
]

NEGLIGIBLE = 40.0  # nats below a row's best component: e⁻⁴⁰ is lost in a float64 sum
FEW = 1 / 32  # share of (row, component) pairs up to which evaluating them one by one pays
MANY_COMPONENTS = 32  # from so many on it pays to look for the few
PAIRS = 1024  # evaluated at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Mixture:
    """Weights (K,), means (K, d) and variances (K, d), float64 tensors, about the centre."""

    weights: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor

    def to(self, device):
        """The same on another device."""
        return Mixture(self.weights.to(device), self.means.to(device), self.variances.to(device))

    def log_norms(self):
        """log w_k − ½ Σ_d log 2π σ²_kd, (K,): the log-joint of a component's own mean."""
        return self.weights.log() - 0.5 * (2 * math.pi * self.variances).log().sum(dim=1)

    def log_joint_terms(self):
        """W (2d, K) and c (K,) with log w_k N(x; k) = [x, x²] W + c: one matrix product."""
        precisions = 1 / self.variances
        scaled = self.means * precisions
        constant = self.log_norms() - 0.5 * (self.means * scaled).sum(dim=1)
        return torch.cat([scaled, -0.5 * precisions], dim=1).T.contiguous(), constant


@dataclass(frozen=True)
class Statistics:
    """What an M-step needs to know of some rows; that of two sets of rows adds up.

    Attributes:
        n: number of rows.
        log_likelihood: its sum over the rows, nats.
        counts: expected rows of each component, (K,).
        moments: sums of [x, x²] weighted by responsibility, (K, 2d).
    """

    n: int
    log_likelihood: torch.Tensor
    counts: torch.Tensor
    moments: torch.Tensor

    def __add__(self, other):
        return Statistics(
            self.n + other.n,
            self.log_likelihood + other.log_likelihood,
            self.counts + other.counts,
            self.moments + other.moments,
        )

    def to(self, device):
        """The same on another device."""
        tensors = (self.log_likelihood, self.counts, self.moments)
        return Statistics(self.n, *(tensor.to(device) for tensor in tensors))


class Expectation:
    """The E-step under one mixture, for one block of rows after the other.

    Args:
        mixture: :class:`Mixture`.
        device: where the rows are; by default where the mixture is.
    """

    def __init__(self, mixture, device=None):
        mixture = mixture if device is None else mixture.to(device)
        self.mixture = mixture
        self.weight, self.constant = mixture.log_joint_terms()
        self.finds_few = len(mixture.weights) >= MANY_COMPONENTS
        if not self.finds_few:
            return
        means, precisions = mixture.means, 1 / mixture.variances
        self.log_norms, self.inverse_deviations = mixture.log_norms(), precisions.sqrt()
        # Features in units of their own spread keep float32 in its range.
        self.scale = (mixture.weights @ (mixture.variances + means.square())).sqrt()  # (d,)
        scaled = torch.cat([means * precisions * self.scale, -0.5 * precisions * self.scale**2], 1)
        # The product's rounding: a random walk of 2d steps, four times its standard deviation,
        # relative to the terms' size, at most 3 Σ μ²/σ² + 4 (log norm − log joint) + |log norm|.
        unit = torch.finfo(torch.float32).eps / 2
        self.rounding = 4 * math.sqrt(2 * means.shape[1]) * unit
        size = 3 * (means.square() * precisions).sum(dim=1) + self.log_norms.abs()
        self.error = torch.nan_to_num(self.rounding * size, posinf=0).float()  # (K,)
        self.upper = Affine(scaled.float(), (self.constant + self.error).float())

    def log_joint(self, rows):
        """log w_k N(x; k) of float64 rows (b, d): float64 (b, K)."""
        return torch.addmm(self.constant, with_squares(rows), self.weight)

    def log_likelihood(self, rows):
        """log p(x) of float64 rows (b, d) in nats: float64 (b,)."""
        pairs = self._pairs(rows)
        if pairs is None:
            return self.log_joint(rows).logsumexp(dim=1)
        row, component = pairs
        return _logsumexp(self._log_joint_of(rows, row, component), row, len(rows))

    def statistics(self, rows):
        """:class:`Statistics` of float64 rows (b, d)."""
        pairs, stacked = self._pairs(rows), with_squares(rows)  # stacked (b, 2d)
        if pairs is None:
            log_joint = torch.addmm(self.constant, stacked, self.weight)  # (b, K)
            log_likelihood = log_joint.logsumexp(dim=1)
            responsibility = log_joint.sub_(log_likelihood[:, None]).exp_()
            counts, moments = responsibility.sum(dim=0), responsibility.T @ stacked
        else:
            row, component = pairs
            log_joint = self._log_joint_of(rows, row, component)  # (p,)
            log_likelihood = _logsumexp(log_joint, row, len(rows))
            responsibility = (log_joint - log_likelihood[row]).exp()
            counts = torch.zeros_like(self.constant).index_add_(0, component, responsibility)
            matrix = torch.sparse_coo_tensor(
                torch.stack([component, row]),
                responsibility,
                (len(counts), len(rows)),
                check_invariants=False,
            )
            moments = torch.sparse.mm(matrix, stacked)
        return Statistics(len(rows), log_likelihood.sum(), counts, moments)

    def _pairs(self, rows):
        """Rows and components (p,), (p,) that may matter, by rows; None if they are many."""
        if not self.finds_few:
            return None
        upper = self.upper(with_squares((rows / self.scale).float()))  # (b, K)
        best, at = upper.max(dim=1)  # (b,)
        distance = (self.log_norms.max() - best).clamp_min(0).float()  # bounds the largest ½ Σ z²
        limit = best - 2 * self.error[at] - 8 * self.rounding * (distance + NEGLIGIBLE) - NEGLIGIBLE
        matters = upper >= limit[:, None]
        # Too many, or numbers beyond float32: then all of this mixture's rows are done in full.
        self.finds_few = bool(
            torch.isfinite(best).all() and matters.count_nonzero() <= FEW * matters.numel()
        )
        return matters.nonzero(as_tuple=True) if self.finds_few else None

    def _log_joint_of(self, rows, row, component):
        """log w_k N(x; k) of the pairs (p,), without the cancellation of [x, x²] W."""
        squares = torch.empty(len(row), dtype=rows.dtype, device=rows.device)
        for start in range(0, len(row), PAIRS):
            part = slice(start, start + PAIRS)
            z = rows[row[part]].sub_(self.mixture.means[component[part]])
            z.mul_(self.inverse_deviations[component[part]])
            squares[part] = torch.linalg.vecdot(z, z)
        return self.log_norms[component] - 0.5 * squares


def one_hot_statistics(rows, components, n_components):
    """:class:`Statistics` of rows (b, d) that belong wholly to one component each, int64 (b,)."""
    stacked = with_squares(rows)
    counts = torch.bincount(components, minlength=n_components).to(rows)
    moments = stacked.new_zeros(n_components, stacked.shape[1]).index_add_(0, components, stacked)
    return Statistics(len(rows), rows.new_zeros(()), counts, moments)


def sum_statistics(parts):
    """The :class:`Statistics` of all rows from those of their blocks."""
    return reduce(operator.add, parts)


def maximise(statistics, before, reg_covar):
    """M-step (eq. 5): the mixture with the highest expected log-likelihood.

    Args:
        statistics: :class:`Statistics` of all rows.
        before: the mixture before; a component that has lost all its rows keeps its place.
        reg_covar: added to the variances.

    Returns:
        Mixture.

    Raises:
        ValueError: a variance is not above 0.
    """
    counts = statistics.counts + 10 * torch.finfo(torch.float64).eps  # as scikit-learn does
    mean, mean_of_squares = (statistics.moments / counts[:, None]).chunk(2, dim=1)  # (K, d) each
    variances = (mean_of_squares - mean.square()).clamp_min(0) + reg_covar
    empty = (counts < 1e-12)[:, None]
    means = torch.where(empty, before.means, mean)
    variances = torch.where(empty, before.variances, variances)
    if not (variances > 0).all():
        raise ValueError(
            "a variance is not above 0 (a constant feature, or a component with one row): "
            "raise reg_covar, drop constant features, or ask for fewer components"
        )
    return Mixture(counts / counts.sum(), means, variances)


def with_squares(rows):
    """[x, x²], (b, 2d)."""
    return torch.cat([rows, rows.square()], dim=1)


def _logsumexp(values, row, n):
    """log Σ exp of the values (p,) of each of n rows, each of which has one at least."""
    peak = values.new_full((n,), -math.inf).scatter_reduce(0, row, values, "amax")
    total = torch.zeros_like(peak).index_add_(0, row, (values - peak[row]).exp())
    return peak + total.log()
