"""Training against a loop written by hand, and resume to the bit whatever stopped it."""

import math
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mistakes_lib.classifiers import FeatureClassifier, densenet_bc, wide_resnet
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.runs.experiment import load_experiment
from mistakes_lib.support.storage import load_arrays, save_arrays
from mistakes_lib.training import loop
from mistakes_lib.training import supervised as training
from mistakes_lib.training.recipe import Recipe, learning_rate
from mistakes_lib.training.supervised import train

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(autouse=True)
def one_thread():
    """So small a network gains nothing from more, and on a busy machine they wait on each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_densenet(dropout=0.2, seed=0):
    torch.manual_seed(seed)
    return densenet_bc(10, depth=10, growth_rate=4, dropout=dropout, mean=(0.3,) * 3)


def digit_images(n=200):
    """scikit-learn's digits as uint8 (n, 3, 8, 8), and their labels."""
    digits = load_digits()
    grey = (digits.images[:n] * 255 / 16).astype(np.uint8)
    return np.repeat(grey[:, None], 3, axis=1), digits.target[:n]


def red_or_blue_images(n=300, seed=0):
    """Two classes that one hyperplane separates: the brighter channel."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    images = rng.integers(150, size=(n, 3, 6, 6), dtype=np.uint8)
    images[np.arange(n), 2 * labels] += 100
    return images, labels


def assert_same_bits(ours, expected):
    ours, expected = ours.state_dict(), expected.state_dict()
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name


# --- the schedule


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.1), (149, 0.1), (150, 0.01), (174, 0.01), (175, 0.001), (299, 0.001)],
)
@pytest.mark.parametrize("steps_per_epoch", [1, 704])
def test_appendix_c_divides_at_150_and_175(epoch, expected, steps_per_epoch):
    first, last = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1
    for step in (first, last):
        assert learning_rate(Recipe(), step, steps_per_epoch) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(59, 0.1), (60, 0.02), (119, 0.02), (120, 0.004), (160, 0.0008), (199, 0.0008)],
)
def test_the_wide_resnet_divides_by_5_at_60_120_and_160(epoch, expected):
    recipe = load_experiment("paper", preset="wrn_28_10").recipe
    assert learning_rate(recipe, epoch * 450, 450) == pytest.approx(expected)


def test_one_cycle_rises_to_its_peak_and_falls_to_zero():
    recipe = Recipe(epochs=10, schedule="one_cycle", lr=0.4, warmup=0.25)
    rates = [learning_rate(recipe, step, 20) for step in range(200)]
    assert rates[0] == pytest.approx(0.4 / 51)
    assert rates[49] == pytest.approx(0.4 * 50 / 51)
    assert rates[50] == max(rates) == pytest.approx(0.4)
    assert rates[125] == pytest.approx(0.2)  # half-way down the half cosine
    assert rates[199] == pytest.approx(0.2 * (1 - math.cos(math.pi / 150)))
    np.testing.assert_allclose(np.diff(rates[:51]), 0.4 / 51)
    assert np.diff(rates[50:]).max() < 0


def test_several_cycles_are_one_after_another():
    once = Recipe(epochs=5, schedule="one_cycle", lr=0.4)
    thrice = Recipe(epochs=15, schedule="one_cycle", lr=0.4, cycles=3)
    rates = [learning_rate(once, step, 20) for step in range(100)]
    assert [learning_rate(thrice, step, 20) for step in range(300)] == 3 * rates


def test_one_cycle_without_warm_up_starts_at_its_peak():
    recipe = Recipe(epochs=2, schedule="one_cycle", warmup=0)
    assert learning_rate(recipe, 0, 5) == pytest.approx(0.1)


@settings(deadline=None)
@given(
    epochs=st.integers(1, 50),
    steps=st.integers(1, 50),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from(["step", "one_cycle"]),
    data=st.data(),
)
def test_rates_are_positive_and_at_most_the_peak(epochs, steps, warmup, schedule, data):
    recipe = Recipe(epochs=epochs, schedule=schedule, warmup=warmup, milestones=(3, 7))
    step = data.draw(st.integers(0, epochs * steps - 1))
    assert 0 < learning_rate(recipe, step, steps) <= 0.1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("lr", 0.0),
        ("lr", -0.1),
        ("lr", math.nan),
        ("cycles", 0),
        ("cycles", 301),
        ("lr_factor", 0),
        ("lr_factor", 1.5),
        ("warmup", 1.0),
        ("warmup", -0.1),
        ("momentum", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("ema_decay", 1.0),
        ("ema_decay", -0.1),
        ("max_shift", -1),
        ("schedule", "cosine"),
        ("precision", "float16"),
    ],
)
def test_bad_recipes_are_refused_by_field(field, value):
    with pytest.raises(ValueError, match=rf"^recipe\.{field} must be "):
        Recipe(**{field: value})


def test_a_recipe_survives_json():
    recipe = Recipe(milestones=[3, 5])
    assert recipe == Recipe(milestones=(3, 5))
    assert hash(recipe) == hash(Recipe(milestones=(3, 5)))


# --- what one call does


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


def tiny_net():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()
    )
    return FeatureClassifier(body, nn.Linear(96, 10), mean=(0.3,) * 3)


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


RECIPE = Recipe(epochs=3, batch_size=32, lr=0.05, schedule="one_cycle")


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


# --- exact resume


class Killed(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


def stop_at_batch(monkeypatch, number):
    """Raise at the given batch, counted from 0 over all epochs."""
    batches = iter(range(10**6))

    def augment(*args, **options):
        if next(batches) == number:
            raise Killed
        return original(*args, **options)

    original = training.augment
    monkeypatch.setattr(training, "augment", augment)


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
        stop_at_batch(patch, batch)
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
            stop_at_batch(patch, 4)
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
    stop_at_batch(monkeypatch, 0)
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
        stop_at_batch(patch, 6)
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


# --- what is refused


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
