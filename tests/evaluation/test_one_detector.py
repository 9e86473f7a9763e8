"""One detector: p-values by brute force, their promise by simulation; the price by hand."""

import numpy as np
import pytest

from mistakes_lib import (
    conformal_p_values,
    conformal_threshold,
    joint_conformal_p_values,
    price_of_refusal,
    shares_caught,
)


def test_a_p_value_is_at_most_alpha_where_the_conformal_threshold_flags():
    rng = np.random.default_rng(0)
    known, new = rng.integers(0, 50, 99) * 1.0, rng.integers(-5, 55, 200) * 1.0
    for alpha in (0.01, 0.05, 0.2):
        flagged = new < conformal_threshold(known, alpha)
        np.testing.assert_array_equal(conformal_p_values(known, new) <= alpha, flagged)


def joint_by_definition(calibration, new):
    """Put the input among the others, rank all, take the smaller rank, count."""
    everything = np.vstack([calibration, new])
    ranks = (everything[:, None] >= everything[None]).sum(axis=1)  # (n + 1, 2)
    smaller = ranks.min(axis=1)
    return (smaller <= smaller[-1]).mean()


def test_the_joint_p_value_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    calibration, new = rng.normal(size=(40, 2)), rng.normal(size=(60, 2)) * 1.5
    new[0] = calibration.min(axis=0) - 1  # lowest in both
    expected = [joint_by_definition(calibration, row) for row in new]
    np.testing.assert_allclose(joint_conformal_p_values(calibration, new), expected)


def test_ties_make_the_joint_p_value_larger_only():
    rng = np.random.default_rng(1)
    calibration, new = rng.integers(0, 6, (30, 2)) * 1.0, rng.integers(-1, 7, (80, 2)) * 1.0
    expected = np.array([joint_by_definition(calibration, row) for row in new])
    assert (joint_conformal_p_values(calibration, new) >= expected - 1e-12).all()


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.9])
def test_the_joint_promise_holds_however_the_scores_depend(correlation):
    """The smaller of two p-values alone would break it: nearly twice as many false alarms."""
    rng, alpha, n, trials = np.random.default_rng(0), 0.1, 39, 1500
    mix = np.linalg.cholesky([[1, correlation], [correlation, 1]]).T
    alarms, careless = [], []
    for _ in range(trials):
        known, new = rng.normal(size=(n, 2)) @ mix, rng.normal(size=(20, 2)) @ mix
        alarms.append((joint_conformal_p_values(known, new) <= alpha).mean())
        each = [conformal_p_values(known[:, j], new[:, j]) for j in (0, 1)]
        careless.append((np.minimum(*each) <= alpha).mean())
    error = np.std(alarms) / np.sqrt(trials)
    assert np.mean(alarms) <= alpha + 3 * error
    assert np.mean(alarms) >= alpha - 1.5 / (n + 1) - 3 * error  # and it is no empty promise
    if correlation <= 0:
        assert np.mean(careless) > 1.7 * alpha


def test_shares_caught_by_hand():
    known = {"a": np.arange(19.0), "b": np.arange(19.0)[::-1]}
    usual = {"a": np.array([5.0, 0.5]), "b": np.array([3.0, 4.0])}
    noise = {"a": np.array([-1.0, 9.0, 9.0, 9.0]), "b": np.array([9.0, -1.0, -2.0, 9.0])}
    table = shares_caught(known, usual, {"noise": noise}, joint=("a", "b", "both"))
    assert table.loc["a"].tolist() == [0.0, 0.25] and table.loc["b"].tolist() == [0.0, 0.5]
    assert table.loc["both", "noise"] == 0.0  # of 20, two have a smallest rank of 1: p = 0.1
    wider = shares_caught(
        known, usual, {"noise": noise}, joint=("a", "b", "both"), false_alarms=0.1
    )
    assert wider.loc["both"].tolist() == [0.0, 0.75]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: conformal_p_values([], [1.0]), "calibration is empty"),
        (lambda: joint_conformal_p_values(np.zeros((3, 3)), np.zeros((1, 2))), "3 columns"),
        (
            lambda: shares_caught({"a": [1.0]}, {"b": [1.0]}, {}),
            "false alarms has no scores of 'a'",
        ),
        (lambda: shares_caught({"a": [1.0]}, {"a": [1.0]}, {}, false_alarms=1), "false_alarms"),
        (lambda: price_of_refusal({}, [1, 0]), "scores is empty"),
        (lambda: price_of_refusal({"a": [1.0, 2.0]}, [1, 1]), "no mistakes"),
        (lambda: price_of_refusal({"a": [1.0, 2.0]}, [1, 0], refuse=2), "refuse"),
        (lambda: price_of_refusal({"a": [1.0, 2.0]}, [1]), "correct has 1 entries"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


# --- the price -----------------------------------------------------------------------------------


def test_the_price_is_counted_by_hand():
    correct = np.array([0, 1, 0, 1, 1, 1, 1, 1, 1, 0])
    table = price_of_refusal({"rank": np.arange(10.0)}, correct, refuse=0.3, catch=0.6)
    caught, needed = table.columns
    assert table.loc["rank", caught] == pytest.approx(2 / 3)
    assert table.loc["rank", needed] == pytest.approx(0.2 + 0.1 * (0.6 - 1 / 3) * 3)
    assert table.loc["perfect"].tolist() == pytest.approx([1.0, 0.18])
    assert table.loc["at random"].tolist() == [0.3, 0.6]


def test_ties_are_refused_in_a_random_order():
    correct = np.arange(100) % 4 > 0
    table = price_of_refusal({"constant": np.zeros(100)}, correct)
    assert table.loc["constant"].tolist() == pytest.approx(table.loc["at random"].tolist())


def test_no_method_is_better_than_perfect():
    rng = np.random.default_rng(0)
    correct = rng.random(300) < 0.8
    table = price_of_refusal({"best": correct + 0.0, "some": rng.normal(size=300)}, correct)
    assert table.loc["best"].tolist() == pytest.approx(table.loc["perfect"].tolist())
    caught, needed = table.columns
    assert table.loc["some", caught] < table.loc["perfect", caught]
    assert table.loc["some", needed] > table.loc["perfect", needed]
