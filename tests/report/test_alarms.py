"""Alarms are raised where something is wrong, and only there; the advice is counted out."""

import numpy as np
import pytest
from scipy.stats import binom

from mistakes_lib.detector import fit_detector
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.report.advice import refused_to_catch
from mistakes_lib.report.alarms import find_alarms, order_of_outputs
from mistakes_lib.report.facts import make_report
from mistakes_lib.report.page import report_html

KEPT = {"promised": 0.05, "false_alarms": 0.05}


def batch(n, accuracy, seed=0, order=range(5)):
    """Five classes; outputs in this order; so many predictions right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=n)
    predicted = np.where(rng.random(n) < accuracy, labels, (labels + rng.integers(1, 5, n)) % 5)
    logits = 3 * np.eye(5)[predicted] + rng.normal(size=(n, 5)) / 10
    return FeatureSet(logits, logits[:, list(order)], labels)


GOOD = [batch(1000, 0.95, seed) for seed in range(3)]


def test_a_sound_network_raises_none():
    assert find_alarms(*GOOD, KEPT) == []


@pytest.mark.parametrize("accuracy", [0.2, 0.3])
def test_accuracy_near_chance(accuracy):
    (alarm,) = find_alarms(batch(1000, accuracy), *[batch(1000, accuracy, s) for s in (1, 2)], KEPT)
    assert "near chance" in alarm["alarm"] and "--size, --mean and --std" in alarm["cure"]


@pytest.mark.parametrize("order", [(0, 4, 1, 2, 3), (1, 2, 3, 4, 0), (4, 3, 2, 1, 0)])
def test_classes_in_another_order_are_put_right(order):
    """0, 4, 1, …: as class_1, class_10, class_2 sort as text; 1, 2, …: labels that begin with 1."""
    sets = [batch(1000, 0.95, seed, order) for seed in range(3)]
    (alarm,) = find_alarms(*sets, KEPT, classes=list("abcde"))
    assert "another order" in alarm["alarm"]
    assert alarm["cure"].endswith(", ".join("abcde"[i] for i in order))
    found, accuracy = order_of_outputs(sets[0])
    assert found.tolist() == list(order) and accuracy == pytest.approx(0.95, abs=0.02)


def test_validation_images_that_the_network_has_seen():
    (alarm,) = find_alarms(GOOD[0], batch(1000, 0.997, 5), batch(2000, 0.917, 6), KEPT)
    assert "far above test accuracy" in alarm["alarm"]
    assert "--validation-from-test" in alarm["cure"]
    assert find_alarms(GOOD[0], batch(100, 0.95, 5), batch(100, 0.92, 6), KEPT) == [], "chance"


@pytest.mark.parametrize("measured", [0.03, 0.045, 0.05, 0.061, 0.09])
def test_promises_are_compared_by_the_binomial(measured):
    n = len(GOOD[1])
    found = find_alarms(*GOOD, {"promised": 0.05, "false_alarms": measured})
    low, high = binom.ppf([0.025, 0.975], n, 0.05) / n
    beyond = measured < low - 0.005 or measured > high + 0.01  # both sets vary
    assert bool(found) == beyond
    assert all("correct test predictions are flagged" in alarm["alarm"] for alarm in found)


@pytest.mark.parametrize(
    ("twice", "said"), [((0, 1, 1), "validation set and the test"), ((2, 1, 2), "training set and")]
)
def test_one_file_in_two_places(twice, said):
    alarms = find_alarms(*[GOOD[i] for i in twice], KEPT)
    assert any(said in alarm["alarm"] and "given twice" in alarm["cause"] for alarm in alarms)


@pytest.mark.parametrize("place", [1, 2])
def test_sets_of_another_classifier_are_named(place):
    sets, names = list(GOOD), ("train", "validation", "test")
    sets[place] = FeatureSet(np.zeros((9, 7)), 3 * np.eye(9)[:, :5], np.zeros(9))
    with pytest.raises(ValueError, match=f"the {names[place]} set has 7 features, the train set 5"):
        make_report(*sets)
    far = FeatureSet(np.zeros((9, 5)), 3 * np.eye(9))
    with pytest.raises(ValueError, match="the far set has 9 logits, the train set 5"):
        make_report(*GOOD, suspects={"far": far})


@pytest.mark.parametrize("share", [5, 0, 1, -0.1])
def test_a_share_of_false_alarms_is_a_share(share):
    with pytest.raises(ValueError, match="false_alarms must lie strictly between 0 and 1, got"):
        make_report(*GOOD, false_alarms=share)
    with pytest.raises(ValueError, match="false_alarms must lie strictly between 0 and 1, got"):
        fit_detector(*GOOD[:2], false_alarms=share)


def test_the_price_of_catching_is_counted_out():
    trusted, suspect = np.array([1.0, 2, 3, 4, 5]), np.array([0.5, 1.5, 2.5, 9.0])
    assert refused_to_catch(trusted, suspect, 0.5) == 0.2
    assert refused_to_catch(trusted, suspect, 0.75) == 0.4
    assert refused_to_catch(trusted, suspect, 1.0) == 1.0


def test_a_network_without_mistakes_is_judged_on_suspects():
    right = [batch(300, 1.0, seed) for seed in range(3)]
    far = FeatureSet(np.full((40, 5), 9.0) + np.eye(5)[np.arange(40) % 5], np.ones((40, 5)))
    report = make_report(*right, suspects={"far": far}, n_components=5)
    assert [verdict["set"] for verdict in report.facts["verdicts"]] == ["far"]
    assert report.facts["detector"]["caught"] is None
    page = report_html(report)
    assert "far" in page and "recall \\u2013" in page  # a dash, as JSON has it
    with pytest.raises(ValueError, match="are right: there is nothing to tell without suspects"):
        make_report(*right, n_components=5)
    wrong = FeatureSet(right[2].features, -right[2].logits, right[2].labels)
    with pytest.raises(ValueError, match=r"are wrong: .* are the classes in the order of the netw"):
        make_report(*right[:2], wrong, n_components=5)


def test_features_of_another_unit_give_the_same_report():
    """× 1e-4: an absolute regularisation of 1e-6 would be a hundred times their variance."""
    small = [FeatureSet(1e-4 * s.features, s.logits, s.labels) for s in GOOD]
    far = [FeatureSet(np.full((40, 5), 4.0) * u, np.ones((40, 5))) for u in (1, 1e-4)]
    found = [
        make_report(*sets, suspects={"far": odd}, n_components=5).facts
        for sets, odd in ((GOOD, far[0]), (small, far[1]))
    ]
    usual, tiny = (facts["verdicts"][1]["auroc"] for facts in found)
    assert usual > 0.9 and tiny == pytest.approx(usual, abs=0.02)
    for name in ("mistakes", "far"):  # each method, also the mixtures of the classes
        usual, tiny = (
            {row["method"]: row["AUROC"] for row in facts["methods"][name]} for facts in found
        )
        assert len(usual) == 11 and tiny == pytest.approx(usual, abs=0.02)


def test_the_page_shows_alarms_and_advice():
    sets = [batch(400, 0.95, seed, (1, 0, 2, 3, 4)) for seed in range(3)]
    report = make_report(*sets, n_components=5, classes=["<a>", *"bcde"])
    page = report_html(report)
    assert "another order" in page and "&lt;a&gt;" in page and "<a>, " not in page
    advice = report.facts["advice"][0]
    assert advice["deploy"].startswith("mistakes fit TRAIN VALIDATION --method ")
    assert advice["deploy"] in page
