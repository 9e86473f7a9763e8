"""Checkpoints, images and labels that a training refuses."""

import numpy as np
import pytest
import torch

from mistakes_lib.classifiers import densenet_bc
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.training.recipe import Recipe
from mistakes_lib.training.supervised import train
from tests.helpers.training import (
    QUIET,
    RECIPE,
    digit_images,
    small_densenet,
    tiny_net,
)


@pytest.mark.parametrize(
    ("make", "recipe", "seed"),
    [
        (small_densenet, Recipe(epochs=4, batch_size=32, lr=0.05, schedule="one_cycle"), 0),
        (small_densenet, Recipe(epochs=3, batch_size=32, lr=0.06, schedule="one_cycle"), 0),
        (small_densenet, RECIPE, 1),
        (lambda: small_densenet(dropout=0.3), RECIPE, 0),
        (lambda: densenet_bc(10, depth=16, growth_rate=4), RECIPE, 0),
    ],
    ids=["epochs", "rate", "seed", "dropout", "depth"],
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path, make, recipe, seed):
    images, labels = digit_images(60)
    checkpoint = tmp_path / "checkpoint"
    train(small_densenet(), images, labels, RECIPE, checkpoint=checkpoint, **QUIET)
    before = checkpoint.read_bytes()
    with pytest.raises(ValueError, match="checkpoint of another training"):
        train(make(), images, labels, recipe, seed=seed, checkpoint=checkpoint, **QUIET)
    assert checkpoint.read_bytes() == before


def test_numpy_seeds_are_seeds(tmp_path):
    images, labels = digit_images(60)
    options = {"checkpoint": tmp_path / "checkpoint"} | QUIET
    history = train(small_densenet(), images, labels, RECIPE, seed=np.int64(4), **options)
    assert train(small_densenet(), images, labels, RECIPE, seed=4, **options) == history


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    images, labels = digit_images(60)
    FeatureSet(np.eye(2), np.eye(2)).save(tmp_path / "features")
    with pytest.raises(ValueError, match="checkpoint of another training"):
        train(small_densenet(), images, labels, RECIPE, checkpoint=tmp_path / "features", **QUIET)
    (tmp_path / "damaged").write_bytes(b"half of a checkpoint")
    with pytest.raises(ValueError, match="damaged"):
        train(small_densenet(), images, labels, RECIPE, checkpoint=tmp_path / "damaged", **QUIET)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), [0, 1], "images must be uint8 .* got torch.float32"),
        (np.zeros((3, 8, 8), np.uint8), [0, 1, 2], r"images must be uint8 .*\(3, 8, 8\)"),
        (np.zeros((0, 3, 8, 8), np.uint8), [], "n ≥ 1"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0], "labels has 1 entries, but there are 2 rows"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 10], r"labels\[1\] is 10, outside 0…9"),
        (np.zeros((2, 3, 8, 8), np.uint8), [-1, 0], r"labels\[0\] is -1"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 0.5], "whole numbers"),
        (np.zeros((2, 3, 8, 8), np.uint8), [[0, 1], [1, 0]], "labels are one-hot"),
    ],
)
def test_bad_images_and_labels_get_one_clear_error(images, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        train(small_densenet(), images, labels, RECIPE, **QUIET)
    good = digit_images(10)
    with pytest.raises(ValueError, match=complaint):
        train(small_densenet(), *good, RECIPE, validation=(images, labels), **QUIET)


def test_a_training_that_diverges_says_so_and_saves_nothing_of_it(tmp_path):
    images, labels = digit_images(100)
    recipe, checkpoint = Recipe(epochs=3, batch_size=20, lr=1e30), tmp_path / "checkpoint"
    network = tiny_net()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"loss became .* in epoch 1: lower the learning rate"):
        train(network, images, labels, recipe, checkpoint=checkpoint, **QUIET)
    assert not checkpoint.exists()
    assert torch.equal(torch.get_rng_state(), state)
