"""The step without a learning rate: it never raises the objective."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.purification import (
    purification_objective,
    purify,
    safe_learning_rate,
)
from mistakes_lib.purification import steps as steps_module
from tests.helpers.blobs import blobs, closed_form


@given(seed=st.integers(0, 2**32 - 1), nu=st.one_of(st.just(0.0), st.floats(1e-4, 1e4)))
@settings(deadline=None, max_examples=25)
def test_the_monotone_step_never_raises_the_objective(mixture, seed, nu):
    """From anywhere, near the mixture or far away, for every row and every step."""
    reference = blobs(30, seed=seed) * (1 + seed % 4)
    course = np.stack(
        [
            purification_objective(
                purify(reference, mixture, nu=nu, steps=steps, device="cpu"),
                reference,
                mixture,
                nu=nu,
            )
            for steps in range(8)
        ]
    )  # (steps, n)
    assert (np.diff(course, axis=0) <= 1e-9 * np.maximum(np.abs(course[:-1]), 1)).all()
    assert (course[-1] < course[0]).all()


@pytest.mark.parametrize("nu", [0.0, 0.05, 1.0, 100.0])
def test_one_gaussian_is_solved_in_one_step(gaussian, nu):
    """One component has responsibility 1 everywhere: the majoriser is the objective itself."""
    reference = blobs(50, seed=3) + 3.0
    purified = purify(reference, gaussian, nu=nu, steps=1, device="cpu")
    np.testing.assert_allclose(purified, closed_form(reference, gaussian, nu), atol=1e-9)
    again = purify(purified, gaussian, nu=0.0, steps=1, device="cpu")
    np.testing.assert_allclose(again, closed_form(purified, gaussian, 0.0), atol=1e-9)


def test_where_the_monotone_step_rests_the_gradient_is_zero(mixture):
    reference, nu, h = blobs(6, seed=4), 0.2, 1e-5
    rests = purify(reference, mixture, nu=nu, steps=5000, device="cpu")
    for j in range(reference.shape[1]):
        shift = h * np.eye(reference.shape[1])[j]
        ahead, behind = (
            purification_objective(rests + s, reference, mixture, nu=nu) for s in (shift, -shift)
        )
        np.testing.assert_allclose((ahead - behind) / (2 * h), 0, atol=1e-6)


def test_the_monotone_step_by_hand():
    """Two components at −1 and 1 with variances 1 and 4, ν = 0: from F = 0, coordinate by hand."""
    density = DiagonalGMM(2)
    density.weights_ = np.array([0.5, 0.5])
    density.means_ = np.array([[-1.0], [1.0]])
    density.covariances_ = np.array([[1.0], [4.0]])
    density.precisions_ = 1 / density.covariances_
    density.n_features_in_ = 1
    first, second = math.exp(-0.5), math.exp(-0.125) / 2  # N(0; −1, 1), N(0; 1, 4), times √2π
    r = np.array([first, second]) / (first + second)
    expected = (r[0] * -1 / 1 + r[1] * 1 / 4) / (r[0] / 1 + r[1] / 4)
    found = purify([[0.0]], density, nu=0.0, steps=1, device="cpu")
    assert found.item() == pytest.approx(expected)
    held = 2 * 0.3 * math.log(2)
    expected = (r[0] * -1 + r[1] / 4 + held * 0.0) / (r[0] + r[1] / 4 + held)
    found = purify([[0.0]], density, nu=0.3, steps=1, device="cpu")
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nu", [0.0, 0.05, 5.0])
def test_a_row_that_rests_early_ends_where_all_its_steps_end(mixture, nu, dtype):
    """Each row stops by itself: far ones go on. The formula, with every step of every row."""
    reference = np.concatenate([mixture.means_, blobs(40, seed=11) * 3]).astype(dtype)
    hold, moved = 2 * nu * reference.shape[1] * math.log(2), reference.astype(float)
    for _ in range(60):
        shares = mixture.predict_proba(moved)  # (n, K)
        stiffness = shares @ mixture.precisions_
        pulls = shares @ (mixture.means_ * mixture.precisions_)
        moved = (pulls + hold * reference) / (stiffness + hold)
    found = purify(reference, mixture, nu=nu, steps=60, device="cpu")
    tolerance = 1e-9 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(found, moved, rtol=tolerance, atol=tolerance)


def test_no_step_is_spent_on_rows_that_rest(mixture, monkeypatch):
    rows = []

    def counted(density, nu, dtype, device, made=steps_module._monotone_step):
        step = made(density, nu, dtype, device)
        return lambda moved, origin: rows.append(len(moved)) or step(moved, origin)

    monkeypatch.setattr(steps_module, "_monotone_step", counted)
    purify(blobs(50, seed=12), mixture, nu=1e3, steps=400, device="cpu")
    assert rows == sorted(rows, reverse=True) and rows[0] == 50 and len(rows) < 400


@pytest.mark.parametrize("nu", [1e12, 1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_monotone_step_rests_at_the_reference_under_an_infinite_hold(mixture, nu, dtype):
    reference = blobs(30, seed=7).astype(dtype)
    held = purify(reference, mixture, nu=nu, device="cpu")
    np.testing.assert_allclose(held, reference, atol=1e-6 if dtype == np.float32 else 1e-9)


def test_the_monotone_step_in_float32_stays_near_the_exact_one(mixture):
    reference = blobs(50, seed=9) + 100.0
    density = DiagonalGMM(3, random_state=0).fit(blobs() + 100.0)
    exact = purify(reference, density, nu=0.1, steps=20, device="cpu")
    single = purify(reference.astype(np.float32), density, nu=0.1, steps=20, device="cpu")
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-3)


class Slope(BaseEstimator):
    """A density that is no mixture."""

    def __init__(self):
        self.slope_ = 1.0  # learned, as scikit-learn sees it

    def fit(self, features):
        return self

    def log_prob(self, x):
        return x.sum(dim=1)


def test_what_is_no_mixture_needs_a_learning_rate():
    with pytest.raises(TypeError, match=r"Slope is no mixture .* pass a DiagonalGMM, or lr"):
        purify(blobs(3), Slope(), nu=0.1)
    with pytest.raises(TypeError, match="no covariances_"):
        safe_learning_rate(Slope())
    with pytest.raises(NotFittedError, match="not fitted"):
        safe_learning_rate(DiagonalGMM(2))
    assert (purify(np.zeros((1, 2)), Slope(), nu=0.0, lr=1.0, steps=1, device="cpu") > 0).all()
