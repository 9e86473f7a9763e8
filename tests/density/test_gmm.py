"""The mixture against scikit-learn's, closed forms and its own promises."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks

from mistakes_lib.density import DiagonalGMM
from tests.helpers.rows import assert_same_mixture, fit_both, overlapping, tanh_features


@parametrize_with_checks([DiagonalGMM(3, max_iter=200, device="cpu")])
def test_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


@settings(deadline=None, max_examples=15)
@given(
    k=st.integers(1, 6),
    d=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    max_iter=st.sampled_from([1, 3, 100]),
)
def test_same_start_gives_scikit_learns_mixture(k, d, seed, max_iter):
    rows = overlapping(150, d, 3, seed)
    assert_same_mixture(*fit_both(rows, k, max_iter=max_iter))


def test_every_answer_equals_scikit_learns():
    rows = overlapping()
    ours, reference = fit_both(rows, 4)
    others = overlapping(50, seed=1)
    np.testing.assert_allclose(ours.score_samples(others), reference.score_samples(others))
    np.testing.assert_array_equal(ours.predict(others), reference.predict(others))
    np.testing.assert_allclose(
        ours.predict_proba(others), reference.predict_proba(others), rtol=1e-6, atol=1e-12
    )
    for name in ("score", "aic", "bic"):
        expected = getattr(reference, name)(others)
        assert getattr(ours, name)(others) == pytest.approx(expected)


def test_one_component_is_the_closed_form():
    rows = overlapping()
    gmm = DiagonalGMM(1, reg_covar=0, device="cpu").fit(rows)
    closed = multivariate_normal(rows.mean(axis=0), np.diag(rows.var(axis=0)))
    np.testing.assert_allclose(gmm.score_samples(rows), closed.logpdf(rows))
    np.testing.assert_allclose(gmm.bits_per_dim(rows), -closed.logpdf(rows) / (4 * math.log(2)))


def test_likelihood_never_falls():
    bounds = DiagonalGMM(8, tol=0, max_iter=60, random_state=0, device="cpu")
    with pytest.warns(ConvergenceWarning, match=r"raise max_iter|Raise max_iter"):
        bounds.fit(overlapping())
    assert np.diff(bounds.lower_bounds_).min() > -1e-10


def test_block_size_does_not_matter():
    rows = overlapping()
    options = {"random_state": 0, "device": "cpu"}
    whole, blocks = (DiagonalGMM(5, batch_size=b, **options).fit(rows) for b in (10_000, 37))
    assert whole.n_iter_ == blocks.n_iter_
    np.testing.assert_allclose(whole.means_, blocks.means_)
    np.testing.assert_allclose(whole.score_samples(rows), blocks.score_samples(rows))


@pytest.mark.parametrize("init_params", ["k-means++", "kmeans", "random_from_data"])
def test_each_start_finds_clear_clusters(init_params):
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    rows = make_blobs(300, centers=centres, random_state=0)[0]
    gmm = DiagonalGMM(3, init_params=init_params, n_init=8, random_state=0, device="cpu").fit(rows)
    found = gmm.means_[np.argsort(gmm.means_ @ [1, 2])]
    np.testing.assert_allclose(found, centres, atol=0.3)


def test_of_several_starts_the_best_is_kept():
    rows = overlapping(k=12)
    options = {"init_params": "random_from_data", "device": "cpu", "max_iter": 200}
    random_state = np.random.RandomState(3)
    alone = [DiagonalGMM(6, random_state=random_state, **options).fit(rows) for _ in range(5)]
    best = DiagonalGMM(6, n_init=5, random_state=np.random.RandomState(3), **options).fit(rows)
    assert len({round(g.lower_bound_, 3) for g in alone}) > 1
    assert best.lower_bound_ == pytest.approx(max(g.lower_bound_ for g in alone))


def test_seed_decides():
    rows = overlapping(k=12)
    first, same, other = (
        DiagonalGMM(6, random_state=s, device="cpu").fit(rows).means_ for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)


def test_a_large_offset_costs_no_digits():
    rows = overlapping()
    near, far = (
        DiagonalGMM(5, random_state=0, device="cpu").fit(rows + shift) for shift in (0, 1e4)
    )
    np.testing.assert_allclose(far.covariances_, near.covariances_, rtol=1e-6)
    np.testing.assert_allclose(far.score_samples(rows + 1e4), near.score_samples(rows), rtol=1e-6)


def test_constant_and_nearly_constant_features_are_safe():
    """As saturated tanh units and dead ReLU units give them."""
    rng = np.random.default_rng(0)
    rows = np.tanh(rng.normal(scale=3, size=(400, 6))).astype(np.float32)
    rows[:, 0] = 1.0
    rows[:, 1] = np.where(rng.random(400) < 0.01, 1e-4, 0.0)
    gmm = DiagonalGMM(20, random_state=0, device="cpu").fit(rows)
    assert np.isfinite(gmm.score_samples(rows)).all()
    assert gmm.covariances_.min() >= 1e-6 * (1 - 1e-9)
    assert gmm.score_samples(rows).dtype == np.float64


def test_more_components_than_distinct_rows():
    rows = np.repeat(np.eye(3), 10, axis=0)
    gmm = DiagonalGMM(8, random_state=0, device="cpu").fit(rows)
    assert np.isfinite(gmm.means_).all() and np.isfinite(gmm.score_samples(rows)).all()
    assert gmm.weights_.sum() == pytest.approx(1)


def relu_features(rng):
    """A third of the units never fires, another third seldom."""
    features = np.maximum(tanh_features(rng), 0)
    features[:, :20] = 0
    features[:, 20:40] *= rng.random((len(features), 20)) < 0.02
    return features


@pytest.mark.parametrize(
    "features",
    [tanh_features, relu_features, lambda rng: tanh_features(rng) + 1e4],
    ids=["tanh", "relu", "offset"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_features_of_networks_get_scikit_learns_likelihood(features, dtype):
    """So many components that float32 looks for those that matter; 1e-4 nats per dimension."""
    rng = np.random.default_rng(0)
    rows = features(rng).astype(dtype)
    start = DiagonalGMM(48, max_iter=1, tol=0, random_state=0, device="cpu").fit(rows)
    names = ("weights", "means", "precisions")
    given = {f"{name}_init": getattr(start, f"{name}_") for name in names}
    ours = DiagonalGMM(48, max_iter=20, tol=1e-9, device="cpu", **given).fit(rows)
    exact = rows.astype(np.float64)
    # Scikit-learn's squares are not centred: it is given rows that are.
    centre = exact.mean(axis=0)
    given["means_init"] = given["means_init"] - centre
    reference = GaussianMixture(48, covariance_type="diag", max_iter=20, tol=1e-9, **given)
    reference.fit(exact - centre)
    found, expected = ours.score_samples(rows), reference.score_samples(exact - centre)
    assert abs(found.mean() - expected.mean()) / rows.shape[1] < 1e-4
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * rows.shape[1])


def near_duplicates(rng):
    rows = tanh_features(rng, n=300)
    return np.concatenate([rows, rows + 1e-4 * rng.normal(size=rows.shape)])


@settings(deadline=None, max_examples=10)
@given(
    k=st.sampled_from([1, 31, 32, 100, 600]),
    scale=st.sampled_from([1e-2, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 1.0]),
    dead=st.integers(0, 40),
    seed=st.integers(0, 10**6),
)
def test_scale_offset_duplicates_dead_features_and_k_up_to_n(k, scale, offset, dead, seed):
    """The mixture of scikit-learn, whose rows are centred, as its squares are not."""
    rng = np.random.default_rng(seed)
    rows = near_duplicates(rng)
    rows[:, :dead] = 0
    rows = scale * (rows - rows.mean(axis=0))
    given = {
        "weights_init": np.full(k, 1 / k),
        "means_init": rows[rng.choice(len(rows), k, replace=False)],
        "precisions_init": np.tile(1 / (rows.var(axis=0) + 1e-6 * scale**2), (k, 1)),
    }
    options = {"max_iter": 4, "tol": 0, "reg_covar": 1e-6 * scale**2}
    reference = GaussianMixture(k, covariance_type="diag", **options, **given)
    shifted = given | {"means_init": given["means_init"] + offset * scale}
    ours = DiagonalGMM(k, device="cpu", **options, **shifted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference.fit(rows)
        ours.fit(rows + offset * scale)
    assert ours.lower_bound_ == pytest.approx(reference.lower_bound_, rel=1e-7)
    np.testing.assert_allclose(ours.weights_, reference.weights_, rtol=1e-5, atol=1e-8)
    means = ours.means_ - offset * scale
    kept = reference.weights_ * len(rows) > 1e-6  # scikit-learn moves one without rows to 0
    np.testing.assert_allclose(means[kept], reference.means_[kept], rtol=1e-5, atol=1e-6 * scale)


def test_the_number_of_threads_changes_no_bit():
    rows = tanh_features(np.random.default_rng(0), n=9000)
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        gmm = DiagonalGMM(40, max_iter=3, tol=1e9, random_state=0, device="cpu").fit(rows)
        found.append([gmm.means_, gmm.covariances_, gmm.score_samples(rows)])
    torch.set_num_threads(before)
    for other in found[1:]:
        for array, expected in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(array, expected)
