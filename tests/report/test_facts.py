"""A report says what the library's own functions say, on one page that needs no network."""

import html
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from mistakes_lib.cli.app import app
from mistakes_lib.detector import Detector
from mistakes_lib.evaluation.calibration import expected_calibration_error
from mistakes_lib.evaluation.detection import detection_report
from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.report.facts import Report, make_report
from mistakes_lib.report.page import report_html


def draw(n, seed, shift=0.0):
    """Three classes in four dimensions; the head is right most of the time."""
    rng = np.random.default_rng(seed)
    centres = np.array([[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]])
    labels = rng.integers(3, size=n)
    features = centres[labels] + 1.3 * rng.normal(size=(n, 4)) + shift
    return FeatureSet(features, 2 * features @ centres.T / 3, labels)


SETS = {"train": draw(900, 0), "validation": draw(400, 1), "test": draw(600, 2)}
FAR = draw(200, 3, shift=6.0)


@pytest.fixture(scope="module")
def report():
    return make_report(**SETS, suspects={"far & away": FAR}, n_components=5)


def test_numbers_are_those_of_the_library(report):
    test, facts = SETS["test"], report.facts
    scorer = report.detector.scorer
    scores = scorer.score_samples(test)
    pair = scores[test.correct], scores[~test.correct]
    mistakes, far = facts["verdicts"]
    expected = mann_whitney(*pair)
    assert (mistakes["auroc"], mistakes["log10_p"]) == (expected.auroc, expected.log10_p)
    assert far["auroc"] == detection_report(scores, scorer.score_samples(FAR), random_state=0).auroc
    assert far["flagged_by_likelihood"] == "yes" and far["auroc"] > 0.95
    best = max(facts["methods"]["mistakes"], key=lambda row: row["AUROC"])
    assert (mistakes["best"], mistakes["best_auroc"]) == (best["method"], best["AUROC"])
    rows = [row["AUROC"] for row in facts["methods"]["mistakes"]]
    assert mistakes["rank"] == sorted(rows, reverse=True).index(mistakes["auroc"]) + 1
    before = expected_calibration_error(test.logits, test.labels)
    assert facts["calibration"]["ece_before"] == before
    assert {"Combined", "Nearest neighbors"} <= {r["method"] for r in facts["methods"]["mistakes"]}


def test_a_method_that_cannot_be_fitted_is_left_out_with_the_reason(report):
    """Fewer training inputs than features leave ViM no residual: the others are still judged."""
    assert report.facts["left_out"] == {}
    lift = np.random.default_rng(0).normal(size=(4, 60))  # as many features, in few directions
    sets = {k: FeatureSet(s.features @ lift, s.logits, s.labels) for k, s in SETS.items()}
    few = make_report(**sets, n_components=5)
    assert few.facts["left_out"].keys() == {"ViM"}
    assert "leave no residual" in few.facts["left_out"]["ViM"]
    methods = {row["method"] for row in few.facts["methods"]["mistakes"]}
    everywhere = {row["method"] for row in report.facts["methods"]["mistakes"]}
    assert methods == everywhere - {"ViM"}
    page = report_html(few)
    assert "Left out, as it cannot be fitted to these inputs: ViM (the training features" in page
    assert "Left out" not in report_html(report)


def test_the_detector_does_what_the_report_says(report):
    test, said = SETS["test"], report.facts["detector"]
    flagged = report.detector.flag(test)
    assert said["false_alarms"] == flagged[test.correct].mean()
    assert said["caught"] == flagged[~test.correct].mean()
    assert said["error_after"] == (~test.correct[~flagged]).mean()
    assert said["threshold"] == report.detector.threshold


def test_the_explorer_is_counted_out(report):
    test = SETS["test"]
    rows = report.facts["explorer"][report.rule]
    scores = report.detector.scorer.score_samples(test)
    for i in (0, 50, len(rows["threshold"]) - 1):
        flagged = scores < rows["threshold"][i]
        assert rows["flagged"][i] == flagged.mean()
        assert rows["recall"][i] == flagged[~test.correct].mean()
        assert rows["risk"][i] == (~test.correct[~flagged]).mean()
        if flagged.any():
            assert rows["precision"][i] == (~test.correct[flagged]).mean()
    assert rows["precision"][0] is None, "nothing lies below the smallest score"


def test_the_extremes_are_the_extremes(report):
    scores = report.detector.scorer.score_samples(SETS["test"])
    least, most = (report.facts["extremes"][name] for name in ("least", "most"))
    assert [row["row"] for row in least] == np.argsort(scores)[:12].tolist()
    assert most[0]["score"] == scores.max()


def test_the_page_needs_no_network_and_escapes_names(report):
    page = report_html(report)
    assert "far &amp; away" in page and "far & away" not in page
    own = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)  # plotly mentions addresses
    assert not re.search(r"(src|href)=", own)
    assert not re.search(r"<script[^>]+src=", page)
    assert f"{report.facts['verdicts'][0]['auroc']:.3f}" in own
    assert all(
        row["method"] in own.replace("&amp;", "&") for row in report.facts["methods"]["mistakes"]
    )


def test_the_pages_numbers_have_minus_signs_and_percentages_of_one_form(report):
    unread = r"<(script|style|code).*?</\1>"
    page = re.sub(unread, "", report_html(report), flags=re.DOTALL)
    shown = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert f"score below {report.facts['detector']['threshold']:.3f}".replace("-", "−") in shown
    assert not re.search(r"(?<!\w)-\d", shown) and "95%" in shown and " %" not in shown


def test_a_promise_that_cannot_be_kept_is_no_detector(report):
    """With 18 correct validation predictions or fewer, 5 % cannot be guaranteed."""
    facts = report.facts | {"detector": report.facts["detector"] | {"threshold": None}}
    page = report_html(Report(facts, report.detector, report.rule))
    assert "this detector\nflags nothing" in page and "below None" not in page
    assert "recall, precision, risk" in page


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"test": SETS["test"][SETS["test"].correct]}, "test predictions are right: there is noth"),
        ({"validation": FeatureSet(FAR.features, FAR.logits)}, "the validation set has no labels"),
        ({"suspects": {"mistakes": FAR}}, "take another name"),
        (
            {"suspects": {"x": FeatureSet(FAR.features[:, :2], FAR.logits)}},
            "the x set has 2 features, the train set 4",
        ),
    ],
)
def test_what_cannot_be_reported_is_said(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_report(**(SETS | change), n_components=2)


def test_without_validation_mistakes_nothing_is_combined():
    right = SETS["validation"][SETS["validation"].correct]
    report = make_report(SETS["train"], right, SETS["test"], n_components=2)
    assert "Combined" not in report.facts["explorer"]


def test_the_command_writes_page_record_and_detector(tmp_path):
    for name, batch in (SETS | {"far": FAR}).items():
        batch.save(tmp_path / f"{name}.safetensors")
    files = [f"--{name}={tmp_path / name}.safetensors" for name in SETS]
    out = tmp_path / "out"
    options = [f"--ood=far={tmp_path / 'far.safetensors'}", f"--out={out}", "--components=5"]
    result = CliRunner().invoke(app, ["report", *files, *options])
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "report.json").read_text())
    assert f"far: yes, AUROC {facts['verdicts'][1]['auroc']:.3f}" in result.stdout
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    detector = Detector.load(out / "detector.safetensors")
    assert detector.threshold == facts["detector"]["threshold"]
    wrong = CliRunner().invoke(app, ["report", *files, "--ood=far"])
    assert wrong.exit_code == 1 and "'far' must be NAME=FILE" in wrong.stderr
