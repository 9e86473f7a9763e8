"""The objective and the paper's gradient descent, against SciPy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.exceptions import NotFittedError

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.purification import (
    purification_objective,
    purify,
    safe_learning_rate,
)
from tests.helpers.blobs import blobs, closed_form


def test_no_curvature_of_the_objective_exceeds_one_over_the_safe_rate(mixture):
    """Second differences of BPD along random lines, against 1 / (d ln 2 min σ²)."""
    rng, h = np.random.default_rng(0), 1e-3
    points = blobs(200, seed=11)
    lines = rng.normal(size=points.shape)
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    values = [mixture.bits_per_dim(points + s * h * lines) for s in (-1, 0, 1)]
    curvature = (values[0] - 2 * values[1] + values[2]) / h**2
    assert curvature.max() <= 1 / safe_learning_rate(mixture)
    expected = mixture.covariances_.min() * mixture.means_.shape[1] * np.log(2)
    assert safe_learning_rate(mixture) == pytest.approx(expected)


def test_objective_of_one_gaussian_equals_scipy(gaussian):
    features, reference = blobs(20, seed=1), blobs(20, seed=2)
    peer = multivariate_normal(gaussian.means_[0], np.diag(gaussian.covariances_[0]))
    expected = -peer.logpdf(features) / (4 * np.log(2))
    expected += 0.3 * ((features - reference) ** 2).sum(axis=1)
    objective = purification_objective(features, reference, gaussian, nu=0.3)
    assert objective.dtype == np.float64
    np.testing.assert_allclose(objective, expected, rtol=1e-9)


def test_without_a_hold_the_objective_is_bits_per_dim(mixture):
    features = blobs(20, seed=1)
    np.testing.assert_allclose(
        purification_objective(features, features, mixture, nu=5.0),
        mixture.bits_per_dim(features),
        rtol=1e-6,
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    nu=st.one_of(st.just(0.0), st.floats(1e-3, 1e3)),
    fraction=st.floats(0.05, 1.0),
)
@settings(deadline=None, max_examples=25)
def test_the_objective_never_rises_for_a_small_enough_step(mixture, seed, nu, fraction):
    reference = blobs(30, seed=seed) + 2.0
    lr = fraction * safe_learning_rate(mixture)
    course = np.stack(
        [
            purification_objective(
                purify(reference, mixture, nu=nu, lr=lr, steps=steps, device="cpu"),
                reference,
                mixture,
                nu=nu,
            )
            for steps in range(8)
        ]
    )  # (steps, n)
    assert (np.diff(course, axis=0) <= 1e-9 * np.abs(course[:-1])).all()
    assert (course[-1] < course[0]).all()


def test_too_large_a_step_can_raise_the_objective(gaussian):
    """The bound of the previous test is not vacuous: a hundred times above it, F overshoots."""
    reference = blobs(30, seed=1)
    thrown = purify(
        reference, gaussian, nu=0.0, lr=300 * safe_learning_rate(gaussian), steps=3, device="cpu"
    )
    before, after = (
        purification_objective(f, reference, gaussian, nu=0.0) for f in (reference, thrown)
    )
    assert (after > before).all()


@pytest.mark.parametrize("nu", [0.0, 0.05, 1.0, 100.0])
def test_one_gaussian_flows_to_its_closed_form_minimiser(gaussian, nu):
    reference = blobs(50, seed=3) + 3.0
    lr = safe_learning_rate(gaussian)
    purified = purify(reference, gaussian, nu=nu, lr=lr, steps=500, device="cpu")
    np.testing.assert_allclose(purified, closed_form(reference, gaussian, nu), atol=1e-6)


def test_mixture_ends_where_scipy_ends(mixture):
    """SciPy's derivative-free search, started where we stop, finds nothing lower nearby."""
    reference = blobs(5, seed=4)
    nu, lr = 0.2, safe_learning_rate(mixture)
    purified = purify(reference, mixture, nu=nu, lr=lr, steps=3000, device="cpu")
    for ours, row in zip(purified, reference, strict=True):
        peer = minimize(
            lambda f, row=row: purification_objective([f], [row], mixture, nu=nu)[0],
            x0=ours,
            method="Nelder-Mead",
            options={"xatol": 1e-7, "fatol": 1e-12},
        )
        np.testing.assert_allclose(ours, peer.x, atol=1e-4)


def test_one_step_follows_finite_differences(mixture):
    """F₁ = F − lr ∇BPD + O(lr²) at ν = 0: the gradient is right."""
    reference = blobs(6, seed=5)
    lr, h = 1e-2, 1e-5
    step = (reference - purify(reference, mixture, nu=0.0, lr=lr, steps=1, device="cpu")) / lr
    gradient = np.empty_like(reference)
    for j in range(reference.shape[1]):
        shift = h * np.eye(reference.shape[1])[j]
        ahead, behind = (mixture.bits_per_dim(reference + s) for s in (shift, -shift))
        gradient[:, j] = (ahead - behind) / (2 * h)
    np.testing.assert_allclose(step, gradient, rtol=1e-4, atol=1e-6)


def test_follows_the_papers_plain_descent_to_first_order(gaussian):
    """Against plain steps written out for one Gaussian, over one unit of steps × lr.

    Steps that agree up to O(lr²) end O(lr) apart: half the step, half the gap.
    """
    reference, nu = blobs(20, seed=6), 0.7
    weight = 1 / (gaussian.covariances_[0] * 4 * np.log(2))

    def gap(steps):
        lr, plain = 1 / steps, reference
        for _ in range(steps):
            slope = weight * (plain - gaussian.means_[0]) + 2 * nu * (plain - reference)
            plain = plain - lr * slope
        proximal = purify(reference, gaussian, nu=nu, lr=lr, steps=steps, device="cpu")
        return np.abs(proximal - plain).max()

    assert gap(50) > 0
    assert gap(100) / gap(50) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("nu", [1e12, 1e300])
def test_an_infinite_hold_leaves_the_features_unmoved(mixture, nu):
    reference = blobs(30, seed=7)
    np.testing.assert_allclose(
        purify(reference, mixture, nu=nu, lr=1.0, device="cpu"), reference, atol=1e-9
    )


def test_a_stronger_hold_moves_less(gaussian):
    reference = blobs(30, seed=8)
    lr = safe_learning_rate(gaussian)
    moves = [
        np.linalg.norm(purify(reference, gaussian, nu=nu, lr=lr, device="cpu") - reference, axis=1)
        for nu in (0.0, 0.1, 1.0, 10.0, 100.0)
    ]
    assert (np.diff(moves, axis=0) < 0).all()


def test_no_steps_return_the_features(mixture):
    reference = blobs(10)
    np.testing.assert_array_equal(
        purify(reference, mixture, nu=1.0, lr=1.0, steps=0, device="cpu"), reference
    )


def test_rows_do_not_interact(mixture):
    reference = blobs(50, seed=9)
    whole = purify(reference, mixture, nu=0.1, lr=0.2, steps=20, device="cpu")
    parts = purify(reference, mixture, nu=0.1, lr=0.2, steps=20, batch_size=7, device="cpu")
    np.testing.assert_allclose(whole, parts, rtol=1e-9)


def test_float32_in_float32_out(mixture):
    reference = blobs(50, seed=9)
    exact = purify(reference, mixture, nu=0.1, lr=0.2, steps=20, device="cpu")
    single = purify(reference.astype(np.float32), mixture, nu=0.1, lr=0.2, steps=20, device="cpu")
    assert exact.dtype == np.float64
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-4)


def test_the_features_are_not_written_to(mixture):
    reference = blobs(10)
    kept = reference.copy()
    reference.flags.writeable = False
    purify(reference, mixture, nu=0.1, lr=0.2, steps=3, device="cpu")
    np.testing.assert_array_equal(reference, kept)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"nu": -0.1}, ValueError, "nu must be a finite number of at least 0"),
        ({"nu": np.inf}, ValueError, "nu must be a finite number"),
        ({"lr": 0.0}, ValueError, "lr must be a number above 0"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"features": np.zeros((3, 5))}, ValueError, "5 columns, but 4 were expected"),
        ({"features": np.zeros(4)}, ValueError, "must have shape"),
        ({"features": np.full((3, 4), np.nan)}, ValueError, "NaN"),
        ({"features": np.zeros((0, 4))}, ValueError, "empty"),
        ({"density": DiagonalGMM(2)}, NotFittedError, r"call density.fit"),
        ({"density": object()}, TypeError, "must have log_prob"),
        ({"nu": 0.0, "lr": 1e200, "steps": 9}, ValueError, "use a smaller lr"),
    ],
)
def test_bad_input_gets_one_clear_error(gaussian, changed, error, message):
    arguments = {"features": blobs(3), "density": gaussian, "nu": 0.1, "lr": 0.1, "steps": 2}
    with pytest.raises(error, match=message):
        purify(**arguments | changed)


@pytest.mark.parametrize(
    ("features", "reference", "nu", "message"),
    [
        (np.zeros((2, 4)), np.zeros((3, 4)), 0.1, "same shape"),
        (np.zeros((2, 3)), np.zeros((2, 3)), 0.1, "3 columns, but 4"),
        (np.zeros((2, 4)), np.zeros((2, 4)), -1, "nu must be"),
    ],
)
def test_bad_input_of_the_objective_gets_one_clear_error(
    gaussian, features, reference, nu, message
):
    with pytest.raises(ValueError, match=message):
        purification_objective(features, reference, gaussian, nu=nu)
