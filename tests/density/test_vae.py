"""FeatureVAE against the closed form of a linear-Gaussian decoder."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone

from mistakes_lib.density import FeatureVAE
from mistakes_lib.density.vae import MIN_SCALE

MEAN, SCALE = np.array([1.0, -2.0, 300.0]), np.array([0.5, 2.0, 10.0])
SHIFT, NOISE = np.array([0.3, -0.2, 0.1]), 0.5
ORTHOGONAL = np.array([[1.0, 0.5], [1.0, -0.5], [0.0, 1.0]])  # columns
CORRELATED = np.array([[1.0, 0.2], [0.5, 0.6], [0.0, 0.8]])


def linear_gaussian(loadings, *, stretch=1.0, importance_samples=64):
    """A VAE by hand: z = A y + b + 0.5 ε in standardised units, and what p(F) then is.

    The encoder is the posterior q(y | z) without its correlations, its deviations times
    ``stretch``. A linear map is made of ReLU units in pairs: y = relu(y) − relu(−y).
    """
    vae = FeatureVAE(4, 2, 1, importance_samples=importance_samples, device="cpu", random_state=0)
    vae.fit(np.random.default_rng(0).normal(size=(10, 3)))
    vae.mean_, vae.scale_ = MEAN, SCALE
    posterior = np.linalg.inv(np.eye(2) + loadings.T @ loadings / NOISE**2)
    regression = posterior @ loadings.T / NOISE**2  # (2, 3)
    deviations = stretch * np.sqrt(1 / np.diag(np.linalg.inv(posterior)))
    weights = {
        "encoder": linear_map(regression, -regression @ SHIFT, deviations),
        "decoder": linear_map(loadings, SHIFT, np.full(3, NOISE)),
    }
    for part, values in weights.items():
        parameters = vae.network_.get_submodule(part).parameters()
        for parameter, value in zip(parameters, values, strict=True):
            assert parameter.shape == value.shape
            parameter.copy_(torch.from_numpy(value))
    covariance = loadings @ loadings.T + NOISE**2 * np.eye(3)
    truth = multivariate_normal(MEAN + SCALE * SHIFT, covariance * np.outer(SCALE, SCALE))
    return vae, truth


def linear_map(matrix, shift, deviations):
    """Weights and biases of the two layers that give matrix · input + shift, and deviations."""
    first = np.vstack([np.eye(matrix.shape[1]), -np.eye(matrix.shape[1])])
    if matrix.shape[1] > matrix.shape[0]:  # as many ReLU pairs as outputs: multiply first
        first, matrix = np.vstack([matrix, -matrix]), np.eye(len(matrix))
    second = np.hstack([matrix, -matrix])
    raw = np.log(np.expm1(deviations - MIN_SCALE))  # the softplus' inverse
    return first, np.zeros(4), np.vstack([second, 0 * second]), np.concatenate([shift, raw])


def test_with_the_exact_posterior_every_weight_is_the_density():
    vae, truth = linear_gaussian(ORTHOGONAL, importance_samples=3)
    rows = truth.rvs(50, np.random.default_rng(1))
    np.testing.assert_allclose(vae.score_samples(rows), truth.logpdf(rows), rtol=1e-5)
    assert vae.standard_error(rows).max() < 1e-4


@pytest.mark.parametrize("stretch", [1.0, 1.5])
def test_the_estimate_is_the_closed_form_within_its_standard_error(stretch):
    vae, truth = linear_gaussian(CORRELATED, stretch=stretch, importance_samples=4000)
    rows = truth.rvs(50, np.random.default_rng(1))
    errors = vae.standard_error(rows)
    assert 1e-3 < np.median(errors) < 0.1
    misses = (vae.score_samples(rows) - truth.logpdf(rows)) / errors
    assert np.sqrt(np.square(misses).mean()) < 2
    assert np.abs(misses).max() < 5


def test_the_standard_error_is_the_spread_over_draws():
    vae, truth = linear_gaussian(CORRELATED, stretch=1.5, importance_samples=400)
    rows = truth.rvs(20, np.random.default_rng(1))
    estimates, errors = [], []
    for vae.seed_ in range(60):
        estimates.append(vae.score_samples(rows))
        errors.append(vae.standard_error(rows))
    spread = np.std(estimates, axis=0)
    np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=0.4)


def test_more_importance_samples_on_a_fitted_density_lower_the_error():
    vae, truth = linear_gaussian(CORRELATED, stretch=1.5, importance_samples=100)
    rows = truth.rvs(20, np.random.default_rng(1))
    few = vae.standard_error(rows).mean()
    many = vae.set_params(importance_samples=6400).standard_error(rows).mean()
    assert many == pytest.approx(few / 8, rel=0.3)


def test_the_elbo_lies_below():
    vae, truth = linear_gaussian(CORRELATED, stretch=1.5)
    rows = torch.tensor((truth.rvs(4000, np.random.default_rng(1)) - MEAN) / SCALE).float()
    elbo = float(vae.network_.elbo(rows).mean()) - np.log(SCALE).sum()
    assert elbo < -truth.entropy() - 0.1


def test_rows_share_their_draws_so_the_gradient_is_that_of_the_estimate():
    vae, truth = linear_gaussian(CORRELATED, importance_samples=16)
    points = torch.tensor(truth.rvs(4, np.random.default_rng(1)), requires_grad=True)
    assert torch.autograd.gradcheck(vae.log_prob, points)


def test_one_importance_sample_has_no_standard_error():
    vae, truth = linear_gaussian(ORTHOGONAL, importance_samples=1)
    rows = truth.rvs(5, np.random.default_rng(1))
    np.testing.assert_allclose(vae.score_samples(rows), truth.logpdf(rows), rtol=1e-5)
    with pytest.raises(ValueError, match="importance_samples of at least 2, got 1"):
        vae.standard_error(rows)


@pytest.mark.parametrize("name", ["latent", "importance_samples"])
def test_bad_parameters_are_named(name):
    with pytest.raises(ValueError, match=name):
        clone(FeatureVAE()).set_params(**{name: 0}).fit(np.eye(3))
