"""Distances against naive loops, SciPy and pytorch-ood."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.detector import KNN, RMD
from pytorch_ood.detector import Mahalanobis as PeerMahalanobis
from scipy.stats import multivariate_normal

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Mahalanobis, NearestNeighbors, RelativeMahalanobis
from tests.helpers.batches import blobs


def peer_outlier_scores(peer, train, batch):
    """What a detector of pytorch-ood says, in double precision; higher = more of an outlier."""
    torch.set_default_dtype(torch.float64)  # the peers work in the default dtype
    try:
        peer.fit_features(torch.tensor(train.features).double(), torch.tensor(train.labels))
        return peer.predict_features(torch.tensor(batch.features).double()).numpy()
    finally:
        torch.set_default_dtype(torch.float32)


def test_mahalanobis_equals_pytorch_ood():
    train, batch = blobs(), blobs(200, seed=1)
    # The peer's score is half the squared distance, higher = more of an outlier, and its Σ is not
    # divided by n (plus a ridge of 1e-6, far below the scatter here).
    expected = -2 * len(train) * peer_outlier_scores(PeerMahalanobis(None), train, batch)
    np.testing.assert_allclose(Mahalanobis().fit(train).score_samples(batch), expected, rtol=1e-7)


def naive_mahalanobis(train, batch):
    features = train.features.astype(np.float64)
    classes = np.unique(train.labels)
    means = [features[train.labels == c].mean(axis=0) for c in classes]
    covariance = sum(
        np.outer(f - means[list(classes).index(y)], f - means[list(classes).index(y)])
        for f, y in zip(features, train.labels, strict=True)
    ) / len(train)
    precision = np.linalg.inv(covariance)
    return [
        max(-(f - m) @ precision @ (f - m) for m in means) for f in batch.features.astype(float)
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_mahalanobis_equals_a_naive_loop(seed, d, c):
    train, batch = blobs(60, d, c, seed), blobs(20, d, c, seed + 1)
    np.testing.assert_allclose(
        Mahalanobis().fit(train).score_samples(batch), naive_mahalanobis(train, batch), rtol=1e-6
    )


def test_mahalanobis_is_safe_for_features_that_depend_on_each_other():
    """An affine map into more dimensions leaves Mahalanobis distances as they are."""
    train, batch = blobs(d=3), blobs(50, d=3, seed=1)
    rng = np.random.default_rng(0)
    embedding, offset = rng.normal(size=(3, 8)), rng.normal(size=8)

    def embed(batch):
        features = batch.features.astype(np.float64) @ embedding + offset
        constant = np.full((len(batch), 1), 0.3)
        return FeatureSet(np.hstack([features, constant]), batch.logits, batch.labels)

    scorer = Mahalanobis().fit(embed(train))
    assert scorer.whitening_.shape == (9, 3)
    np.testing.assert_allclose(
        scorer.score_samples(embed(batch)), Mahalanobis().fit(train).score_samples(batch), rtol=1e-4
    )


def test_mahalanobis_keeps_small_but_real_directions():
    """A feature a thousand times smaller than its neighbour counts as much."""
    train, batch = blobs(d=2), blobs(50, d=2, seed=1)
    scale = np.array([1.0, 1e-3])
    rescaled = [FeatureSet(s.features * scale, s.logits, s.labels) for s in (train, batch)]
    np.testing.assert_allclose(
        Mahalanobis().fit(rescaled[0]).score_samples(rescaled[1]),
        Mahalanobis().fit(train).score_samples(batch),
        rtol=1e-4,
    )


def test_mahalanobis_leaves_out_a_class_without_training_inputs():
    train, batch = blobs(c=3), blobs(50, c=3, seed=1)
    seen = train[train.labels != 1]
    scorer = Mahalanobis().fit(seen)
    np.testing.assert_array_equal(scorer.classes_, [0, 2])
    np.testing.assert_allclose(
        scorer.score_samples(batch), naive_mahalanobis(seen, batch), rtol=1e-6
    )


def test_mahalanobis_refuses_features_without_spread():
    features = np.full((6, 3), 0.1)
    with pytest.raises(ValueError, match="do not vary within any class"):
        Mahalanobis().fit(FeatureSet(features, np.zeros((6, 2)), [0, 0, 0, 1, 1, 1]))


def test_mahalanobis_needs_a_positive_rcond():
    with pytest.raises(ValueError, match="rcond"):
        Mahalanobis(rcond=0.0).fit(blobs())


def test_relative_mahalanobis_equals_pytorch_ood():
    train, batch = blobs(), blobs(200, seed=1)
    # The peer's score is the relative distance, higher = more of an outlier; neither of its
    # covariances is divided by n.
    expected = -len(train) * peer_outlier_scores(RMD(None), train, batch)
    scores = RelativeMahalanobis().fit(train).score_samples(batch)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-5)


def test_relative_mahalanobis_is_the_log_ratio_of_two_gaussians():
    """Twice log N(F; μ_c, Σ) − log N(F; μ_0, Σ_0), up to the constant of the determinants."""
    train, batch = blobs(), blobs(50, seed=1)
    features = train.features.astype(np.float64)
    means = np.stack([features[train.labels == c].mean(axis=0) for c in range(3)])
    within = np.cov((features - means[train.labels]).T, bias=True)
    background = multivariate_normal(features.mean(axis=0), np.cov(features.T, bias=True))
    classes = np.stack([multivariate_normal(m, within).logpdf(batch.features) for m in means])
    ratio = 2 * (classes.max(axis=0) - background.logpdf(batch.features))
    scores = RelativeMahalanobis().fit(train).score_samples(batch)
    np.testing.assert_allclose(scores - scores[0], ratio - ratio[0], rtol=1e-6, atol=1e-6)


def test_relative_mahalanobis_ignores_a_direction_that_tells_no_classes_apart():
    train = blobs(2000, d=3)
    noise = np.random.default_rng(0).normal(size=(2000, 1))
    noise -= noise.mean()
    features = np.hstack([train.features, noise])
    scorer = RelativeMahalanobis().fit(FeatureSet(features, train.logits, train.labels))
    moved = features[:50] + np.array([0, 0, 0, 3.0])
    scores, moved = (
        scorer.score_samples(FeatureSet(f, train.logits[:50])) for f in (features[:50], moved)
    )
    assert np.abs(moved - scores).max() < 0.3  # the Mahalanobis distance grows by 9 and more


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 60))
@settings(deadline=None, max_examples=20)
def test_nearest_neighbors_equals_brute_force(seed, d, k):
    train, batch = blobs(60, d, seed=seed), blobs(20, d, seed=seed + 1)
    directions = []
    for features in (train.features, batch.features):
        exact = features.astype(np.float64)
        directions.append(exact / np.linalg.norm(exact, axis=1, keepdims=True))
    unit_train, unit = directions
    distances = np.linalg.norm(unit[:, None] - unit_train, axis=2)
    expected = -np.sort(distances, axis=1)[:, k - 1]
    np.testing.assert_allclose(
        NearestNeighbors(k).fit(train).score_samples(batch), expected, rtol=1e-6, atol=1e-7
    )


def test_nearest_neighbors_equals_pytorch_ood():
    train, batch = blobs(), blobs(200, seed=1)
    expected = -peer_outlier_scores(KNN(None, k=50), train, batch)
    np.testing.assert_allclose(
        NearestNeighbors().fit(train).score_samples(batch), expected, rtol=1e-6
    )


def test_nearest_neighbors_reads_files_that_hold_features_scaled_to_length_1():
    train, batch = blobs(), blobs(40, seed=1)
    scorer = NearestNeighbors().fit(train)
    arrays, metadata = scorer.pack()
    features = arrays.pop("features").astype(np.float64)
    arrays["directions"] = features / np.linalg.norm(features, axis=1, keepdims=True)
    earlier = NearestNeighbors.unpack(arrays, metadata)
    expected = scorer.score_samples(batch)
    np.testing.assert_allclose(earlier.score_samples(batch), expected, rtol=1e-9)


def test_nearest_neighbors_sees_the_direction_of_features_only():
    train, batch = blobs(), blobs(40, seed=1)
    longer = FeatureSet(batch.features * 7, batch.logits)
    scorer = NearestNeighbors().fit(train)
    np.testing.assert_allclose(scorer.score_samples(longer), scorer.score_samples(batch), rtol=1e-5)
    nothing = FeatureSet(np.zeros((1, 5)), np.zeros((1, 3)))  # no direction: all lie at distance 1
    np.testing.assert_allclose(scorer.score_samples(nothing), [-1.0])


@pytest.mark.parametrize(
    ("k", "error", "complaint"),
    [(0, ValueError, "k == 0"), (2.5, TypeError, "k must be"), (61, ValueError, "there are 60")],
)
def test_nearest_neighbors_needs_a_possible_k(k, error, complaint):
    with pytest.raises(error, match=complaint):
        NearestNeighbors(k).fit(blobs(60))
