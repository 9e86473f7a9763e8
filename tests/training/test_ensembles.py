"""Temporal Ensembling's ramps, its targets, and which images keep their labels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mistakes_lib.training.ensembles import (
    TemporalEnsembling,
    choose_labelled,
    ensemble_targets,
    learning_rate_factor,
    unsupervised_weight,
    update_ensemble,
)
from tests.helpers.semi_supervised import (
    NO_RAMPS,
)


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
