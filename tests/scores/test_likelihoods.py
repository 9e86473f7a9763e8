"""Likelihoods as scores against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import LogLikelihood, ZhengHong
from tests.helpers.batches import blobs


def test_log_likelihood_fits_a_clone_of_an_unfitted_density():
    train, batch = blobs(), blobs(40, seed=1)
    density = GaussianMixture(2, covariance_type="diag", random_state=0)
    scorer = LogLikelihood(density).fit(train)
    with pytest.raises(NotFittedError):
        check_is_fitted(density)  # the caller's object is left alone
    expected = clone(density).fit(train.features).score_samples(batch.features)
    np.testing.assert_allclose(scorer.score_samples(batch), expected)


def test_log_likelihood_of_one_gaussian_equals_scipy():
    train, batch = blobs(), blobs(40, seed=1)
    features = train.features.astype(np.float64)
    peer = multivariate_normal(features.mean(axis=0), np.diag(features.var(axis=0)))
    scorer = LogLikelihood(DiagonalGMM(1)).fit(train)
    np.testing.assert_allclose(scorer.score_samples(batch), peer.logpdf(batch.features), rtol=1e-4)


def test_log_likelihood_uses_a_fitted_density_as_it_is():
    train, batch = blobs(), blobs(40, seed=1)
    density = GaussianMixture(1).fit(blobs(seed=2).features)
    expected = density.score_samples(batch.features)
    np.testing.assert_array_equal(LogLikelihood(density).score_samples(batch), expected)
    np.testing.assert_array_equal(LogLikelihood(density).fit(train).score_samples(batch), expected)


def test_log_likelihood_refuses_a_density_of_other_features():
    density = GaussianMixture(1).fit(blobs(d=4).features)
    with pytest.raises(ValueError, match="features"):
        LogLikelihood(density).fit(blobs(d=5))


def test_zheng_hong_with_one_component_equals_scipy():
    train, batch = blobs(), blobs(60, seed=1)
    features = train.features.astype(np.float64)
    expected = np.empty(60)
    for i, (row, c) in enumerate(zip(batch.features, batch.predictions, strict=True)):
        members = features[train.labels == c]
        peer = multivariate_normal(members.mean(axis=0), np.diag(members.var(axis=0)))
        expected[i] = peer.logpdf(row)
    np.testing.assert_allclose(ZhengHong(1).fit(train).score_samples(batch), expected, rtol=1e-4)


def test_zheng_hong_equals_scikit_learns_mixture_of_each_class():
    """On classes of three clear clusters both find the one optimum, from starts of their own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=30, size=(2, 3, 5))
    labels, clusters = np.arange(400) % 2, rng.integers(3, size=400)
    features = centres[labels, clusters] + rng.normal(size=(400, 5))
    data = FeatureSet(features, np.eye(2)[labels], labels)
    train, batch = data[:300], data[300:]
    scores = ZhengHong(3, random_state=0).fit(train).score_samples(batch)
    for c in range(2):
        peer = GaussianMixture(3, covariance_type="diag", n_init=5, random_state=0)
        peer.fit(train.features[train.labels == c].astype(np.float64))
        rows = batch.predictions == c
        expected = peer.score_samples(batch.features[rows].astype(np.float64))
        np.testing.assert_allclose(scores[rows], expected, rtol=1e-5)


def test_zheng_hong_asks_the_class_that_is_predicted():
    train = blobs()
    scorer = ZhengHong(2, random_state=0).fit(train)
    features = train.features[:9]
    for c in range(3):
        said = FeatureSet(features, np.tile(np.eye(3)[c], (9, 1)), train.labels[:9])
        expected = scorer.mixtures_[c].score_samples(features)
        np.testing.assert_array_equal(scorer.score_samples(said), expected)


def test_zheng_hong_gives_small_classes_fewer_components():
    train = blobs()
    few = np.flatnonzero(train.labels == 1)[:4]
    kept = train[np.concatenate([few, np.flatnonzero(train.labels != 1)])]
    scorer = ZhengHong(10, random_state=0).fit(kept)
    assert [len(m.weights_) for m in scorer.mixtures_] == [10, 4, 10]
    assert np.isfinite(scorer.score_samples(train)).all()


@pytest.mark.parametrize("left", [0, 1])
def test_zheng_hong_names_a_class_that_is_too_small(left):
    train = blobs()
    few = np.flatnonzero(train.labels == 1)[:left]
    kept = train[np.concatenate([few, np.flatnonzero(train.labels != 1)])]
    with pytest.raises(ValueError, match=f"class 1 has {left} training inputs"):
        ZhengHong().fit(kept)


def test_zheng_hong_needs_whole_components():
    with pytest.raises(ValueError, match="n_components == 0"):
        ZhengHong(0).fit(blobs())
