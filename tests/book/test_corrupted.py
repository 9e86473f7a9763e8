"""The table of corrupted images, counted by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from mistakes_lib.book.corrupted import corruption_sentence, corruption_table
from mistakes_lib.data.corruptions import CORRUPTIONS, STRENGTHS
from tests.helpers.batches import First, scored


def run(corrupted):
    """Of four test images at strength s, those below a score of 5 are flagged (19 of 1…19)."""
    validation = scored(range(1, 20), [True] * 19)  # alpha = 0.25 of 20 ranks: the 5th smallest
    test = scored([9, 9, 9, 1], [True, True, False, True])
    return SimpleNamespace(
        corrupted=np.arange(4)[:corrupted],
        features={"validation": validation, "test": test}.__getitem__,
        corruption=lambda kind, s: scored([9, 4, 9, 4 + s], [True, True, False, s > 3]),
    )


def test_shares_are_those_counted_by_hand():
    table = corruption_table(run(4), {"first": First()}, false_alarms=0.25)
    assert len(table) == 1 + len(CORRUPTIONS) * len(STRENGTHS)
    none = table.loc[("none", 0)]
    assert none.to_dict() == pytest.approx(
        {"accuracy": 0.75, "first, right": 1 / 3, "first, wrong": 0.0}
    )
    for strength, right, wrong in ((1, 1 / 2, 0 / 2), (4, 1 / 3, 0.0), (5, 1 / 3, 0.0)):
        found = table.loc[("blur", strength)]
        assert found["accuracy"] == (0.75 if strength > 3 else 0.5)
        assert found["first, right"] == pytest.approx(right)
        assert found["first, wrong"] == pytest.approx(wrong)
    assert "from 75.0 % to 75.0 % on average" in corruption_sentence(table, ["first"])


def test_no_wrong_prediction_is_no_share():
    source = run(4)
    source.corruption = lambda kind, s: scored([9, 9, 9, 9], [True] * 4)
    table = corruption_table(source, {"first": First()})
    assert np.isnan(table.loc[("jpeg", 5), "first, wrong"])


def test_a_run_without_corrupted_images_has_no_rows():
    assert len(corruption_table(run(0), {"first": First()})) == 0
    with pytest.raises(ValueError, match="alpha"):
        corruption_table(run(4), {"first": First()}, false_alarms=2)
