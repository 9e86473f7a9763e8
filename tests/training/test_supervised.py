"""Training is the loop written by hand, seeded, and refuses what it cannot train."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mistakes_lib.classifiers import densenet_bc
from mistakes_lib.training import supervised as training
from mistakes_lib.training.recipe import Recipe, learning_rate
from mistakes_lib.training.supervised import train
from tests.helpers.training import (
    QUIET,
    RECIPE,
    assert_same_bits,
    digit_images,
    red_or_blue_images,
    small_densenet,
    tiny_net,
)


def by_hand(classifier, images, labels, recipe, seed):
    """SGD with Nesterov momentum, written out: v ← μ v + g, w ← w − η (g + μ v)."""
    velocity = {p: torch.zeros_like(p) for p in classifier.parameters()}
    x, y = torch.tensor(images).float() / 255, torch.tensor(labels)
    steps, history = math.ceil(len(x) / recipe.batch_size), []
    for epoch in range(recipe.epochs):
        epoch_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch_seed))
        loss_sum, hits = 0.0, 0
        for step in range(steps):
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            rate = learning_rate(recipe, epoch * steps + step, steps)
            classifier.train().zero_grad()
            logits = classifier(x[rows])
            loss = F.cross_entropy(logits, y[rows])
            loss.backward()
            with torch.no_grad():
                for p, v in velocity.items():
                    gradient = p.grad + recipe.weight_decay * p
                    v.mul_(recipe.momentum).add_(gradient)
                    p.sub_(rate * (gradient + recipe.momentum * v))
            loss_sum += loss.item() * len(rows)
            hits += (logits.argmax(1) == y[rows]).sum().item()
        history.append({"lr": rate, "loss": loss_sum / len(x), "accuracy": hits / len(x)})
    return history


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 1},
        {"epochs": 3, "milestones": (1, 2), "weight_decay": 0.01},
        {"epochs": 2, "schedule": "one_cycle", "momentum": 0.5},
    ],
)
def test_training_is_the_loop_written_by_hand(options):
    images, labels = digit_images(100)
    recipe = Recipe(batch_size=32, lr=0.02, max_shift=0, flip=False, **options)
    ours, peer = tiny_net(), tiny_net()
    history = train(ours, images, labels, recipe, seed=5, **QUIET)
    expected = by_hand(peer, images, labels, recipe, seed=5)
    for name, value in peer.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    assert [record["epoch"] for record in history] == list(range(1, recipe.epochs + 1))
    for record, theirs in zip(history, expected, strict=True):
        assert record["lr"] == theirs["lr"]
        assert record["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert record["accuracy"] == theirs["accuracy"]
        assert record["seconds"] >= 0


def test_the_average_of_the_weights_is_kept_and_validated():
    """What three epochs pass through, averaged by torch's own AveragedModel from the start."""
    images, labels = digit_images(100)
    validation = digit_images(300)
    recipe = Recipe(epochs=3, batch_size=50, lr=0.05, milestones=())
    peer, ours = tiny_net(), tiny_net()
    decay = 0.7
    peer_average = AveragedModel(peer, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    peer_average.n_averaged += 1  # it has the weights at the start

    original = torch.optim.SGD.step

    def step_and_average(optimizer, *args):
        original(optimizer, *args)
        peer_average.update_parameters(peer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step_and_average)
        last = train(peer, images, labels, recipe, validation=validation, **QUIET)
    averaged = replace(recipe, ema_decay=decay)
    history = train(ours, images, labels, averaged, validation=validation, **QUIET)
    for name, value in peer_average.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    assert [each["loss"] for each in history] == [each["loss"] for each in last], "same training"
    final = training.measure_accuracy(
        ours, torch.tensor(validation[0]), torch.tensor(validation[1]), recipe
    )
    assert history[-1]["validation_accuracy"] == final != last[-1]["validation_accuracy"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_separable_images_are_learnt(precision):
    torch.manual_seed(0)
    classifier = densenet_bc(2, depth=10, growth_rate=4, dropout=0.0)
    recipe = Recipe(epochs=4, batch_size=20, lr=0.1, schedule="one_cycle", precision=precision)
    history = train(
        classifier,
        *red_or_blue_images(),
        recipe,
        validation=red_or_blue_images(seed=1),
        **QUIET,
    )
    assert history[-1]["validation_accuracy"] > 0.95
    assert history[-1]["accuracy"] > 0.95
    assert history[-1]["loss"] < history[0]["loss"]
    images, labels = red_or_blue_images(seed=1)
    with torch.no_grad():
        predictions = classifier(torch.tensor(images) / 255).argmax(1).numpy()
    assert not classifier.training
    measured = (predictions == labels).mean()
    assert measured == pytest.approx(history[-1]["validation_accuracy"], abs=0.01)
    assert all(p.dtype == torch.float32 for p in classifier.parameters())


def test_the_seed_decides():
    images, labels = digit_images(100)
    first, same, other = small_densenet(), small_densenet(), small_densenet()
    history = train(first, images, labels, RECIPE, seed=1, **QUIET)
    torch.manual_seed(99)  # the caller's random state does not matter
    again = train(same, torch.tensor(images), torch.tensor(labels), RECIPE, seed=1, **QUIET)
    train(other, images, labels, RECIPE, seed=2, **QUIET)
    assert_same_bits(first, same)
    assert [record["loss"] for record in history] == [record["loss"] for record in again]
    assert not torch.equal(first.head.weight, other.head.weight)


def test_watching_and_saving_do_not_change_the_training(tmp_path):
    images, labels = digit_images(100)
    alone, watched = small_densenet(), small_densenet()
    train(alone, images, labels, RECIPE, **QUIET)
    history = train(
        watched,
        images,
        labels,
        RECIPE,
        validation=(images[:30], labels[:30]),
        checkpoint=tmp_path / "checkpoint",
        device="cpu",
        progress=True,
    )
    assert_same_bits(alone, watched)
    assert all(0 <= record["validation_accuracy"] <= 1 for record in history)


def test_the_callers_random_state_is_untouched():
    images, labels = digit_images(70)
    network = small_densenet()
    before = torch.get_rng_state(), random.getstate()
    numpy_before = np.random.get_state()  # noqa: NPY002
    train(network, images, labels, Recipe(epochs=1), **QUIET)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before[1])  # noqa: NPY002


def test_the_images_are_not_written_to():
    images, labels = digit_images(70)
    images, labels = torch.tensor(images), torch.tensor(labels)
    before = images.clone(), labels.clone()
    train(small_densenet(), images, labels, Recipe(epochs=1), **QUIET)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
