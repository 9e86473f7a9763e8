"""The published reports on somebody else's network, and the tables that a chapter makes of them."""

import json
import re
import shlex

import numpy as np
import pytest
from scipy.stats import beta

from mistakes_lib import failures_table, promises_table, published_report
from mistakes_lib.support.locations import REPORTS

CASES = ("seen", "held_out")


@pytest.fixture(params=CASES)
def report(request):
    return published_report(f"resnet20/{request.param}")


def test_an_unknown_report_is_named_with_the_nearest():
    with pytest.raises(
        FileNotFoundError, match=r"'resnet20/heldout': did you mean 'resnet20/held_"
    ):
        published_report("resnet20/heldout")


def test_the_network_is_the_one_that_its_author_published(report):
    """91.73 % on all 10,000 test images, says its author; half of them lie near."""
    n, accuracy = (report["inputs"][key]["test"] for key in ("counts", "accuracy"))
    chance = 0 if n == 10_000 else 3 * (0.9173 * 0.0827 / n) ** 0.5
    assert accuracy == pytest.approx(0.9173, abs=max(chance, 1e-9))
    assert report["inputs"]["accuracy"]["train"] > 0.99


def test_what_is_kept_is_small_and_of_no_machine():
    files = [p for p in REPORTS.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    assert sum(path.stat().st_size for path in files) < 700_000
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"""["'\s=](?:/(?:home|root|tmp|work|Users|private)/|[A-Z]:\\)""", text
        )


def test_a_report_says_how_it_was_made(report):
    command = shlex.split(report["made"]["command"])
    assert command[:2] == ["mistakes", "report"]
    strange = [
        command[i + 1] for i, word in enumerate(command) if word in ("--ood", "--adversarial")
    ]
    assert {name.partition("=")[0] for name in strange} == set(report["methods"]) - {"mistakes"}
    cut = report["source"]["sets"]["validation"]
    assert ("--validation-from-test" in command) == ("test" in cut), cut
    assert {"python", "torch", "numpy", "revision"} <= set(report["made"]["versions"])
    assert all(alarm["alarm"] in report["made"]["console"] for alarm in report["alarms"])


def test_seen_validation_images_alarm_and_held_out_ones_do_not():
    seen, held_out = (published_report(f"resnet20/{case}") for case in CASES)
    assert any("--validation-from-test" in alarm["cure"] for alarm in seen["alarms"])
    assert held_out["alarms"] == []
    assert seen["calibration"]["ece_after"] > seen["calibration"]["ece_before"]
    assert held_out["calibration"]["ece_after"] < held_out["calibration"]["ece_before"]


def test_promises_have_the_interval_of_their_counts(report):
    row = promises_table({"it": report}, confidence=0.9).loc["it"]
    correct = row["test accuracy"] * report["inputs"]["counts"]["test"]
    assert row["n"] == pytest.approx(correct)
    k = row["flagged"] * row["n"]
    assert k == pytest.approx(round(k)), "a count"
    ends = beta.ppf(0.05, k, correct - k + 1), beta.ppf(0.95, k + 1, correct - k)
    np.testing.assert_allclose(row[["low", "high"]].astype(float), ends)
    assert row["promised"] == 0.05


def test_failures_have_the_areas_of_the_report(report):
    table = failures_table(report)
    assert list(table.index) == list(report["methods"])
    verdicts = {verdict["set"]: verdict for verdict in report["verdicts"]}
    for name, row in table.iterrows():
        assert row["density"] == verdicts[name]["auroc"]
        assert (row["best"], row["best AUROC"]) == (
            verdicts[name]["best"],
            verdicts[name]["best_auroc"],
        )
        methods = {own["method"]: own for own in report["methods"][name]}
        assert row["refused by the best"] == methods[row["best"]]["FPR95"]
        assert row["confidence"] == methods["Calibrated"]["AUROC"] <= row["best AUROC"]


@pytest.mark.parametrize(
    ("density", "confidence", "better"),
    [
        ((0.7, 0.8), (0.5, 0.6), "density"),
        ((0.7, 0.8), (0.85, 0.9), "confidence"),
        ((0.7, 0.8), (0.75, 0.9), "neither"),
        ((0.7, 0.8), (0.8, 0.9), "neither"),
    ],
)
def test_one_is_better_only_where_the_intervals_do_not_meet(density, confidence, better):
    rows = [
        {"method": method, "AUROC": sum(ends) / 2, "low": ends[0], "high": ends[1], "FPR95": 0.5}
        for method, ends in (("GMM-9", density), ("Calibrated", confidence))
    ]
    assert failures_table({"methods": {"noise": rows}}).loc["noise", "better"] == better


@pytest.mark.parametrize("confidence", [0, 1, "high"])
def test_an_impossible_confidence_is_refused(confidence, report):
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1"):
        promises_table({"it": report}, confidence=confidence)


def test_a_report_without_density_or_confidence_is_refused(report):
    facts = json.loads(json.dumps({"methods": {"noise": report["methods"]["noise"]}}))
    facts["methods"]["noise"] = [
        m for m in facts["methods"]["noise"] if m["method"] != "Calibrated"
    ]
    with pytest.raises(ValueError, match="noise lacks confidence"):
        failures_table(facts)
    facts["methods"]["noise"] = [{"method": "Calibrated", "AUROC": 0.5, "FPR95": 1.0}]
    with pytest.raises(ValueError, match="noise lacks density"):
        failures_table(facts)
