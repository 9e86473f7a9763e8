"""Attackers who know the detector, counted by hand."""

from types import SimpleNamespace

import pandas as pd
import pytest
from scipy.stats import beta

from mistakes_lib.book.knowing import attacks_unnoticed, best_attack
from mistakes_lib.runs.kinds import AdaptiveAttack
from tests.helpers.batches import First, scored


def run(**attacks):
    """The threshold lies at 2: a tenth of the validation scores 0, 2, 4, … 20 is at most that."""
    own = AdaptiveAttack(weights=[0], hinge_weights=[0.5], match=True) if attacks else None
    return SimpleNamespace(
        experiment=SimpleNamespace(adaptive=own),
        features=lambda split: scored(range(0, 22, 2), [True] * 11),
        adaptive_attack=lambda name: attacks[str(name).replace("-", "_").replace(".", "_")],
    )


def test_an_image_counts_if_it_is_wrong_and_reaches_the_threshold():
    wrong = [False, False, True]
    found = attacks_unnoticed(
        run(
            **{"0": scored([2, 1.9, 9], wrong)},
            hinge_0_5=scored([3, 3, 3], wrong),
            match=scored([0, 0, 0], wrong),
        ),
        First(),
        false_alarms=0.1,
    )
    expected = {"w = 0": [1, 0, 0], "hinge, w = 0.5": [1, 1, 0], "match": [0, 0, 0]}
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected).astype(bool))


def test_without_such_attacks_there_is_nothing():
    assert attacks_unnoticed(run(), First()).empty


def test_the_choice_is_made_on_other_images_than_the_judgement():
    tries = {"blind": [1, 1, 1, 1, 1, 1], "a": [1, 0, 1, 0, 0, 1], "b": [0, 1, 0, 1, 1, 1]}
    found = best_attack(pd.DataFrame(tries).astype(bool), confidence=0.9)
    assert (found.name, found.share, found.blind, found.n) == ("a", 1 / 3, 1, 3)
    assert found.low == pytest.approx(beta.ppf(0.05, 1, 3)), "Clopper and Pearson's, closed form"
    assert found.high == pytest.approx(beta.ppf(0.95, 2, 2))


@pytest.mark.parametrize(
    ("table", "options", "complaint"),
    [
        (pd.DataFrame(), {}, "two images and two attacks or more"),
        (pd.DataFrame({"blind": [True, False]}), {}, r"got \(2, 1\)"),
        (pd.DataFrame({"a": [True, False], "b": [True, True]}), {"confidence": 1}, "confidence"),
    ],
)
def test_what_allows_no_choice_is_refused(table, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        best_attack(table, **options)


@pytest.mark.parametrize("false_alarms", [0, 1, -0.1])
def test_a_share_is_asked_for(false_alarms):
    with pytest.raises(ValueError, match="false_alarms"):
        attacks_unnoticed(run(), First(), false_alarms=false_alarms)
