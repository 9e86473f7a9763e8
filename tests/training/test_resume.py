"""An interrupted training ends in the same bits."""

import signal
import time

import pytest
import torch
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier, wide_resnet
from mistakes_lib.support.storage import load_arrays, save_arrays
from mistakes_lib.training import loop
from mistakes_lib.training import supervised as training
from mistakes_lib.training.recipe import Recipe
from mistakes_lib.training.supervised import train
from tests.helpers.training import (
    QUIET,
    RECIPE,
    Killed,
    assert_same_bits,
    digit_images,
    small_densenet,
    stop_at_batch,
)


@pytest.mark.parametrize("batch", [0, 2, 4, 6, 11])  # of 4 an epoch
@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}, {"ema_decay": 0.8}])
def test_an_interrupted_training_ends_in_the_same_bits(monkeypatch, tmp_path, batch, options):
    images, labels = digit_images(100)
    recipe = Recipe(epochs=3, batch_size=32, lr=0.05, schedule="one_cycle", **options)
    undisturbed = small_densenet(dropout=0.2)
    expected = train(
        undisturbed, images, labels, recipe, seed=3, validation=(images, labels), **QUIET
    )

    options = {"seed": 3, "validation": (images, labels), "checkpoint": tmp_path / "checkpoint"}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at_batch(patch, training, batch)
        train(small_densenet(), images, labels, recipe, **options, **QUIET)
    assert (tmp_path / "checkpoint").exists() == (batch >= 4)
    # As a new process would: a new network, with other weights if there are some on disk.
    resumed = small_densenet(seed=7 if batch >= 4 else 0)
    history = train(resumed, images, labels, recipe, **options, **QUIET)
    assert_same_bits(resumed, undisturbed)
    for record, theirs in zip(history, expected, strict=True):
        assert record | {"seconds": 0} == theirs | {"seconds": 0}


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: small_densenet(0.2, seed),
        lambda seed: (torch.manual_seed(seed), wide_resnet(10, depth=10, widen_factor=1))[1],
    ],
    ids=["densenet", "wide_resnet"],
)
def test_several_interruptions_end_in_the_same_bits(monkeypatch, tmp_path, make):
    images, labels = digit_images(60)
    recipe = Recipe(epochs=4, batch_size=20, milestones=(1, 3))  # 3 batches an epoch
    undisturbed = make(0)
    train(undisturbed, images, labels, recipe, **QUIET)
    checkpoint = tmp_path / "checkpoint"
    for attempt in range(3):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            stop_at_batch(patch, training, 4)
            train(make(attempt), images, labels, recipe, checkpoint=checkpoint, **QUIET)
        assert len(load_arrays(checkpoint)[1]["history"]) == attempt + 1
    resumed = make(9)
    train(resumed, images, labels, recipe, checkpoint=checkpoint, **QUIET)
    assert_same_bits(resumed, undisturbed)


def test_a_finished_training_is_not_repeated(monkeypatch, tmp_path):
    images, labels = digit_images(60)
    options = {"checkpoint": tmp_path / "checkpoint"} | QUIET
    first, again = small_densenet(), small_densenet(seed=1)
    history = train(first, images, labels, RECIPE, **options)
    stop_at_batch(monkeypatch, training, 0)
    assert train(again, images, labels, RECIPE, **options) == history
    assert_same_bits(again, first)
    assert not again.training


def test_a_failed_write_of_the_checkpoint_loses_one_epoch_only(monkeypatch, tmp_path):
    images, labels = digit_images(60)
    checkpoint = tmp_path / "checkpoint"
    undisturbed = small_densenet()
    train(undisturbed, images, labels, RECIPE, **QUIET)
    saves = iter([True, False])

    def failing_save(*args):
        if not next(saves):
            raise OSError("no space left on device")
        save_arrays(*args)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(loop, "save_arrays", failing_save)
        train(small_densenet(), images, labels, RECIPE, checkpoint=checkpoint, **QUIET)
    assert len(load_arrays(checkpoint)[1]["history"]) == 1
    resumed = small_densenet(seed=1)
    train(resumed, images, labels, RECIPE, checkpoint=checkpoint, **QUIET)
    assert_same_bits(resumed, undisturbed)


def test_frozen_layers_stay_and_resume(monkeypatch, tmp_path):
    images, labels = digit_images(100)

    def frozen():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 8), nn.Flatten(), nn.Tanh(), nn.Linear(6, 10))
        net[0].requires_grad_(False)
        return FeatureClassifier.from_module(net)

    undisturbed, checkpoint = frozen(), tmp_path / "checkpoint"
    train(undisturbed, images, labels, RECIPE, **QUIET)
    assert torch.equal(undisturbed.body.net[0].weight, frozen().body.net[0].weight)
    assert not torch.equal(undisturbed.head.weight, frozen().head.weight)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at_batch(patch, training, 6)
        train(frozen(), images, labels, RECIPE, checkpoint=checkpoint, **QUIET)
    resumed = frozen()
    train(resumed, images, labels, RECIPE, checkpoint=checkpoint, **QUIET)
    assert_same_bits(resumed, undisturbed)


# The child's batches are slow, so that the signal comes in the middle of an epoch.
CHILD = """
import sys, time
import torch
torch.set_num_threads(1)
from mistakes_lib.training import supervised as training
from mistakes_lib.classifiers import densenet_bc
from mistakes_lib.support.storage import load_arrays
from mistakes_lib.training.recipe import Recipe

arrays, metadata = load_arrays(sys.argv[1])
original = training.augment
def slow_augment(*args, **options):
    time.sleep(0.03)
    return original(*args, **options)
training.augment = slow_augment
torch.manual_seed(0)
classifier = densenet_bc(10, depth=10, growth_rate=4, dropout=0.2, mean=(0.3,) * 3)
training.train(classifier, arrays["images"], arrays["labels"], Recipe(**metadata),
               seed=3, checkpoint=sys.argv[2], device="cpu", progress=False)
"""


def epochs_done(checkpoint):
    return len(load_arrays(checkpoint)[1]["history"]) if checkpoint.exists() else 0


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(nursery, tmp_path):
    images, labels = digit_images(200)
    settings_ = {"epochs": 6, "batch_size": 16, "lr": 0.05, "precision": "bfloat16"}
    recipe, checkpoint = Recipe(**settings_), tmp_path / "run" / "checkpoint"
    undisturbed = small_densenet()
    train(undisturbed, images, labels, recipe, seed=3, **QUIET)

    save_arrays(tmp_path / "data", {"images": images, "labels": labels}, settings_)
    child = nursery.start(CHILD, tmp_path / "data", checkpoint)
    try:
        while epochs_done(checkpoint) < 2 and child.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1)  # into the third epoch
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL, child.stderr
    assert 2 <= epochs_done(checkpoint) < 6
    resumed = small_densenet(seed=1)
    train(resumed, images, labels, recipe, seed=3, checkpoint=checkpoint, **QUIET)
    assert_same_bits(resumed, undisturbed)
