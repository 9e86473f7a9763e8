"""Gradients, samples, files, starts that go on, and what is refused."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.support.storage import save_arrays
from tests.helpers.rows import overlapping, start


def test_log_prob_is_score_samples_and_differentiable():
    rows = overlapping()
    gmm = DiagonalGMM(4, random_state=0, device="cpu").fit(rows)
    points = torch.tensor(rows[:5], requires_grad=True)
    values = gmm.log_prob(points)
    np.testing.assert_allclose(values.detach().numpy(), gmm.score_samples(rows[:5]))
    assert torch.autograd.gradcheck(gmm.log_prob, points)
    single = gmm.log_prob(torch.tensor(rows[:5], dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), values.detach().numpy(), rtol=1e-4)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_the_gradient_in_closed_form_is_that_of_automatic_differentiation(dtype, rtol):
    rows = overlapping()
    gmm = DiagonalGMM(4, random_state=0, device="cpu").fit(rows)
    far = 5 * rows[:3]  # beside points that several components share, some far from all
    points = torch.tensor(np.concatenate([rows[:50], far]), dtype=dtype, requires_grad=True)
    expected = torch.autograd.grad(gmm.log_prob(points.double()).sum(), points)[0]
    found = gmm.log_prob_gradient(points.detach())
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol)


def test_samples_come_from_the_mixture():
    rows = overlapping()
    gmm = DiagonalGMM(4, random_state=0, device="cpu").fit(rows)
    drawn, components = gmm.sample(40_000)
    assert drawn.shape == (40_000, 4) and components.shape == (40_000,)
    share = np.bincount(components, minlength=4) / 40_000
    np.testing.assert_allclose(share, gmm.weights_, atol=0.01)
    second = drawn[components == 2]
    np.testing.assert_allclose(second.mean(axis=0), gmm.means_[2], atol=0.15)
    np.testing.assert_allclose(second.var(axis=0), gmm.covariances_[2], rtol=0.1)


def test_a_saved_mixture_comes_back(tmp_path):
    rows = overlapping()
    gmm = DiagonalGMM(4, tol=1e-4, random_state=0, device="cpu").fit(rows)
    gmm.save(tmp_path / "gmm.safetensors")
    again = DiagonalGMM.load(tmp_path / "gmm.safetensors")
    np.testing.assert_array_equal(again.score_samples(rows), gmm.score_samples(rows))
    assert again.lower_bounds_ == gmm.lower_bounds_
    assert (again.n_components, again.tol, again.n_iter_) == (4, 1e-4, gmm.n_iter_)
    gmm.save(tmp_path / "same.safetensors")
    assert (tmp_path / "same.safetensors").read_bytes() == (
        tmp_path / "gmm.safetensors"
    ).read_bytes()


def test_loading_something_else_says_so(tmp_path):
    save_arrays(tmp_path / "x.safetensors", {"a": np.ones(2)}, {"kind": "FeatureSet"})
    with pytest.raises(ValueError, match="holds a FeatureSet, not a DiagonalGMM"):
        DiagonalGMM.load(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="nothing"):
        DiagonalGMM.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"n_components": 0}, "n_components"),
        ({"max_iter": -1}, "max_iter"),
        ({"n_init": 0}, "n_init"),
        ({"tol": -1.0}, "tol"),
        ({"reg_covar": -1.0}, "reg_covar"),
        ({"batch_size": 0}, "batch_size"),
        ({"init_params": "magic"}, "init_params must be one of"),
        ({"weights_init": [0.5, 0.4]}, "must sum to 1"),
        ({"means_init": np.zeros((2, 3))}, r"means_init must have shape \(2, 4\), got \(2, 3\)"),
        ({"precisions_init": -np.ones((2, 4))}, "precisions_init must be above 0"),
        ({"n_components": 601}, "too few for n_components=601"),
    ],
)
def test_bad_parameters_are_named(parameters, complaint):
    with pytest.raises(ValueError, match=complaint):
        DiagonalGMM(**{"n_components": 2} | parameters).fit(overlapping())


def test_zero_variance_without_regularisation_says_what_to_do():
    rows = np.ones((10, 2))
    with pytest.raises(ValueError, match="raise reg_covar"):
        DiagonalGMM(1, reg_covar=0).fit(rows)


@pytest.mark.parametrize("value", [1.0, 0.1, 1e-9, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_variance_that_is_rounding_counts_as_none(value, dtype):
    """Collapsed components, and features that are constant up to the last digits of their sums."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.array([[0, value], [value, 0]]), 500, axis=0).astype(dtype)
    constant = np.column_stack([rng.normal(size=1000), np.full(1000, value)]).astype(dtype)
    for rows, k in ((clusters, 2), (constant, 1), ([constant[:300], constant[300:]], 1)):
        with pytest.raises(ValueError, match="raise reg_covar"):
            DiagonalGMM(k, reg_covar=0, random_state=0, device="cpu").fit(rows)
    narrow = value * (1 + 1e-3 * rng.normal(size=(1000, 2)))  # no rounding: it is fitted
    found = DiagonalGMM(1, reg_covar=0, device="cpu").fit(narrow).covariances_
    np.testing.assert_allclose(found[0], narrow.var(axis=0), rtol=1e-9)


def test_a_warm_start_goes_on_from_the_last_mixture_also_from_a_file(tmp_path):
    rows = overlapping()
    options = {"tol": 0, "random_state": 0, "device": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = DiagonalGMM(5, max_iter=7, **options).fit(rows)
        parts = DiagonalGMM(5, max_iter=3, warm_start=True, n_init=3, **options).fit(rows)
        first = DiagonalGMM(5, max_iter=3, n_init=3, **options).fit(rows)
        np.testing.assert_array_equal(parts.means_, first.means_)  # there is nothing to go on from
        single = DiagonalGMM(5, max_iter=3, warm_start=True, **options).fit(rows)
        single.save(tmp_path / "gmm.safetensors")
        again = DiagonalGMM.load(tmp_path / "gmm.safetensors")
        blocks = [rows[:100], rows[100:]]
        for gmm in (single, again.set_params(device="cpu")):
            gmm.set_params(max_iter=4).fit(blocks if gmm is again else rows)
            np.testing.assert_allclose(gmm.means_, whole.means_, rtol=1e-9)
            np.testing.assert_allclose(gmm.lower_bounds_, whole.lower_bounds_[3:], rtol=1e-9)
    for X, k in ((rows[:, :2], 5), (rows, 4)):
        with pytest.raises(ValueError, match="warm_start goes on from a mixture of shape"):
            single.set_params(n_components=k).fit(X)


def test_no_iteration_leaves_the_start(tmp_path):
    rows = overlapping()
    own = start(rows, 3)
    gmm = DiagonalGMM(3, max_iter=0, device="cpu", **own).fit(rows)
    np.testing.assert_allclose(gmm.means_, own["means_init"])
    np.testing.assert_allclose(gmm.precisions_cholesky_**2, own["precisions_init"])
    gmm.save(tmp_path / "gmm.safetensors")
    again = DiagonalGMM.load(tmp_path / "gmm.safetensors")
    assert (again.n_iter_, again.lower_bound_, again.converged_) == (0, -math.inf, False)
    np.testing.assert_array_equal(again.precisions_cholesky_, gmm.precisions_cholesky_)


def test_unfitted_is_said():
    for ask in ("score_samples", "predict", "predict_proba", "score", "bits_per_dim", "bic"):
        with pytest.raises(NotFittedError):
            getattr(DiagonalGMM(2), ask)(np.ones((3, 2)))
    with pytest.raises(NotFittedError):
        DiagonalGMM(2).sample(3)
