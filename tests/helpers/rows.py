"""Rows to fit mixtures to."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from mistakes_lib.density import DiagonalGMM

__all__ = ["assert_same_mixture", "fit_both", "overlapping", "start", "tanh_features"]


def overlapping(n=600, d=4, k=5, seed=0):
    """Rows whose clusters overlap, so that EM has work to do."""
    return make_blobs(n, d, centers=k, cluster_std=2.5, random_state=seed)[0]


def start(rows, k, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "weights_init": rng.dirichlet(np.full(k, 5.0)),
        "means_init": rows[rng.choice(len(rows), k, replace=False)],
        "precisions_init": rng.uniform(0.1, 2.0, (k, rows.shape[1])),
    }


def fit_both(rows, k, **options):
    options |= start(rows, k)
    ours = DiagonalGMM(k, device="cpu", **options)
    reference = GaussianMixture(k, covariance_type="diag", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ours.fit(rows), reference.fit(rows)


def assert_same_mixture(ours, reference, rtol=1e-7):
    assert ours.n_iter_ == reference.n_iter_
    assert ours.converged_ == reference.converged_
    np.testing.assert_allclose(ours.weights_, reference.weights_, rtol=rtol)
    np.testing.assert_allclose(ours.means_, reference.means_, rtol=rtol, atol=rtol)
    # The variance of a component with one row is reg_covar, plus what scikit-learn loses by
    # subtracting squares that are not centred.
    np.testing.assert_allclose(ours.covariances_, reference.covariances_, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(ours.precisions_, reference.precisions_, rtol=10 * rtol)
    assert ours.lower_bound_ == pytest.approx(reference.lower_bound_, rel=rtol)


def tanh_features(rng, n=3000, d=64):
    hidden = rng.normal(size=(60, 8))[rng.integers(60, size=n)] + 0.1 * rng.normal(size=(n, 8))
    return np.tanh(hidden @ rng.normal(size=(8, d)) / 2)
