"""What purification does to predictions."""

import math

import numpy as np
import pytest
import torch

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.purification import (
    DivergenceError,
    chosen_purification,
    purification_effect,
    purification_grid,
    purification_path,
    purify,
    safe_learning_rate,
)


def sign_head():
    """Two classes: below and above 0 of the first feature."""
    head = torch.nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        head.bias.zero_()
    return head


def test_effect_counts_by_hand():
    before = np.array([-1.0, -1, -1, 1, 1, 1, 1])  # right: rows 3 to 6
    after = np.array([1.0, 1, -1, -1, 1, 1, 1])  # rows 0 and 1 corrected, row 3 broken
    features, purified = (np.stack([x, x], axis=1) for x in (before, after))
    effect = purification_effect(features, purified, np.ones(7, int), sign_head())
    assert (effect.corrected, effect.broken) == (2, 1)
    assert effect.before == pytest.approx(4 / 7) and effect.after == pytest.approx(5 / 7)
    assert effect.gain == pytest.approx(100 / 7)
    assert effect.p_value == 1.0  # 2 of 3 either way: (1 + 3 + 3 + 1) / 8


@pytest.mark.parametrize(("corrected", "broken"), [(9, 1), (30, 30), (0, 6)])
def test_p_value_is_mcnemars_exact(corrected, broken):
    before = np.r_[-np.ones(corrected), np.ones(broken), np.ones(5)]
    after = np.r_[np.ones(corrected), -np.ones(broken), np.ones(5)]
    features, purified = (np.stack([x, x], axis=1) for x in (before, after))
    effect = purification_effect(features, purified, np.ones(len(before), int), sign_head())
    n, k = corrected + broken, min(corrected, broken)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert effect.p_value == pytest.approx(min(1, 2 * tail))


def test_nothing_changed_is_no_evidence():
    features = np.ones((4, 2))
    effect = purification_effect(features, features, [1, 1, 0, 1], sign_head())
    assert (effect.gain, effect.p_value) == (0, 1)


@pytest.mark.parametrize(
    ("features", "purified", "labels", "complaint"),
    [
        (np.ones((3, 4)), np.ones((3, 2)), [0, 1, 1], "features has 4 columns, but 2"),
        (np.ones((3, 2)), np.ones((2, 2)), [0, 1, 1], "3 rows, but purified has 2"),
        (np.ones((3, 2)), np.ones((3, 2)), [0, 1, 2], "outside 0…1"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), [0, 1, 1], "purified has a NaN"),
    ],
)
def test_bad_input_to_the_effect_is_named(features, purified, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        purification_effect(features, purified, labels, sign_head())


@pytest.fixture(scope="module")
def two_classes():
    """A batch, the mixture of its features, and settings that a test can afford."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    features = rng.normal(size=(200, 2)) + np.stack([2 * labels - 1, np.zeros(200)], axis=1)
    batch = FeatureSet(features, np.zeros((200, 2)), labels)
    return batch, DiagonalGMM(2, random_state=0, device="cpu").fit(features)


def test_grid_holds_the_effect_of_every_setting(two_classes):
    batch, density = two_classes
    rates = [None, safe_learning_rate(density)]
    options = {"learning_rates": rates, "strengths": [0.0, 1.0], "steps": 30}
    grid = purification_grid(batch, {"mixture": density}, sign_head(), **options)
    assert grid.index.names == ["density", "lr", "nu"] and len(grid) == 4
    assert not grid["void"].any() and (grid["rose"] == 0).all()
    for rate, nu in [(rate, nu) for rate in rates for nu in (0.0, 1.0)]:
        purified = purify(batch.features, density, nu=nu, lr=rate, steps=30)
        effect = purification_effect(batch.features, purified, batch.labels, sign_head())
        row = grid.loc["mixture", rate or "monotone", nu]
        assert (row.accuracy, row.gain) == (effect.after, effect.gain)
        assert (row.corrected, row.broken) == (effect.corrected, effect.broken)


def test_a_setting_whose_objective_rose_is_void(two_classes):
    """Also where nothing overflows: three hundred times the safe rate leaves finite features."""
    batch, density = two_classes
    large = 300 * safe_learning_rate(density)
    assert np.isfinite(purify(batch.features, density, nu=0.0, lr=large, steps=3)).all()
    options = {"learning_rates": [None, large, 1e9], "strengths": [0.0], "steps": 3}
    grid = purification_grid(batch, {"mixture": density}, sign_head(), **options)
    assert grid["void"].tolist() == [False, True, True]
    for rate in (large, 1e9):
        row = grid.loc["mixture", rate, 0.0]
        assert row[["accuracy", "gain", "corrected", "broken"]].isna().all()
        assert 0 < row.rose <= 1
    assert grid["accuracy"].idxmax() == ("mixture", "monotone", 0.0)
    with pytest.raises(DivergenceError, match="use a smaller lr"):
        purify(batch.features, density, nu=0.0, lr=1e9, steps=30)
    options["learning_rates"] = [1e9, large]
    with pytest.raises(DivergenceError, match=f"at every lr: use one below {large}"):
        purification_grid(batch, {"mixture": density}, sign_head(), **options)


def test_the_path_goes_from_nothing_to_the_nearest_peak(two_classes):
    batch, density = two_classes
    splits = {"validation": batch, "test": batch[:50]}
    path = purification_path(splits, density, sign_head(), strengths=[0, 1e9, 0.1], steps=50)
    assert path.index.tolist()[:3] == [("validation", nu) for nu in (1e9, 0.1, 0)]
    assert path["bits gained"]["validation"].is_monotonic_increasing
    assert path["bits gained"]["validation", 1e9] == pytest.approx(0, abs=1e-6)
    held = path.loc[("validation", 1e9)]
    assert (held.corrected, held.broken, held.p_value) == (0, 0, 1)
    assert path.loc[("test", 0), "likelier"] == 1
    purified = purify(batch.features, density, nu=0.1, steps=50)
    effect = purification_effect(batch.features, purified, batch.labels, sign_head())
    found = path.loc[("validation", 0.1)]
    assert (found.corrected, found.broken) == (effect.corrected, effect.broken)
    assert found.p_value == effect.p_value
    with pytest.raises(ValueError, match="splits is empty"):
        purification_path({}, density, sign_head(), strengths=[0])


def test_the_strength_is_chosen_on_validation_and_judged_on_test(two_classes):
    batch, density = two_classes
    validation, test = batch[::2], batch[1::2]
    options = {"strengths": [0, 0.1, 3, 1e9], "steps": 50}
    nu, effect = chosen_purification(validation, test, density, sign_head(), **options)
    tried = {
        each: purification_effect(
            validation.features,
            purify(validation.features, density, nu=each, steps=50),
            validation.labels,
            sign_head(),
        ).after
        for each in options["strengths"]
    }
    assert tried[nu] == max(tried.values())
    assert nu == max(each for each, after in tried.items() if after == tried[nu])
    purified = purify(test.features, density, nu=nu, steps=50)
    assert effect == purification_effect(test.features, purified, test.labels, sign_head())
    with pytest.raises(ValueError, match="strengths is empty"):
        chosen_purification(validation, test, density, sign_head(), strengths=[])
