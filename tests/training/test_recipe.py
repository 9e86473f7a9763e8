"""The recipe: schedules, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistakes_lib.runs.experiment import load_experiment
from mistakes_lib.training.recipe import Recipe, learning_rate


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
