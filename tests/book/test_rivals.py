"""The front page's figure: density against confidence, one panel a kind of failure."""

import numpy as np
import pandas as pd
import pytest

from mistakes_lib import plotting

RESULTS = pd.DataFrame(
    {"density": [0.6, 0.7, 0.9], "confidence": [0.8, 0.5, 0.1]},
    index=pd.MultiIndex.from_tuples(
        [("own mistakes", "test set"), ("attacks", "FGSM"), ("attacks", "BIM")]
    ),
)
RED = np.stack([np.full((4, 4), 1.0), np.zeros((4, 4)), np.zeros((4, 4))])  # (3, 4, 4)


def panels(figure):
    """The heads and the plots, from above."""
    plots = [ax for ax in figure.axes if ax.collections]
    return [ax for ax in figure.axes if ax not in plots], plots


def test_each_test_stands_at_its_two_areas_in_the_panel_of_its_failure():
    _, plots = panels(plotting.rivals(RESULTS))
    for ax, kind in zip(plots, ("own mistakes", "attacks"), strict=True):
        part = RESULTS.loc[kind]
        assert [label.get_text() for label in ax.get_yticklabels()] == list(part.index)
        ours, rival = (dots.get_offsets() for dots in ax.collections[-2:])
        np.testing.assert_array_equal(np.array(ours)[:, 0], part["density"])
        np.testing.assert_array_equal(np.array(rival)[:, 0], part["confidence"])
    assert plots[0].get_xlim() == plots[1].get_xlim() == (0, 1.02)


def test_sentences_and_pictures_stand_in_the_head_of_their_panel():
    pictures = {"attacks": [(RED, "cat\n1.00"), (RED, "dog\n0.50")]}
    figure = plotting.rivals(RESULTS, sentences={"own mistakes": "It errs."}, pictures=pictures)
    heads, _ = panels(figure)
    assert [text.get_text() for text in heads[0].texts] == ["own mistakes", "It errs."]
    shown = heads[1].child_axes
    assert [ax.get_title() for ax in shown] == ["cat\n1.00", "dog\n0.50"]
    np.testing.assert_array_equal(shown[0].images[0].get_array(), RED.transpose(1, 2, 0))
    assert not heads[0].child_axes


def test_sentences_stand_right_of_the_pictures():
    pictures = {"attacks": [(RED, "cat\n1.00"), (RED, "dog\n0.50"), (RED, "")]}
    figure = plotting.rivals(RESULTS, sentences={"attacks": "It errs."}, pictures=pictures)
    figure.draw_without_rendering()
    head = panels(figure)[0][1]
    ends = [ax.get_window_extent().x1 for ax in head.child_axes]
    starts = [text.get_window_extent().x0 for text in head.texts]
    assert ends == sorted(ends) and ends[-1] < min(starts)
    assert max(text.get_window_extent().x1 for text in head.texts) <= figure.bbox.x1


@pytest.mark.parametrize(
    ("results", "options", "complaint"),
    [
        (RESULTS[:0], {}, "results needs rows"),
        (RESULTS[["density"]], {}, r"missing: \['confidence'\]"),
        (RESULTS, {"sentences": {"noise": "?"}}, r"unknown: \['noise'\]"),
        (RESULTS, {"pictures": {"attacks": [(RED, "")] * 4}}, "at most three a panel"),
    ],
)
def test_what_has_no_place_is_refused(results, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        plotting.rivals(results, **options)
