"""Temporal Ensembling is the loop written by hand, resumes exactly, and helps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier, densenet_bc
from mistakes_lib.support.storage import load_arrays
from mistakes_lib.training import temporal_ensembling
from mistakes_lib.training.ensembles import (
    TemporalEnsembling,
    choose_labelled,
)
from mistakes_lib.training.recipe import Recipe
from mistakes_lib.training.supervised import train
from mistakes_lib.training.temporal_ensembling import train_temporal_ensembling
from tests.helpers.semi_supervised import (
    NO_RAMPS,
    PLAIN,
    assert_close,
    labelled_digits,
    without_times,
)
from tests.helpers.training import (
    QUIET,
    Killed,
    assert_same_bits,
    small_densenet,
    stop_at_batch,
    tiny_net,
)


def batches_by_hand(labelled, batch_size, of_batch, generator):
    """Rows of each batch; ``of_batch`` of them are labelled, or as many as chance has it."""
    order = torch.randperm(len(labelled), generator=generator).tolist()
    if of_batch is None:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    known, free = [i for i in order if labelled[i]], [i for i in order if not labelled[i]]
    queue, batches = list(known), []
    while free:
        while len(queue) < of_batch:
            again = torch.randperm(len(known), generator=generator).tolist()
            queue += [known[i] for i in again]
        batches.append(queue[:of_batch] + free[: batch_size - of_batch])
        queue, free = queue[of_batch:], free[batch_size - of_batch :]
    return batches


def by_hand(classifier, images, labels, labelled, recipe, *, max_weight, seed, of_batch=None):
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
        generator = torch.Generator().manual_seed(epoch_seed)
        batches = batches_by_hand(labelled, recipe.batch_size, of_batch, generator)
        outputs = [[] for _ in x]
        supervised, unsupervised = [], []
        for batch in batches:
            z = classifier(x[batch]).softmax(1)
            loss = 0.0
            of_loss = share if of_batch is None else of_batch / len(batch)
            for row, i in enumerate(batch):
                distance = ((z[row] - targets[i]) ** 2).sum() / 10
                loss = loss + weight / share * distance / len(batch)
                unsupervised.append(distance.item())
                if labelled[i]:
                    loss = loss - z[row, y[i]].log() / len(batch) / of_loss
                    supervised.append(-z[row, y[i]].log().item())
                outputs[i].append(z[row].detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seen = torch.stack([torch.stack(each).mean(0) for each in outputs])
        ensemble = 0.6 * ensemble + 0.4 * seen
        targets = ensemble / (1 - 0.6 ** (epoch + 1))
        history.append((weight, np.mean(supervised) + weight / share * np.mean(unsupervised)))
    return history


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("batch_size", [7, 32])  # of 7, some have no labelled image
def test_training_is_the_loop_written_by_hand(epochs, batch_size):
    images, labels, labelled = labelled_digits()
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


@pytest.mark.parametrize("of_batch", [10, 16, 31])
def test_with_a_share_of_labels_it_is_the_loop_written_by_hand(of_batch):
    images, labels, labelled = labelled_digits()
    recipe = Recipe(epochs=3, batch_size=32, lr=0.01, **PLAIN)
    ours, peer = tiny_net(), tiny_net()
    ensembling = TemporalEnsembling(max_weight=20, labelled_share=of_batch / 32, **NO_RAMPS)
    history = train_temporal_ensembling(
        ours, images, labels, labelled, recipe, ensembling=ensembling, seed=5, **QUIET
    )
    settings = {"max_weight": 20, "seed": 5, "of_batch": of_batch}
    expected = by_hand(peer, images, labels, labelled, recipe, **settings)
    assert_close(ours, peer, 1e-5)
    for record, (weight, loss) in zip(history, expected, strict=True):
        assert record["unsupervised_weight"] == pytest.approx(weight)
        assert record["loss"] == pytest.approx(loss, rel=1e-5)
        assert 0 <= record["accuracy"] <= 1


@pytest.mark.parametrize(
    ("labelled_share", "complaint"),
    [
        (0.01, "makes 0 of 32 images"),
        (0.99, "makes 32 of 32 images"),
        (0.2, r"shows 18 labelled images an epoch, but there are 30: .* 0.3 or more"),
    ],
)
def test_a_share_of_labels_that_cannot_be_is_refused(labelled_share, complaint):
    with pytest.raises(ValueError, match=complaint):
        trained(ensembling=TemporalEnsembling(labelled_share=labelled_share))


def test_with_weight_zero_and_all_labels_it_is_supervised_training():
    images, labels, _ = labelled_digits()
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
    images, labels, labelled = labelled_digits()
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
    images, true_labels, labelled = labelled_digits()
    network = small_densenet() if network is None else network
    labels = true_labels if labels is None else labels
    options = QUIET | options
    return network, train_temporal_ensembling(network, images, labels, labelled, recipe, **options)


def test_labels_that_are_not_labelled_play_no_part():
    _, labels, labelled = labelled_digits()
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


@pytest.mark.parametrize("labelled_share", [None, 0.46])  # of 32 images 15
@pytest.mark.parametrize(
    ("batch", "precision"),  # 4 or 5 batches an epoch
    [(2, "float32"), (5, "float32"), (11, "float32"), (15, "float32"), (11, "bfloat16")],
)
def test_an_interrupted_training_ends_in_the_same_bits(
    monkeypatch, tmp_path, batch, precision, labelled_share
):
    images, labels, _ = labelled_digits()
    recipe = Recipe(epochs=4, batch_size=32, lr=0.05, schedule="one_cycle", precision=precision)
    ensembling = TemporalEnsembling(ramp_up=2, ramp_down=1, labelled_share=labelled_share)
    options = {"seed": 3, "validation": (images, labels), "ensembling": ensembling}
    undisturbed, expected = trained(recipe, **options)

    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at_batch(patch, temporal_ensembling, batch)
        trained(recipe, checkpoint=checkpoint, **options)
    of_epoch = 4 if labelled_share is None else 5
    assert checkpoint.exists() == (batch >= of_epoch)
    if batch >= of_epoch:
        ensemble = load_arrays(checkpoint)[0]["state.ensemble"]
        np.testing.assert_allclose(ensemble.sum(1), 1 - 0.6 ** (batch // of_epoch), rtol=1e-5)
    # As a new process would: a new network, with other weights if there are some on disk.
    network = small_densenet(seed=7 if batch >= of_epoch else 0)
    resumed, history = trained(recipe, network=network, checkpoint=checkpoint, **options)
    assert_same_bits(resumed, undisturbed)
    assert without_times(history) == without_times(expected)
    assert all(p.dtype == torch.float32 for p in resumed.parameters())


def test_a_finished_training_is_not_repeated(monkeypatch, tmp_path):
    options = {"checkpoint": tmp_path / "checkpoint"}
    first, history = trained(**options)
    stop_at_batch(monkeypatch, temporal_ensembling, 0)
    again, same = trained(network=small_densenet(seed=1), **options)
    assert same == history
    assert_same_bits(again, first)


def test_the_checkpoint_of_another_training_is_refused(tmp_path):
    images, labels, _ = labelled_digits()
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
    images, labels, _ = labelled_digits(1797)
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
