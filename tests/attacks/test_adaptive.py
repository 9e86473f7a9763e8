"""Attacks by one who knows the detector: their laws, and what a climb without a stop leaves."""

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn
from torch.nn.functional import cross_entropy

from mistakes_lib import (
    DiagonalGMM,
    FeatureClassifier,
    bim,
    extract_features,
    feature_match,
    hinge_attack,
    targets_elsewhere,
)

EPS = 0.3


def squares(n=150, seed=0):
    """Two classes of 3 × 4 × 4 images: brighter above or brighter below."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    images = rng.uniform(size=(n, 3, 4, 4)).astype(np.float32)
    images[labels == 0, :, :2] *= 0.6
    images[labels == 1, :, 2:] *= 0.6
    return images, labels


@pytest.fixture(scope="module")
def world():
    """A small trained network, a mixture of its training features and the detector's threshold."""
    torch.manual_seed(0)
    classifier = FeatureClassifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), nn.Linear(8, 2))
    images, labels = squares(400, seed=1)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        cross_entropy(classifier(torch.tensor(images)), torch.tensor(labels)).backward()
        optimiser.step()
    classifier.eval()
    train = extract_features(classifier, images, device="cpu").features
    density = DiagonalGMM(4, random_state=0, device="cpu").fit(train)
    return classifier, density, float(np.quantile(density.score_samples(train), 0.05))


def evasion(world, attacked, labels):
    """Share of the images that fool the network and pass the detector."""
    classifier, density, threshold = world
    batch = extract_features(classifier, attacked, device="cpu")
    passed = density.score_samples(batch.features) >= threshold
    return (passed & (batch.predictions != labels)).mean()


def test_the_hinge_evades_more_often_than_an_attack_that_knows_no_detector(world):
    classifier, density, threshold = world
    images, labels = squares()
    blind = bim(classifier, images, labels, EPS, device="cpu")
    options = {"threshold": threshold, "iterations": 60, "device": "cpu"}
    knowing = hinge_attack(classifier, density, images, labels, EPS, **options)
    assert np.abs(knowing - images).max() <= EPS + 1e-6
    assert knowing.min() >= 0 and knowing.max() <= 1
    assert evasion(world, knowing, labels) > evasion(world, blind, labels) + 0.3


def test_too_large_a_weight_holds_images_in_their_own_class(world):
    """Why w is chosen on other images: the likelihood between two classes is a barrier."""
    classifier, density, threshold = world
    images, labels = squares(60)
    found = [
        evasion(
            world,
            hinge_attack(
                classifier,
                density,
                images,
                labels,
                EPS,
                threshold=threshold,
                weight=weight,
                iterations=60,
                device="cpu",
            ),
            labels,
        )
        for weight in (0.3, 3.0)
    ]
    assert found[0] > found[1] + 0.3


def test_the_hinge_rests_where_both_goals_are_met(world):
    """Images that are misclassified and likely already get no gradient: they stay."""
    classifier, density, _ = world
    images, _ = squares(40)
    wrong = 1 - extract_features(classifier, images, device="cpu").predictions
    options = {"threshold": -1e6, "iterations": 3, "device": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rests = hinge_attack(classifier, density, images, wrong, EPS, **options)
    np.testing.assert_array_equal(rests, images)


def test_matched_features_come_nearer_to_their_target_and_change_the_prediction(world):
    classifier = world[0]
    images, labels = squares()
    pool_images, _ = squares(200, seed=2)
    clean, pool = (extract_features(classifier, x, device="cpu") for x in (images, pool_images))
    targets = targets_elsewhere(clean.features, labels, pool.features, pool.predictions)
    options = {"step": 0.01, "iterations": 60, "batch_size": 64, "device": "cpu"}
    matched = feature_match(classifier, images, labels, targets, EPS, **options)
    assert np.abs(matched - images).max() <= EPS + 1e-6
    moved = extract_features(classifier, matched, device="cpu")
    before, after = (np.linalg.norm(b.features - targets, axis=1) for b in (clean, moved))
    assert np.median(after) < 0.5 * np.median(before)
    assert (moved.predictions != labels).mean() > (clean.predictions != labels).mean() + 0.3
    whole = feature_match(
        classifier, torch.tensor(images), labels, targets, EPS, **options | {"batch_size": 500}
    )
    np.testing.assert_allclose(whole.numpy(), matched, atol=0.02)


def test_targets_are_the_nearest_of_another_class():
    rng = np.random.default_rng(0)
    features, pool = rng.normal(size=(20, 3)), rng.normal(size=(50, 3))
    labels, predictions = rng.integers(3, size=20), rng.integers(3, size=50)
    distance = cdist(features, pool)
    distance[labels[:, None] == predictions] = np.inf
    expected = pool[distance.argmin(axis=1)]
    np.testing.assert_array_equal(targets_elsewhere(features, labels, pool, predictions), expected)


def test_bad_input_is_named(world):
    classifier, density, _ = world
    images, labels = squares(4)
    hinge = {"eps": EPS, "threshold": 0.0}
    for changes, error, message in (
        ({"weight": -1}, ValueError, "weight"),
        ({"margin": -1}, ValueError, "margin"),
        ({"threshold": np.inf}, ValueError, "threshold must be a finite"),
        ({"density": object()}, TypeError, "no log_prob"),
        ({"eps": 2}, ValueError, "eps must be a number"),
    ):
        arguments = {"density": density, "images": images, "labels": labels} | hinge | changes
        with pytest.raises(error, match=message):
            hinge_attack(classifier, **arguments)
    with pytest.raises(ValueError, match="one row of features for each of 4 images"):
        feature_match(classifier, images, labels, np.zeros((3, 8)), EPS)
    with pytest.raises(ValueError, match="predicted as class 1"):
        targets_elsewhere([[0.0]], [1], [[1.0]], [1])
    with pytest.raises(ValueError, match="same columns"):
        targets_elsewhere([[0.0]], [1], [[1.0, 2.0]], [1])
