"""EM of a diagonal Gaussian mixture from sufficient statistics of blocks of rows (§3.2, eq. 3–5).

In hundreds of dimensions a row has a responsibility that float64 can tell from 0 for very few of
the components. A product in float32 finds these, with room for its rounding; only they are
evaluated, in float64, and enter the sums. The results are those of evaluating all components in
float64, to rounding.
"""

import math
import threading
import warnings
from dataclasses import dataclass
from functools import cache, partial

import torch

from mistakes_lib.density.gmm.candidates import Candidates, rounding, with_squares

__all__ = [
    "Expectation",
    "Mixture",
    "Statistics",
    "expected_statistics",
    "maximise",
    "nearest_statistics",
    "one_hot_statistics",
    "sum_statistics",
]

MANY_COMPONENTS = 32  # from so many on it pays to look for the few
CANCELLATION = 1e-4  # nats that [x, x²] W may err by in float64, at worst
WAITING_BYTES = 32 * 2**20  # of rows that wait for a sparse product
COLLAPSED = 1000 * torch.finfo(torch.float64).eps  # variance, of the mean square, that is rounding
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

    def __reduce__(self):
        # As NumPy arrays, which pickle hands on as they lie in memory; torch writes archives.
        return _mixture_of, tuple(part.cpu().numpy() for part in vars(self).values())

    def log_norms(self):
        """log w_k − ½ Σ_d log 2π σ²_kd, (K,): the log-joint of a component's own mean."""
        return self.weights.log() - 0.5 * (2 * math.pi * self.variances).log().sum(dim=1)

    def log_joint_terms(self):
        """W (2d, K) and c (K,) with log w_k N(x; k) = [x, x²] W + c: one matrix product."""
        precisions = 1 / self.variances
        scaled = self.means * precisions
        constant = self.log_norms() - 0.5 * (self.means * scaled).sum(dim=1)
        return torch.cat([scaled, -0.5 * precisions], dim=1).T, constant


@dataclass
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

    def __iadd__(self, other):
        self.n += other.n
        self.log_likelihood += other.log_likelihood
        self.counts += other.counts
        self.moments += other.moments
        return self

    def packed(self):
        """All numbers in one array, float64 (2 + K + 2 K d,); what adds up still does."""
        numbers = (self.counts.new_tensor([self.n]), self.log_likelihood, self.counts, self.moments)
        return torch.cat([part.reshape(-1) for part in numbers]).cpu().numpy()

    @classmethod
    def unpacked(cls, packed, d):
        """The statistics of rows of d features of which :meth:`packed` made this array."""
        numbers, k = torch.from_numpy(packed), (len(packed) - 2) // (1 + 2 * d)
        return cls(int(packed[0]), numbers[1], numbers[2 : 2 + k], numbers[2 + k :].view(k, 2 * d))


class Expectation:
    """The E-step under one mixture, for one block of rows after the other, on any threads.

    Args:
        mixture: :class:`Mixture`.
        device: where the rows are; by default where the mixture is.
    """

    def __init__(self, mixture, device=None):
        mixture = mixture if device is None else mixture.to(device)
        self.mixture = mixture
        self.weight, self.constant = mixture.log_joint_terms()
        self.candidates, self.local = None, threading.local()
        if len(mixture.weights) >= MANY_COMPONENTS:
            self.candidates = Candidates(mixture)
            _allow_sparse()
            energy = (mixture.means.square() / mixture.variances).sum(dim=1)  # (K,)
            error = rounding(mixture.means.shape[1], torch.float64) * 3 * energy
            self.cancels = error > CANCELLATION  # (K,)
            self.any_cancels = bool(self.cancels.any())

    def __reduce__(self):
        # What follows from the mixture is computed again where it arrives.
        return Expectation, (self.mixture, self.constant.device)

    def log_joint(self, rows):
        """log w_k N(x; k) of float64 rows (b, d): float64 (b, K)."""
        return torch.addmm(self.constant, with_squares(rows), self.weight)

    def log_likelihood(self, blocks):
        """log p(x) in nats of blocks of float64 rows (b, d), one after the other: float64 (n,)."""
        values = []
        for rows in blocks:
            stacked = with_squares(rows, self._memory(rows)[: len(rows)])
            pairs = self._pairs(stacked)
            if pairs is None:
                joint = torch.addmm(self.constant, stacked, self.weight)
                values.append(joint.logsumexp(dim=1))
            else:
                values.append(_logsumexp(pairs[2], pairs[0], len(rows)))
        return torch.cat(values)

    def statistics(self, blocks):
        """:class:`Statistics` of blocks of float64 rows (b, d), one after the other."""
        total = Statistics(
            0,
            self.constant.new_zeros(()),
            torch.zeros_like(self.constant),
            self.weight.new_zeros(self.weight.shape[::-1]),
        )
        # The rows of some blocks wait in memory for one sparse product, which has to go through all
        # of the moments however few rows there are.
        used, waiting = 0, []
        for rows in blocks:
            memory = self._memory(rows)
            if used + len(rows) > len(memory):
                self._add_moments(total, memory[:used], waiting)
                used, waiting = 0, []
            stacked = with_squares(rows, memory[used : used + len(rows)])
            total.n += len(rows)
            pairs = self._pairs(stacked)
            if pairs is None:
                self._add_in_full(total, stacked)
            else:
                waiting.append(self._add_pairs(total, pairs, len(rows), used))
                used += len(rows)
        if waiting:
            self._add_moments(total, memory[:used], waiting)
        return total

    def _memory(self, rows):
        """Room for [x, x²] of some blocks, (m, 2d); each thread has its own and keeps it."""
        d, memory = rows.shape[1], getattr(self.local, "memory", None)
        if memory is None or len(memory) < len(rows):
            memory = rows.new_empty(max(len(rows), WAITING_BYTES // (16 * d)), 2 * d)
            self.local.memory = memory
        return memory

    def _add_in_full(self, total, stacked):
        """Add the statistics of rows [x, x²], (b, 2d), evaluating all components."""
        joint = torch.addmm(self.constant, stacked, self.weight)  # (b, K)
        peak = joint.amax(dim=1, keepdim=True)
        norm = joint.sub_(peak).exp_().sum(dim=1, keepdim=True)
        responsibility = joint.div_(norm)
        total.log_likelihood.add_((peak + norm.log()).sum())
        total.counts.add_(responsibility.sum(dim=0))
        total.moments.addmm_(responsibility.T, stacked)

    def _add_pairs(self, total, pairs, n, first):
        """Add all but the moments; returns components, row numbers from ``first``, and weights."""
        row, component, log_joint = pairs
        log_likelihood = _logsumexp(log_joint, row, n)
        responsibility = (log_joint - log_likelihood[row]).exp()
        total.log_likelihood.add_(log_likelihood.sum())
        total.counts.index_add_(0, component, responsibility)
        return component, row + first, responsibility

    def _add_moments(self, total, stacked, waiting):
        if not waiting:
            return
        component, row, responsibility = (torch.cat(parts) for parts in zip(*waiting, strict=True))
        shape = len(self.constant), len(stacked)
        matrix = torch.sparse_coo_tensor(
            torch.stack([component, row]), responsibility, shape, check_invariants=False
        )
        total.moments.addmm_(matrix, stacked)

    def _pairs(self, stacked):
        if self.candidates is None:
            return None
        return self.candidates.pairs(stacked, partial(self._log_joint_of, stacked))

    def _log_joint_of(self, stacked, row, component):
        """log w_k N(x; k) of pairs (p,), sorted by rows."""
        n = len(stacked)
        starts = torch.zeros(n + 1, dtype=torch.int64, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=n), 0, out=starts[1:])
        pattern = torch.sparse_csr_tensor(
            starts,
            component,
            self.constant[component],
            (n, len(self.constant)),
            check_invariants=False,
        )
        values = torch.sparse.sampled_addmm(pattern, stacked, self.weight).values()
        if self.any_cancels:
            wrong = self.cancels[component].nonzero()[:, 0]
            values[wrong] = self._without_cancellation(stacked, row[wrong], component[wrong])
        return values

    def _without_cancellation(self, stacked, row, component):
        """The same for components that are narrow and far out, by their distance."""
        rows, mixture = stacked[:, : self.mixture.means.shape[1]], self.mixture
        squares = torch.empty(len(row), dtype=rows.dtype, device=rows.device)
        for start in range(0, len(row), PAIRS):
            part = slice(start, start + PAIRS)
            z = rows[row[part]].sub_(mixture.means[component[part]])
            squares[part] = z.square_().div_(mixture.variances[component[part]]).sum(dim=1)
        return mixture.log_norms()[component] - 0.5 * squares


def _mixture_of(*arrays):
    return Mixture(*(torch.from_numpy(array) for array in arrays))


def expected_statistics(mixture, device):
    """The E-step under a mixture as a function of blocks of rows on a device."""
    return Expectation(mixture, device).statistics


def nearest_statistics(seeds, k, device):
    """Sums over the rows nearest to each of k seeds, as a function of blocks of rows."""
    return partial(_statistics_of_nearest, seeds, k, device)


def _statistics_of_nearest(seeds, k, device, blocks):
    seeds = torch.from_numpy(seeds).to(device)
    nearest = ((rows, torch.cdist(rows, seeds).argmin(dim=1)) for rows in blocks)
    return sum_statistics(one_hot_statistics(rows, at, k) for rows, at in nearest)


def one_hot_statistics(rows, components, n_components):
    """:class:`Statistics` of rows (b, d) that belong wholly to one component each, int64 (b,)."""
    stacked = with_squares(rows)
    counts = torch.bincount(components, minlength=n_components).to(rows)
    moments = stacked.new_zeros(n_components, stacked.shape[1]).index_add_(0, components, stacked)
    return Statistics(len(rows), rows.new_zeros(()), counts, moments)


def sum_statistics(parts):
    """The :class:`Statistics` of all rows from those of their parts; the first is added to."""
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total += part
    return total


def maximise(statistics, before, reg_covar):
    """M-step (eq. 5): the mixture with the highest expected log-likelihood.

    Args:
        statistics: :class:`Statistics` of all rows.
        before: the mixture before; a component that has lost all its rows keeps its place.
        reg_covar: added to the variances.

    Returns:
        Mixture.

    Raises:
        ValueError: a variance is not above 0, or with ``reg_covar=0`` no more than rounding.
    """
    counts = statistics.counts + 10 * torch.finfo(torch.float64).eps  # as scikit-learn does
    mean, mean_of_squares = (statistics.moments / counts[:, None]).chunk(2, dim=1)  # (K, d) each
    raw = (mean_of_squares - mean.square()).clamp_min(0)
    variances = raw + reg_covar
    empty = (counts < 1e-12)[:, None]
    means = torch.where(empty, before.means, mean)
    known = variances > 0
    if reg_covar == 0:  # the difference of two squares, of which one has lost some of its digits
        known &= raw > COLLAPSED * mean_of_squares * (1 + 1 / counts[:, None])
    variances = torch.where(empty, before.variances, variances)
    if not (known | empty).all():
        raise ValueError(
            "a variance is not above 0 (a constant feature, or a component with one row): "
            "raise reg_covar, drop constant features, or ask for fewer components"
        )
    return Mixture(counts / counts.sum(), means, variances)


def _logsumexp(values, row, n):
    """log Σ exp of the values (p,) of each of n rows, each of which has one at least."""
    peak = values.new_full((n,), -math.inf).scatter_reduce(0, row, values, "amax")
    total = torch.zeros_like(peak).index_add_(0, row, (values - peak[row]).exp())
    return peak + total.log()


@cache
def _allow_sparse():
    """Torch warns once in each process that its compressed sparse rows are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 1], [0], [1.0])
