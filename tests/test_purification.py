"""Purification against closed forms, finite differences, SciPy and the descent lemma."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.purification import (
    DivergenceError,
    purification_effect,
    purification_grid,
    purification_objective,
    purification_path,
    purify,
    safe_learning_rate,
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


def closed_form(reference, gaussian, nu):
    """Where the gradient of BPD + ν‖F − F_ref‖² of one Gaussian vanishes, coordinate-wise."""
    pull = 1 / (gaussian.covariances_[0] * reference.shape[1] * np.log(2))
    return (pull * gaussian.means_[0] + 2 * nu * reference) / (pull + 2 * nu)


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


# --- the step without a learning rate ------------------------------------------------------------


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


@pytest.fixture(scope="module")
def two_classes():
    """A batch, the mixture of its features, and settings that a test can afford."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    features = rng.normal(size=(200, 2)) + np.stack([2 * labels - 1, np.zeros(200)], axis=1)
    batch = FeatureSet(features, np.zeros((200, 2)), labels)
    return batch, DiagonalGMM(2, random_state=0, device="cpu").fit(features)


def test_grid_holds_the_effect_of_every_setting(two_classes):
    batch, density = two_classes
    rates = [None, safe_learning_rate(density)]
    options = {"learning_rates": rates, "strengths": [0.0, 1.0], "steps": 30}
    grid = purification_grid(batch, {"mixture": density}, sign_head(), **options)
    assert grid.index.names == ["density", "lr", "nu"] and len(grid) == 4
    assert not grid["void"].any() and (grid["rose"] == 0).all()
    for rate, nu in [(rate, nu) for rate in rates for nu in (0.0, 1.0)]:
        purified = purify(batch.features, density, nu=nu, lr=rate, steps=30)
        effect = purification_effect(batch.features, purified, batch.labels, sign_head())
        row = grid.loc["mixture", rate or "monotone", nu]
        assert (row.accuracy, row.gain) == (effect.after, effect.gain)
        assert (row.corrected, row.broken) == (effect.corrected, effect.broken)


def test_a_setting_whose_objective_rose_is_void(two_classes):
    """Also where nothing overflows: three hundred times the safe rate leaves finite features."""
    batch, density = two_classes
    large = 300 * safe_learning_rate(density)
    assert np.isfinite(purify(batch.features, density, nu=0.0, lr=large, steps=3)).all()
    options = {"learning_rates": [None, large, 1e9], "strengths": [0.0], "steps": 3}
    grid = purification_grid(batch, {"mixture": density}, sign_head(), **options)
    assert grid["void"].tolist() == [False, True, True]
    for rate in (large, 1e9):
        row = grid.loc["mixture", rate, 0.0]
        assert row[["accuracy", "gain", "corrected", "broken"]].isna().all()
        assert 0 < row.rose <= 1
    assert grid["accuracy"].idxmax() == ("mixture", "monotone", 0.0)
    with pytest.raises(DivergenceError, match="use a smaller lr"):
        purify(batch.features, density, nu=0.0, lr=1e9, steps=30)
    options["learning_rates"] = [1e9, large]
    with pytest.raises(DivergenceError, match=f"at every lr: use one below {large}"):
        purification_grid(batch, {"mixture": density}, sign_head(), **options)


def test_the_path_goes_from_nothing_to_the_nearest_peak(two_classes):
    batch, density = two_classes
    splits = {"validation": batch, "test": batch[:50]}
    path = purification_path(splits, density, sign_head(), strengths=[0, 1e9, 0.1], steps=50)
    assert path.index.tolist()[:3] == [("validation", nu) for nu in (1e9, 0.1, 0)]
    assert path["bits gained"]["validation"].is_monotonic_increasing
    assert path["bits gained"]["validation", 1e9] == pytest.approx(0, abs=1e-6)
    held = path.loc[("validation", 1e9)]
    assert (held.corrected, held.broken, held.p_value) == (0, 0, 1)
    assert path.loc[("test", 0), "likelier"] == 1
    purified = purify(batch.features, density, nu=0.1, steps=50)
    effect = purification_effect(batch.features, purified, batch.labels, sign_head())
    found = path.loc[("validation", 0.1)]
    assert (found.corrected, found.broken) == (effect.corrected, effect.broken)
    assert found.p_value == effect.p_value
    with pytest.raises(ValueError, match="splits is empty"):
        purification_path({}, density, sign_head(), strengths=[0])
