"""Purification against closed forms, finite differences, SciPy and the descent lemma."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.exceptions import NotFittedError

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.purification import (
    DivergenceError,
    purification_effect,
    purification_grid,
    purification_objective,
    purify,
)


def blobs(n=300, d=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=2, size=(3, d))
    return centres[rng.integers(3, size=n)] + rng.normal(size=(n, d)) * rng.uniform(0.3, 1, size=d)


@pytest.fixture(scope="module")
def gaussian():
    return DiagonalGMM(1).fit(blobs())


@pytest.fixture(scope="module")
def mixture():
    return DiagonalGMM(3, random_state=0).fit(blobs())


def largest_safe_step(density):
    """1 / L, where L bounds the curvature of BPD for any mixture of diagonal Gaussians."""
    return density.covariances_.min() * density.means_.shape[1] * np.log(2)


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
    lr = fraction * largest_safe_step(mixture)
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
        reference, gaussian, nu=0.0, lr=300 * largest_safe_step(gaussian), steps=3, device="cpu"
    )
    before, after = (
        purification_objective(f, reference, gaussian, nu=0.0) for f in (reference, thrown)
    )
    assert (after > before).all()


def closed_form(reference, gaussian, nu):
    """Where the gradient of BPD + ν‖F − F_ref‖² of one Gaussian vanishes, coordinate-wise."""
    pull = 1 / (gaussian.covariances_[0] * reference.shape[1] * np.log(2))
    return (pull * gaussian.means_[0] + 2 * nu * reference) / (pull + 2 * nu)


@pytest.mark.parametrize("nu", [0.0, 0.05, 1.0, 100.0])
def test_one_gaussian_flows_to_its_closed_form_minimiser(gaussian, nu):
    reference = blobs(50, seed=3) + 3.0
    lr = largest_safe_step(gaussian)
    purified = purify(reference, gaussian, nu=nu, lr=lr, steps=500, device="cpu")
    np.testing.assert_allclose(purified, closed_form(reference, gaussian, nu), atol=1e-6)


def test_mixture_ends_where_scipy_ends(mixture):
    """SciPy's derivative-free search, started where we stop, finds nothing lower nearby."""
    reference = blobs(5, seed=4)
    nu, lr = 0.2, largest_safe_step(mixture)
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
    lr = largest_safe_step(gaussian)
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


# --- what it does to predictions ----------------------------------------------------------------


def sign_head():
    """Two classes: below and above 0 of the first feature."""
    head = torch.nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        head.bias.zero_()
    return head


def test_effect_counts_by_hand():
    before = np.array([-1.0, -1, -1, 1, 1, 1, 1])  # right: rows 3 to 6
    after = np.array([1.0, 1, -1, -1, 1, 1, 1])  # rows 0 and 1 corrected, row 3 broken
    features, purified = (np.stack([x, x], axis=1) for x in (before, after))
    effect = purification_effect(features, purified, np.ones(7, int), sign_head())
    assert (effect.corrected, effect.broken) == (2, 1)
    assert effect.before == pytest.approx(4 / 7) and effect.after == pytest.approx(5 / 7)
    assert effect.gain == pytest.approx(100 / 7)
    assert effect.p_value == 1.0  # 2 of 3 either way: (1 + 3 + 3 + 1) / 8


@pytest.mark.parametrize(("corrected", "broken"), [(9, 1), (30, 30), (0, 6)])
def test_p_value_is_mcnemars_exact(corrected, broken):
    before = np.r_[-np.ones(corrected), np.ones(broken), np.ones(5)]
    after = np.r_[np.ones(corrected), -np.ones(broken), np.ones(5)]
    features, purified = (np.stack([x, x], axis=1) for x in (before, after))
    effect = purification_effect(features, purified, np.ones(len(before), int), sign_head())
    n, k = corrected + broken, min(corrected, broken)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert effect.p_value == pytest.approx(min(1, 2 * tail))


def test_nothing_changed_is_no_evidence():
    features = np.ones((4, 2))
    effect = purification_effect(features, features, [1, 1, 0, 1], sign_head())
    assert (effect.gain, effect.p_value) == (0, 1)


@pytest.mark.parametrize(
    ("features", "purified", "labels", "complaint"),
    [
        (np.ones((3, 4)), np.ones((3, 2)), [0, 1, 1], "features has 4 columns, but 2"),
        (np.ones((3, 2)), np.ones((2, 2)), [0, 1, 1], "3 rows, but purified has 2"),
        (np.ones((3, 2)), np.ones((3, 2)), [0, 1, 2], "outside 0…1"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), [0, 1, 1], "purified has a NaN"),
    ],
)
def test_bad_input_to_the_effect_is_named(features, purified, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        purification_effect(features, purified, labels, sign_head())


def test_grid_holds_the_effect_of_every_setting_and_marks_those_that_diverge():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    features = rng.normal(size=(200, 2)) + np.stack([2 * labels - 1, np.zeros(200)], axis=1)
    batch = FeatureSet(features, np.zeros((200, 2)), labels)
    density = DiagonalGMM(2, random_state=0, device="cpu").fit(features)
    options = {"learning_rates": [0.1, 1e6], "strengths": [0.0, 1.0], "steps": 30}
    grid = purification_grid(batch, {"mixture": density}, sign_head(), **options)
    assert grid.index.names == ["density", "lr", "nu"] and len(grid) == 4
    for nu in options["strengths"]:
        purified = purify(batch.features, density, nu=nu, lr=0.1, steps=30)
        effect = purification_effect(batch.features, purified, labels, sign_head())
        row = grid.loc["mixture", 0.1, nu]
        assert (row.accuracy, row.gain) == (effect.after, effect.gain)
        assert (row.corrected, row.broken) == (effect.corrected, effect.broken)
    assert grid.loc["mixture", 1e6, 0.0].isna().all()
    with pytest.raises(DivergenceError, match="use a smaller lr"):
        purify(batch.features, density, nu=0.0, lr=1e6, steps=30)
    options |= {"learning_rates": [1e7, 1e6], "strengths": [0.0]}
    with pytest.raises(DivergenceError, match=r"at every lr: use one below 1000000\.0"):
        purification_grid(batch, {"mixture": density}, sign_head(), **options)
