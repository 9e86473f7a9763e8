"""Temporal Ensembling against a loop written by hand and against supervised training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier, densenet_bc
from mistakes_lib.support.storage import load_arrays
from mistakes_lib.training import temporal_ensembling
from mistakes_lib.training.ensembles import (
    TemporalEnsembling,
    choose_labelled,
    ensemble_targets,
    learning_rate_factor,
    unsupervised_weight,
    update_ensemble,
)
from mistakes_lib.training.recipe import Recipe
from mistakes_lib.training.supervised import train
from mistakes_lib.training.temporal_ensembling import train_temporal_ensembling

QUIET = {"device": "cpu", "progress": False}
PLAIN = {"max_shift": 0, "flip": False, "schedule": "step", "milestones": ()}
NO_RAMPS = {"ramp_up": 0, "ramp_down": 0}


def digit_images(n=100):
    """scikit-learn's digits as uint8 (n, 3, 8, 8), their labels, and 3 labelled of each class."""
    digits = load_digits()
    grey = np.round(digits.images[:n] * (255 / 16)).astype(np.uint8)
    labels = digits.target[:n]
    return np.repeat(grey[:, None], 3, axis=1), labels, choose_labelled(labels, 3)


def small_densenet(dropout=0.2, seed=0):
    torch.manual_seed(seed)
    return densenet_bc(10, depth=10, growth_rate=4, dropout=dropout, mean=(0.3,) * 3)


def tiny_net(norm=True):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6) if norm else nn.Identity()
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm, nn.Tanh(), nn.AvgPool2d(2))
    return FeatureClassifier(body.append(nn.Flatten()), nn.Linear(96, 10), mean=(0.3,) * 3)


def assert_same_bits(ours, expected):
    ours, expected = ours.state_dict(), expected.state_dict()
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name


def assert_close(ours, expected, tolerance=1e-6):
    for name, value in expected.state_dict().items():
        mine = ours.state_dict()[name]
        torch.testing.assert_close(mine, value, rtol=tolerance, atol=tolerance)


def without_times(history):
    return [record | {"seconds": 0} for record in history]


# --- the two ramps


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0),
        (1, 25 * math.exp(-5 * (79 / 80) ** 2)),
        (40, 25 * math.exp(-1.25)),
        (79, 25 * math.exp(-5 / 6400)),
        (80, 25),
        (299, 25),
    ],
)
def test_the_weight_rises_for_80_epochs_to_its_maximum_times_the_labelled_share(epoch, expected):
    weight = unsupervised_weight(TemporalEnsembling(), epoch, 300, 0.25)
    assert weight == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, math.exp(-5)),
        (40, math.exp(-1.25)),
        (80, 1),
        (250, 1),
        (251, math.exp(-12.5 / 2500)),
        (275, math.exp(-12.5 / 4)),
        (299, math.exp(-12.5 * 0.98**2)),
    ],
)
def test_the_learning_rate_rises_for_80_epochs_and_falls_for_50(epoch, expected):
    assert learning_rate_factor(TemporalEnsembling(), epoch, 300) == pytest.approx(expected)
    flat = learning_rate_factor(TemporalEnsembling(ramp_up_lr=False), epoch, 300)
    assert flat == pytest.approx(expected if epoch > 80 else 1)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(300, (80, 50)), (200, (80, 50)), (130, (80, 50)), (13, (8, 5))]
)
def test_ramps_shrink_together_where_they_do_not_fit(epochs, expected):
    assert TemporalEnsembling().ramps(epochs) == pytest.approx(expected)


def test_without_ramps_only_the_first_epoch_has_no_weight():
    ensembling = TemporalEnsembling(**NO_RAMPS)
    assert [unsupervised_weight(ensembling, e, 3, 0.5) for e in range(3)] == [0, 50, 50]
    assert [learning_rate_factor(ensembling, e, 3) for e in range(3)] == [1, 1, 1]


@settings(deadline=None)
@given(
    epochs=st.integers(1, 400),
    ramp_up=st.floats(0, 200),
    ramp_down=st.floats(0, 200),
    share=st.floats(1e-3, 1),
)
def test_ramps_of_any_length(epochs, ramp_up, ramp_down, share):
    ensembling = TemporalEnsembling(ramp_up=ramp_up, ramp_down=ramp_down)
    assert sum(ensembling.ramps(epochs)) <= max(epochs, 1) * (1 + 1e-9)
    weights = [unsupervised_weight(ensembling, e, epochs, share) for e in range(epochs)]
    assert weights[0] == 0
    assert (np.diff(weights) >= 0).all()
    assert weights[-1] <= 100 * share
    factors = np.array([learning_rate_factor(ensembling, e, epochs) for e in range(epochs)])
    assert ((factors > 0) & (factors <= 1)).all()
    assert (np.diff(np.sign(np.diff(factors))) <= 0).all()  # up, then down


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_weight", -1.0),
        ("max_weight", math.inf),
        ("max_weight", math.nan),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("momentum", math.nan),
        ("ramp_up", -1),
        ("ramp_up", math.inf),
        ("ramp_down", -0.5),
    ],
)
def test_bad_settings_are_refused_by_field(field, value):
    with pytest.raises(ValueError, match=rf"^ensembling\.{field} must be "):
        TemporalEnsembling(**{field: value})


# --- the targets


def test_targets_of_three_epochs_by_hand():
    ensemble = torch.zeros(1, 2)
    assert torch.equal(ensemble_targets(ensemble, 0, 0.6), torch.zeros(1, 2))
    for t, output, average, target in [
        (1, [1.0, 0.0], [0.4, 0.0], [1.0, 0.0]),
        (2, [0.5, 0.5], [0.44, 0.2], [0.6875, 0.3125]),  # / (1 − 0.36)
        (3, [0.0, 1.0], [0.264, 0.52], [0.264 / 0.784, 0.52 / 0.784]),  # / (1 − 0.216)
    ]:
        ensemble = update_ensemble(ensemble, torch.tensor([output]), 0.6)
        torch.testing.assert_close(ensemble, torch.tensor([average]))
        torch.testing.assert_close(ensemble_targets(ensemble, t, 0.6), torch.tensor([target]))


@settings(deadline=None)
@given(st.floats(0, 0.99), st.integers(1, 6), st.integers(0, 10**6))
def test_targets_are_the_weighted_mean_of_the_outputs(momentum, epochs, seed):
    rng = np.random.default_rng(seed)
    outputs = rng.dirichlet(np.ones(3), (epochs, 4))  # (t, n, c)
    ensemble = torch.zeros(4, 3, dtype=torch.float64)
    for output in outputs:
        ensemble = update_ensemble(ensemble, torch.tensor(output), momentum)
    targets = ensemble_targets(ensemble, epochs, momentum)
    ages = np.arange(epochs)[::-1]
    expected = np.average(outputs, axis=0, weights=np.power(momentum, ages))
    np.testing.assert_allclose(targets, expected, rtol=1e-9)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-9)


# --- which images keep their labels


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(3, 9), min_size=1, max_size=5),
    per_class=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_each_class_keeps_exactly_as_many(counts, per_class, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    labelled = choose_labelled(labels, per_class, seed=seed)
    assert labelled.dtype == bool
    assert labelled.shape == labels.shape
    assert np.bincount(labels[labelled]).tolist() == [per_class] * len(counts)
    np.testing.assert_array_equal(
        labelled, choose_labelled(torch.tensor(labels), per_class, seed=seed)
    )
    assert (choose_labelled(labels, 3, seed=seed) >= labelled).all()  # fewer are a part of more


def test_each_image_is_chosen_equally_often():
    labels, draws = np.repeat([0, 1], [5, 8]), 2000
    frequency = np.mean([choose_labelled(labels, 2, seed=seed) for seed in range(draws)], axis=0)
    expected = np.repeat([2 / 5, 2 / 8], [5, 8])
    spread = np.sqrt(expected * (1 - expected) / draws)
    assert (abs(frequency - expected) < 4 * spread).all()


@pytest.mark.parametrize(
    ("labels", "per_class", "complaint"),
    [
        ([0, 0, 1], 2, "class 1 has 1 images, fewer than per_class = 2"),
        ([0, 1], 0, "per_class must be at least 1, got 0"),
        ([], 1, "labels is empty"),
        ([0, 0.5], 1, "whole numbers"),
    ],
)
def test_impossible_choices_are_refused(labels, per_class, complaint):
    with pytest.raises(ValueError, match=complaint):
        choose_labelled(labels, per_class)


# --- what one call does


def by_hand(classifier, images, labels, labelled, recipe, *, max_weight, seed):
    """Algorithm 2 of Laine & Aila, its loss divided by M/N, without ramps."""
    x, y = torch.tensor(images).float() / 255, torch.tensor(labels)
    share = labelled.mean()
    optimizer = torch.optim.SGD(
        classifier.train().parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    ensemble = targets = torch.zeros(len(x), 10)
    history = []
    for epoch in range(recipe.epochs):
        weight = max_weight * share if epoch else 0
        epoch_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch_seed))
        outputs = torch.zeros(len(x), 10)
        supervised = unsupervised = 0.0
        for start in range(0, len(x), recipe.batch_size):
            batch = order[start : start + recipe.batch_size].tolist()
            z = classifier(x[batch]).softmax(1)
            loss = 0.0
            for row, i in enumerate(batch):
                distance = ((z[row] - targets[i]) ** 2).sum() / 10
                loss = loss + weight * distance / len(batch)
                unsupervised += distance.item() / len(x)
                if labelled[i]:
                    loss = loss - z[row, y[i]].log() / len(batch)
                    supervised -= z[row, y[i]].log().item() / labelled.sum()
                outputs[i] = z[row].detach()
            optimizer.zero_grad()
            (loss / share).backward()
            optimizer.step()
        ensemble = 0.6 * ensemble + 0.4 * outputs
        targets = ensemble / (1 - 0.6 ** (epoch + 1))
        history.append((weight, supervised + weight / share * unsupervised))
    return history


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("batch_size", [7, 32])  # of 7, some have no labelled image
def test_training_is_the_loop_written_by_hand(epochs, batch_size):
    images, labels, labelled = digit_images()
    recipe = Recipe(epochs=epochs, batch_size=batch_size, lr=0.01, **PLAIN)
    ours, peer = tiny_net(), tiny_net()
    ensembling = TemporalEnsembling(max_weight=20, **NO_RAMPS)
    history = train_temporal_ensembling(
        ours, images, labels, labelled, recipe, ensembling=ensembling, seed=5, **QUIET
    )
    expected = by_hand(peer, images, labels, labelled, recipe, max_weight=20, seed=5)
    assert_close(ours, peer, 1e-5)
    assert len(history) == epochs
    for record, (weight, loss) in zip(history, expected, strict=True):
        assert record["unsupervised_weight"] == pytest.approx(weight)
        assert record["loss"] == pytest.approx(loss, rel=1e-5)
        parts = record["supervised_loss"], record["unsupervised_loss"]
        assert record["loss"] == pytest.approx(parts[0] + weight / 0.3 * parts[1])
        assert record["lr"] == 0.01
    assert not ours.training


def test_with_weight_zero_and_all_labels_it_is_supervised_training():
    images, labels, _ = digit_images()
    everything = np.ones(len(images), dtype=bool)
    recipe = Recipe(epochs=3, batch_size=32, lr=0.02, schedule="one_cycle")
    ours, supervised = small_densenet(), small_densenet()
    ensembling = TemporalEnsembling(max_weight=0, **NO_RAMPS)
    validation = images[:30], labels[:30]
    history = train_temporal_ensembling(
        ours,
        images,
        labels,
        everything,
        recipe,
        ensembling=ensembling,
        validation=validation,
        **QUIET,
    )
    expected = train(supervised, images, labels, recipe, validation=validation, **QUIET)
    assert_close(ours, supervised, 1e-4)
    for record, theirs in zip(history, expected, strict=True):
        assert record["supervised_loss"] == record["loss"] == pytest.approx(theirs["loss"])
        for name in ("epoch", "lr", "accuracy", "validation_accuracy"):
            assert record[name] == theirs[name], name


def test_with_weight_zero_the_unlabelled_images_do_not_matter():
    """One batch an epoch, no normalisation over it: supervised training on the labelled images."""
    images, labels, labelled = digit_images()
    options = {"epochs": 5, "lr": 0.05, "weight_decay": 0.01} | PLAIN
    ours, supervised = tiny_net(norm=False), tiny_net(norm=False)
    ensembling = TemporalEnsembling(max_weight=0, **NO_RAMPS)
    recipe = Recipe(batch_size=100, **options)
    history = train_temporal_ensembling(
        ours, images, labels, labelled, recipe, ensembling=ensembling, **QUIET
    )
    recipe = Recipe(batch_size=30, **options)
    expected = train(supervised, images[labelled], labels[labelled], recipe, **QUIET)
    assert_close(ours, supervised)
    for record, theirs in zip(history, expected, strict=True):
        assert record["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert record["accuracy"] == theirs["accuracy"]


RECIPE = Recipe(epochs=3, batch_size=32, lr=0.02, schedule="one_cycle")


def trained(recipe=RECIPE, labels=None, network=None, **options):
    """A small network trained on 100 digits, and its history."""
    images, true_labels, labelled = digit_images()
    network = small_densenet() if network is None else network
    labels = true_labels if labels is None else labels
    options = QUIET | options
    return network, train_temporal_ensembling(network, images, labels, labelled, recipe, **options)


def test_labels_that_are_not_labelled_play_no_part():
    _, labels, labelled = digit_images()
    network, _ = trained()
    blind, _ = trained(labels=torch.tensor(np.where(labelled, labels, -1)))
    assert_same_bits(blind, network)


def test_the_unlabelled_images_play_a_part():
    network, history = trained(ensembling=TemporalEnsembling(**NO_RAMPS))
    without, first = trained(ensembling=TemporalEnsembling(max_weight=0, **NO_RAMPS))
    assert not torch.equal(network.head.weight, without.head.weight)
    assert without_times(history[:1]) == without_times(first[:1])  # no targets yet
    assert history[1]["unsupervised_loss"] < first[1]["unsupervised_loss"]


def test_the_seed_decides_and_the_callers_random_state_is_untouched():
    first, history = trained(seed=1)
    torch.manual_seed(99)
    network = small_densenet()
    before = torch.get_rng_state()
    again, same = trained(network=network, seed=np.int64(1), progress=True)
    assert torch.equal(torch.get_rng_state(), before)
    other, _ = trained(seed=2)
    assert_same_bits(first, again)
    assert without_times(history) == without_times(same)
    assert not torch.equal(first.head.weight, other.head.weight)


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

    original = temporal_ensembling.augment
    monkeypatch.setattr(temporal_ensembling, "augment", augment)


@pytest.mark.parametrize(
    ("batch", "precision"),  # 4 batches an epoch
    [(2, "float32"), (4, "float32"), (10, "float32"), (15, "float32"), (10, "bfloat16")],
)
def test_an_interrupted_training_ends_in_the_same_bits(monkeypatch, tmp_path, batch, precision):
    images, labels, _ = digit_images()
    recipe = Recipe(epochs=4, batch_size=32, lr=0.05, schedule="one_cycle", precision=precision)
    ensembling = TemporalEnsembling(ramp_up=2, ramp_down=1)
    options = {"seed": 3, "validation": (images, labels), "ensembling": ensembling}
    undisturbed, expected = trained(recipe, **options)

    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at_batch(patch, batch)
        trained(recipe, checkpoint=checkpoint, **options)
    assert checkpoint.exists() == (batch >= 4)
    if batch >= 4:
        ensemble = load_arrays(checkpoint)[0]["state.ensemble"]
        np.testing.assert_allclose(ensemble.sum(1), 1 - 0.6 ** (batch // 4), rtol=1e-5)
    # As a new process would: a new network, with other weights if there are some on disk.
    network = small_densenet(seed=7 if batch >= 4 else 0)
    resumed, history = trained(recipe, network=network, checkpoint=checkpoint, **options)
    assert_same_bits(resumed, undisturbed)
    assert without_times(history) == without_times(expected)
    assert all(p.dtype == torch.float32 for p in resumed.parameters())


def test_a_finished_training_is_not_repeated(monkeypatch, tmp_path):
    options = {"checkpoint": tmp_path / "checkpoint"}
    first, history = trained(**options)
    stop_at_batch(monkeypatch, 0)
    again, same = trained(network=small_densenet(seed=1), **options)
    assert same == history
    assert_same_bits(again, first)


# --- what is refused


def test_the_checkpoint_of_another_training_is_refused(tmp_path):
    images, labels, _ = digit_images()
    options = {"checkpoint": tmp_path / "checkpoint"} | QUIET
    trained(**options)
    before = (tmp_path / "checkpoint").read_bytes()
    fewer = choose_labelled(labels, 2)
    calls = [
        lambda: trained(ensembling=TemporalEnsembling(max_weight=30), **options),
        lambda: trained(seed=1, **options),
        lambda: trained(labels=(labels + 1) % 10, **options),
        lambda: train_temporal_ensembling(
            small_densenet(), images, labels, fewer, RECIPE, **options
        ),
        lambda: train(small_densenet(), images, labels, RECIPE, **options),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="checkpoint of another training"):
            call()
    assert (tmp_path / "checkpoint").read_bytes() == before

    options["checkpoint"] = tmp_path / "supervised"
    train(small_densenet(), images, labels, RECIPE, **options)
    with pytest.raises(
        ValueError, match=r"another training .*ensembling, labelled, recipe or seed"
    ):
        trained(**options)


IMAGES = np.zeros((4, 3, 8, 8), np.uint8)
ALL = np.ones(4, dtype=bool)


@pytest.mark.parametrize(
    ("images", "labels", "labelled", "complaint"),
    [
        (IMAGES.astype(np.float32), [0, 1, 0, 1], ALL, "images must be uint8"),
        (IMAGES[:, 0], [0, 1, 0, 1], ALL, r"images must be uint8 .*\(4, 8, 8\)"),
        (IMAGES, [0, 1, 0], ALL, "labels has 3 entries, but there are 4 rows"),
        (IMAGES, [0, 1, 0, 2], ALL, r"labels\[3\] is 2, outside 0…1"),
        (IMAGES, [0, -1, 0, 1], ALL, r"labels\[1\] is -1"),
        (IMAGES, [0, 1, 0, 0.5], ALL, "whole numbers"),
        (IMAGES, [0, 1, 0, 1], ALL[:3], r"boolean mask of shape \(4,\), got bool \(3,\)"),
        (IMAGES, [0, 1, 0, 1], [0, 1, 2, 3], r"boolean mask of shape \(4,\), got int64"),
        (IMAGES, [0, 1, 0, 1], ~ALL, "no image is labelled"),
        (IMAGES, [0, 1, 0, 1], np.arange(4) % 2 == 0, "class 1 has no labelled image"),
        (IMAGES, [0, 0, 0, 0], ALL, r"class 1 has no labelled image \(1 of 2 classes"),
    ],
)
def test_bad_input_gets_one_clear_error(images, labels, labelled, complaint):
    network = densenet_bc(2, depth=10, growth_rate=4)
    with pytest.raises(ValueError, match=complaint):
        train_temporal_ensembling(network, images, labels, labelled, RECIPE, **QUIET)


def test_a_training_that_diverges_says_so_and_saves_nothing_of_it(tmp_path):
    recipe, checkpoint = Recipe(epochs=3, batch_size=20, lr=1e30), tmp_path / "checkpoint"
    with pytest.raises(ValueError, match=r"loss became .* lower the learning rate"):
        trained(recipe, network=tiny_net(), checkpoint=checkpoint)
    assert not checkpoint.exists()


# --- what it is for


def small_convnet(seed):
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
    )
    return FeatureClassifier(body, nn.Linear(128, 10), mean=(0.3,) * 3, std=(0.38,) * 3)


@pytest.mark.slow
def test_unlabelled_digits_help():
    """10 labels a class, 700 digits without: more is learnt than from the labels alone.

    Supervised training gets the same labels, network, peak rate and augmentation, twice: for as
    many epochs, and for as many steps, each on all the labelled digits.
    """
    images, labels, _ = digit_images(1797)
    rows = np.random.default_rng(0).permutation(len(labels))
    test, rows = rows[:997], rows[997:]
    digits = torch.tensor(images[test]) / 255
    images, labels, truth = images[rows], labels[rows], labels[test]
    recipe = Recipe(epochs=60, batch_size=50, milestones=(), max_shift=1, flip=False)
    steps = 60 * len(images) // 50
    as_many_steps = replace(recipe, epochs=steps, batch_size=100, schedule="one_cycle")

    def accuracy(seed, labelled, recipe, max_weight=None):
        network = small_convnet(seed)
        options = {"seed": seed} | QUIET
        if max_weight is None:
            train(network, images[labelled], labels[labelled], recipe, **options)
        else:
            ensembling = TemporalEnsembling(max_weight=max_weight, ramp_up=15, ramp_down=20)
            train_temporal_ensembling(
                network, images, labels, labelled, recipe, ensembling=ensembling, **options
            )
        with torch.no_grad():
            return (network(digits).argmax(1).numpy() == truth).mean()

    runs = []
    for seed in range(5):
        labelled = choose_labelled(labels, 10, seed=seed)
        runs.append(
            {
                "semi-supervised": accuracy(seed, labelled, recipe, max_weight=30),
                "as many epochs": accuracy(seed, labelled, recipe),
                "as many steps": accuracy(seed, labelled, as_many_steps),
            }
        )
    means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    ours = means.pop("semi-supervised")
    leads = {name: f"{100 * (ours - mean):+.2f} points" for name, mean in means.items()}
    message = f"mean test accuracy {ours:.4f}, against supervised training {leads}"
    print(message)
    assert ours > max(means.values()), message
