"""A Gaussian mixture with diagonal covariances, fitted by EM in blocks of rows (§3.2, eq. 3–5)."""

import math
import warnings
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm.auto import tqdm

from mistakes_lib.density.base import Density
from mistakes_lib.density.gmm.candidates import with_squares
from mistakes_lib.density.gmm.em import (
    Expectation,
    Mixture,
    expected_statistics,
    maximise,
)
from mistakes_lib.density.gmm.pull import Pull
from mistakes_lib.density.gmm.rows import ArrayRows, BlockRows, as_plain_rows, come_in_blocks
from mistakes_lib.density.gmm.starts import STARTS, initial_mixture
from mistakes_lib.support.devices import resolve_device
from mistakes_lib.support.threads import in_order

__all__ = ["MAX_ITER", "DiagonalGMM"]

MAX_ITER = 300  # of EM, wherever a mixture is fitted: features of networks often need more than 100

OF_THE_START = ("init_params", "reg_covar", "weights_init", "means_init", "precisions_init")
BLOCK_BYTES = 16 * 2**20  # of float64 at a time: more would be mapped anew by malloc each time
CPU_ROWS = 1024  # at a time on a CPU: they stay in its cache


@dataclass(frozen=True)
class Attempt:
    """What EM reached from one start."""

    mixture: Mixture
    bounds: list
    change: float
    converged: bool

    @property
    def bound(self):
        """That of the last iteration; −∞ before the first."""
        return self.bounds[-1] if self.bounds else -math.inf


class DiagonalGMM(Density):
    """Mixture of K Gaussians with diagonal covariances: p(F) = Σ_k w_k N(F; μ_k, diag σ_k²).

    From the same start it takes the same EM steps as scikit-learn's
    ``GaussianMixture(covariance_type="diag")``. It differs where features of networks need it: rows
    are centred before anything is squared (so a large offset costs no digits), memory is bounded by
    ``batch_size`` and not by n × K, and a component that has lost all its rows stays where it was.

    Args:
        n_components: number of components K.
        max_iter: most EM iterations of one start; 0 leaves the start as it is.
        tol: EM has converged when the mean log-likelihood (nats per row) changes by less.
        reg_covar: added to every variance, in squared units of the features.
        init_params: where EM starts: "k-means++" (rows that lie far apart, found among 10 K random
            ones, with the rows nearest to each), "kmeans" (clusters of k-means) or
            "random_from_data" (K random rows, with the rows nearest to each).
        n_init: number of starts; the best by log-likelihood is kept.
        weights_init, means_init, precisions_init: a start of your own, shapes (K,), (K, d), (K, d);
            replaces that part of ``init_params``.
        batch_size: rows at a time; by default at most 1024 on a CPU (they stay in its cache).
        device: "auto", "cpu", "cuda", …
        random_state: seed of the start and of :meth:`sample`.
        warm_start: let ``fit`` go on from the mixture that the last ``fit`` ended with, whatever
            ``n_init``; the first starts as always.
        verbose: 1 shows a progress bar over the iterations.

    Attributes:
        weights_: w, float64 (K,), sums to 1.
        means_: μ, float64 (K, d).
        covariances_: σ², float64 (K, d).
        precisions_: 1 / σ², float64 (K, d).
        precisions_cholesky_: 1 / σ, float64 (K, d).
        converged_: whether the best start converged.
        n_iter_: EM iterations of the best start.
        lower_bound_: mean log-likelihood (nats per row) in the last E-step of the best start.
        lower_bounds_: the same after each iteration.
        n_features_in_: number of features d.

    References:
        Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM
        algorithm.
        Arthur & Vassilvitskii (2007), k-means++: the advantages of careful seeding.

    Example:
        >>> rows = np.array([[-5.1], [-4.9], [4.9], [5.1]])
        >>> gmm = DiagonalGMM(2, random_state=0).fit(rows)
        >>> np.sort(gmm.means_.ravel()).round(2)
        array([-5.,  5.])
        >>> bool(gmm.score_samples([[5.0]]) > gmm.score_samples([[0.0]]))
        True
    """

    not_saved = ("weights_init", "means_init", "precisions_init", "device")

    def __init__(
        self,
        n_components=100,
        *,
        max_iter=MAX_ITER,
        tol=1e-3,
        reg_covar=1e-6,
        init_params="k-means++",
        n_init=1,
        weights_init=None,
        means_init=None,
        precisions_init=None,
        batch_size=None,
        device="auto",
        random_state=None,
        warm_start=False,
        verbose=0,
    ):
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.init_params = init_params
        self.n_init = n_init
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def fit(self, X, y=None):
        """Fit by EM from ``n_init`` starts.

        Args:
            X: rows of features, (n, d), n ≥ max(2, K): an array, in memory or mapped from a file
                (``np.memmap``), or an iterable of arrays (m, d), which is gone through once for
                each iteration of EM, a block at a time, or a Dask array, whose blocks stay with
                the workers.
            y: ignored.

        Returns:
            self.

        Raises:
            ValueError: a bad parameter, fewer rows than components, NaN or infinite rows, a
                variance of 0 or of mere rounding (only with ``reg_covar=0``), or with
                ``warm_start`` a mixture of another shape.
            TypeError: X is an iterator, which can be gone through only once.
        """
        self._check_parameters()
        X, device = as_plain_rows(X), resolve_device(self.device)
        if hasattr(X, "__dask_graph__"):
            from mistakes_lib.density.gmm.dask_rows import DaskRows  # Dask is there, as X is

            rows = DaskRows(X, partial(self._block_rows, device=device), self.device)
            self.n_features_in_ = rows.d
        elif come_in_blocks(X):
            rows = BlockRows(X, partial(self._block_rows, device=device), device)
            self.n_features_in_ = rows.d
        else:
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
            rows = ArrayRows(X, self._block_rows(X.shape[1], device), device)
        if rows.n < self.n_components:
            raise ValueError(
                f"n_samples={rows.n} rows are too few for n_components={self.n_components}: "
                "pass at least as many rows, or ask for fewer components"
            )
        random_state = check_random_state(self.random_state)
        n_starts = 1 if self._goes_on() else self.n_init
        starts = (self._start(rows, random_state) for _ in range(n_starts))
        best = max((self._run(rows, start) for start in starts), key=lambda run: run.bound)
        if not best.converged and self.max_iter:
            warnings.warn(
                f"EM did not converge in max_iter={self.max_iter} iterations: the last one changed "
                f"the mean log-likelihood by {best.change:.2g} nats, tol={self.tol:.2g}. "
                "Raise max_iter, or tol, or leave it if that is small enough for you.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._set_mixture(best.mixture, rows.centre)
        spread = float(self.weights_ @ (self.covariances_ - self.reg_covar).mean(axis=1))
        if 0 < spread < self.reg_covar:
            warnings.warn(
                f"reg_covar={self.reg_covar:.2g} is larger than the variances that were found "
                f"({spread:.2g} on average), so the mixture hardly knows the rows: pass a smaller "
                "one, such as a millionth of the features' variance, or scale the features",
                stacklevel=2,
            )
        self.converged_ = best.converged
        self.n_iter_, self.lower_bounds_ = len(best.bounds), best.bounds
        self.lower_bound_ = best.bound
        return self

    def score_samples(self, X):
        """Log-likelihood of each row in nats, float64 (n,)."""
        return self._by_part(X, Expectation.log_likelihood)

    def predict(self, X):
        """Most probable component of each row, int64 (n,)."""
        return self._by_part(X, partial(_of_log_joint, torch.argmax))

    def fit_predict(self, X, y=None):
        """Fit, and return the most probable component of each row, int64 (n,)."""
        return self.fit(X).predict(X)

    def predict_proba(self, X):
        """Responsibility of each component for each row, float64 (n, K)."""
        return self._by_part(X, partial(_of_log_joint, torch.softmax))

    def log_prob(self, x):
        """Log-likelihood of each row as a differentiable torch function.

        Args:
            x: tensor (n, d); result and computation keep its dtype and device.

        Returns:
            tensor (n,), nats.
        """
        check_is_fitted(self)
        mixture, centre = self._mixture()
        weight, constant = (part.to(x) for part in mixture.log_joint_terms())
        centred = x - torch.as_tensor(centre, dtype=x.dtype, device=x.device)
        return torch.addmm(constant, with_squares(centred), weight).logsumexp(dim=1)

    def log_prob_gradient(self, x):
        """Gradient of the log-likelihood of each row, in closed form.

        ∇ log p(x) = Σ_k r_k(x) (μ_k − x) / σ_k², with the responsibilities r.

        Args:
            x: tensor (n, d); result and computation keep its dtype and device.

        Returns:
            tensor (n, d), nats per unit of each feature.
        """
        return self.pull(x.dtype, x.device)(x, x)[0]

    def pull(self, dtype, device):
        """What :meth:`log_prob_gradient` is made of, once for many calls.

        Args:
            dtype: torch.dtype of rows and results.
            device: torch.device.

        Returns:
            A function of rows x and y, tensors (n, d), that returns Σ_k r_k(x) (μ_k − y) / σ_k² and
            Σ_k r_k(x) / σ_k², tensors (n, d).
        """
        check_is_fitted(self)
        return Pull(*self._mixture(), dtype, device)

    def sample(self, n_samples=1):
        """Draw rows from the mixture.

        Returns:
            (rows, components): float64 (n, d), and the component of each, int64 (n,).
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        rng = check_random_state(self.random_state)
        components = rng.choice(len(self.weights_), size=n_samples, p=self.weights_)
        noise = rng.standard_normal((n_samples, self.n_features_in_))
        return self.means_[components] + noise * np.sqrt(self.covariances_[components]), components

    def aic(self, X):
        """Akaike information criterion on X; lower is better."""
        return 2 * self._n_parameters() - 2 * self.score_samples(X).sum()

    def bic(self, X):
        """Bayesian information criterion on X; lower is better."""
        log_likelihoods = self.score_samples(X)
        return self._n_parameters() * np.log(len(log_likelihoods)) - 2 * log_likelihoods.sum()

    def _fitted(self):
        arrays = {
            "weights": self.weights_,
            "means": self.means_,
            "covariances": self.covariances_,
            "lower_bounds": np.array(self.lower_bounds_),
        }
        return arrays, {"converged": self.converged_}

    def _restore(self, arrays, metadata):
        self.weights_, self.means_ = arrays["weights"], arrays["means"]
        self._set_covariances(arrays["covariances"])
        self.n_features_in_ = self.means_.shape[1]
        self.lower_bounds_ = arrays["lower_bounds"].tolist()
        self.n_iter_ = len(self.lower_bounds_)
        self.lower_bound_ = self.lower_bounds_[-1] if self.lower_bounds_ else -math.inf
        self.converged_ = metadata["converged"]

    def _check_parameters(self):
        for name in ("n_components", "n_init"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=0)
        for name in ("tol", "reg_covar"):
            check_scalar(getattr(self, name), name, Real, min_val=0)
        if self.batch_size is not None:
            check_scalar(self.batch_size, "batch_size", Integral, min_val=1)
        if self.init_params not in STARTS:
            raise ValueError(f"init_params must be one of {STARTS}, got {self.init_params!r}")

    def _block_rows(self, d, device):
        rows = max(256, BLOCK_BYTES // (8 * max(self.n_components, 2 * d)))
        return self.batch_size or (min(CPU_ROWS, rows) if device.type == "cpu" else rows)

    def _start(self, rows, random_state):
        """The mixture before the first EM step, in centred coordinates."""
        if not self._goes_on():
            options = {name: getattr(self, name) for name in OF_THE_START}
            return initial_mixture(rows, self.n_components, random_state=random_state, **options)
        shape = self.n_components, rows.d
        if self.means_.shape != shape:
            raise ValueError(
                f"warm_start goes on from a mixture of shape {self.means_.shape}, but X and "
                f"n_components ask for {shape}: fit a new one, or set warm_start=False"
            )
        arrays = self.weights_, self.means_ - rows.centre, self.covariances_
        return Mixture(*(torch.from_numpy(array).to(rows.device) for array in arrays))

    def _goes_on(self):
        """Whether ``fit`` begins where the last one ended."""
        return self.warm_start and hasattr(self, "converged_")

    def _run(self, rows, mixture):
        """EM from one start until it converges."""
        bounds, change, converged = [], math.inf, False
        before = self.lower_bound_ if self._goes_on() else -math.inf
        iterations = tqdm(range(self.max_iter), desc=f"EM, K={self.n_components}", unit="it",
                          disable=not self.verbose)  # fmt: skip
        for _ in iterations:
            whole = rows.sum(partial(expected_statistics, mixture))
            mixture = maximise(whole, mixture, self.reg_covar)
            bound = float(whole.log_likelihood) / whole.n
            change, before = bound - before, bound
            bounds.append(bound)
            per_dimension = bound / rows.d
            iterations.set_postfix_str(f"{per_dimension:.4f} nats/dim, +{change:.2g}/row")
            if abs(change) < self.tol:
                converged = True
                break
        return Attempt(mixture, bounds, change, converged)

    def _set_mixture(self, mixture, centre):
        self.weights_ = mixture.weights.cpu().numpy()
        self.means_ = mixture.means.cpu().numpy() + centre
        self._set_covariances(mixture.variances.cpu().numpy())

    def _set_covariances(self, covariances):
        self.covariances_ = covariances
        self.precisions_ = 1 / covariances
        self.precisions_cholesky_ = np.sqrt(self.precisions_)

    def _mixture(self, device="cpu"):
        """The fitted mixture about its own mean, and that mean (d,)."""
        centre = self.weights_ @ self.means_
        arrays = self.weights_, self.means_ - centre, self.covariances_
        return Mixture(*(torch.from_numpy(array).to(device) for array in arrays)), centre

    def _by_part(self, X, of):
        """Apply ``of(expectation, blocks)`` to every part of the rows."""
        check_is_fitted(self)
        X = validate_data(self, as_plain_rows(X), dtype=[np.float64, np.float32], reset=False)
        device = resolve_device(self.device)
        mixture, centre = self._mixture(device)
        step = Expectation(mixture)
        rows = ArrayRows(X, self._block_rows(X.shape[1], device), device, centre)
        results = in_order(lambda part: of(step, part).cpu(), rows.parts(), device)
        return torch.cat(list(results)).numpy()

    def _n_parameters(self):
        check_is_fitted(self)
        return self.means_.size + self.covariances_.size + self.weights_.size - 1


def _of_log_joint(function, step, blocks):
    """A function of the log-joint (b, K) along the components, of all blocks."""
    return torch.cat([function(step.log_joint(rows), dim=1) for rows in blocks])
