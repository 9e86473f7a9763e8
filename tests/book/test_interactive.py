"""What interactive figures are given: counts against NumPy's, and bad input refused."""

import base64
import json
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from mistakes_lib.book.interactive import InteractiveFigure, mixture_explorer, threshold_explorer

RNG = np.random.default_rng(0)
CORRECT, WRONG = RNG.normal(0.7, 0.2, size=900), RNG.normal(0.5, 0.2, size=130)


def embedded(figure):
    """The data that a page finds in its HTML."""
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', figure._repr_html_())
    return json.loads(text)


def thresholds(own):
    """The slider's positions in one measure of a threshold explorer."""
    count = len(own["correct"]["flagged"])
    return [round((own["first"] + i) * own["step"], own["decimals"]) for i in range(count)]


# --- the figure ----------------------------------------------------------------------------------


def test_data_reach_the_page_whatever_they_say():
    data = {"text": "</script><b>ε & 'more'"}
    figure = InteractiveFigure("threshold", data, label='a "label" <here>')
    assert embedded(figure) == data
    assert 'aria-label="a &quot;label&quot; &lt;here&gt;"' in figure._repr_html_()


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        InteractiveFigure("threshold", {"value": np.nan}, label="")._repr_html_()


def test_nothing_of_a_figure_is_loaded_from_elsewhere_or_random():
    first, again = (threshold_explorer(CORRECT, WRONG)._repr_html_() for _ in range(2))
    assert first == again
    assert not re.search(r'(?:src|href)=|url\(["\']?http', first)


# --- the threshold explorer ----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1, 1e5])
def test_counts_are_those_of_the_shown_thresholds(scale):
    correct, wrong = scale * CORRECT, scale * WRONG
    data = embedded(threshold_explorer(correct, wrong))
    (own,) = data["measures"]
    shown = thresholds(own)
    assert 200 <= len(shown) <= 500 and len(shown) % data["perBin"] == 1
    scores, failed = np.r_[correct, wrong], np.repeat([False, True], [len(correct), len(wrong)])
    for i, threshold in list(enumerate(shown))[::20]:
        (_, false_positive), (_, true_positive) = confusion_matrix(failed, scores < threshold)
        found = own["correct"]["flagged"][i], own["wrong"]["flagged"][i]
        assert found == (false_positive, true_positive)
    assert shown[0] <= np.quantile(wrong, 0.005) and shown[-1] >= np.quantile(scores, 0.999)


def test_it_starts_at_the_nearest_threshold():
    for options, wanted in (
        ({"start": 0.4321}, 0.4321),
        ({}, np.median(np.r_[CORRECT, WRONG])),
    ):
        (own,) = threshold_explorer(CORRECT, WRONG, **options).data["measures"]
        assert abs(thresholds(own)[own["start"]] - wanted) <= own["step"] / 2


@pytest.mark.parametrize(
    ("correct", "wrong", "options", "complaint"),
    [
        ([], WRONG, {}, "correct is empty"),
        (CORRECT, [0.1, np.nan], {}, "wrong has a NaN or an infinity in 1 of 2 rows"),
        (CORRECT[:, None], WRONG, {}, "correct must be one-dimensional"),
        ([1.0, 1.0], [1.0], {}, "the scores are all the same"),
        (CORRECT, WRONG, {"start": np.inf}, "start has a NaN or an infinity"),
    ],
)
def test_bad_scores_are_refused(correct, wrong, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        threshold_explorer(correct, wrong, **options)


@pytest.fixture
def pictures(tmp_path):
    """Three images in a row of a PNG file, and what is known of them."""
    pixels = RNG.integers(0, 256, (8, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures.png")
    names = {"label": ["cat", "dog", "cat"], "predicted": ["cat", "cat", "cat"]}
    return {"file": tmp_path / "pictures.png", "score": [0.3, 0.9, 0.5], **names}


def test_pictures_are_the_file_itself(pictures):
    shown = embedded(threshold_explorer(CORRECT, WRONG, pictures=pictures))["pictures"]
    _, encoded = shown["source"].split(",")
    assert base64.b64decode(encoded) == pictures["file"].read_bytes()
    assert shown["scores"] == [pictures["score"]]
    assert all(shown[key] == pictures[key] for key in ("label", "predicted"))


def test_bad_pictures_are_refused(pictures, tmp_path):
    (tmp_path / "no.png").write_bytes(b"GIF89a" + bytes(100))
    for change, complaint in (
        ({"file": tmp_path / "no.png"}, "no.png is no PNG file"),
        ({"score": [0.3, 0.9]}, "holds 3 square images, but pictures has .*'score': 2"),
        ({"label": ["cat"]}, "holds 3 square images, but pictures has .*'label': 1"),
        ({"score": [0.3, np.inf, 0.1]}, "NaN or an infinity"),
    ):
        with pytest.raises(ValueError, match=complaint):
            threshold_explorer(CORRECT, WRONG, pictures=pictures | change)
    del pictures["label"]
    with pytest.raises(ValueError, match="pictures lacks label"):
        threshold_explorer(CORRECT, WRONG, pictures=pictures)


RIVAL = {"name": "confidence", "unit": "softmax", "correct": CORRECT**2, "wrong": WRONG**2}


def test_a_rival_has_thresholds_and_scores_of_the_pictures_of_its_own(pictures):
    rival = RIVAL | {"score": [0.1, 0.8, 0.2]}
    data = embedded(threshold_explorer(CORRECT, WRONG, pictures=pictures, rival=rival))
    assert [own["name"] for own in data["measures"]] == ["density", "confidence"]
    assert data["pictures"]["scores"] == [pictures["score"], rival["score"]]
    other = data["measures"][1]
    for i, threshold in list(enumerate(thresholds(other)))[::20]:
        assert other["correct"]["flagged"][i] == (RIVAL["correct"] < threshold).sum()
        assert other["wrong"]["flagged"][i] == (RIVAL["wrong"] < threshold).sum()


def test_a_bad_rival_is_refused(pictures):
    without = {key: value for key, value in RIVAL.items() if key != "unit"}
    for rival, shown, complaint in (
        (without, None, "rival lacks unit"),
        (RIVAL, pictures, "rival lacks score"),
        (RIVAL | {"score": [0.1]}, pictures, "rival scores 1 of 3 pictures"),
        (RIVAL | {"wrong": WRONG[1:]}, None, r"the same inputs: \[900, 130\].*\[900, 129\]"),
        (RIVAL | {"correct": []}, None, "correct is empty"),
    ):
        with pytest.raises(ValueError, match=complaint):
            threshold_explorer(CORRECT, WRONG, pictures=shown, rival=rival)


# --- the mixture explorer ------------------------------------------------------------------------

POINTS = 1000 * RNG.normal(size=(50, 2))


def test_points_reach_the_page_with_four_digits_of_their_range():
    for scale in (1e-4, 1, 1e3):
        data = embedded(mixture_explorer(scale * POINTS, scale * POINTS[:4], n_components=2))
        assert np.abs(data["points"] - scale * POINTS).max() <= 1e-3 * np.ptp(scale * POINTS)
        assert data["means"] == data["points"][:4] and data["count"] == 2


@pytest.mark.parametrize(
    ("points", "means", "options", "complaint"),
    [
        (POINTS[:, :1], POINTS[:2], {}, "points has 1 columns, but 2 were expected"),
        (POINTS, np.full((2, 2), np.nan), {}, "means has a NaN or an infinity in 2 of 2 rows"),
        (POINTS, POINTS[:7], {}, "means has 7 centres, but there are colours for 6"),
        (POINTS, POINTS[:3], {"n_components": 4}, "n_components must be 1…3, as means has, got 4"),
        (POINTS, POINTS[:3], {"n_components": 1.5}, "n_components must be 1…3"),
        ([[0, 1], [0, 2]], [[0, 1]], {}, "points lie on one line"),
        (POINTS, POINTS[:3], {"tol": 0}, "tol must be a number above 0"),
        (POINTS, POINTS[:3], {"reg_covar": -1}, "reg_covar must be a number above 0"),
        (POINTS, POINTS[:3], {"max_iter": 0}, "max_iter must be a number above 0"),
    ],
)
def test_a_bad_mixture_is_refused(points, means, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        mixture_explorer(points, means, **options)
