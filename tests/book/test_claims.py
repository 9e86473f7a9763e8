"""The ledger: every claim of the paper is there, and its verdict follows the evidence."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from mistakes_lib.book.claims import (
    VERDICTS,
    Claim,
    as_evidence,
    as_markdown,
    judge,
    load_claims,
    load_evidence,
)

BOOK = Path(__file__).parents[2] / "book"
LEDGER = BOOK / "claims.yml"
REPRODUCED, PARTLY, NOT, UNTESTABLE = VERDICTS

# Evidence of a world in which the paper is right throughout.
HIGH = {"auroc": 0.9, "low": 0.89, "high": 0.91}
MIDDLE = {"auroc": 0.7, "low": 0.69, "high": 0.71}
CHANCE = {"auroc": 0.5, "low": 0.49, "high": 0.51}
RIGHT = {
    "u_test": {"log10_p": -12.7, **MIDDLE},
    "u_test_pixelcnn": {"log10_p": -4.1, **CHANCE},
    "pixelcnn": CHANCE,
    "pixelcnn_ood": {"below_half": 2, "tested": 2, "fashion_mnist": 0.1, "svhn": 0.2},
    "vae": CHANCE,
    "maf": CHANCE,
    "mistakes": {"ours": MIDDLE, "calibrated": HIGH},
    "densenet_bc": {"ours": MIDDLE, "calibrated": HIGH},
    "wide_resnet": {"ours": HIGH, "calibrated": HIGH},
    "adversarial": {
        "lowest": {"auroc": 0.76, "low": 0.75, "high": 0.77},
        "highest": {"auroc": 1.0, "low": 0.99, "high": 1.0},
        "settings": 8,
        "beats": {"calibrated": 8, "max_softmax": 8, "mahalanobis": 1, "zheng_hong": 0},
        "loses": {"calibrated": 0, "max_softmax": 0, "mahalanobis": 0, "zheng_hong": 0},
    },
    "semi_supervised": {"ours": MIDDLE},
    "few_labels": {"beats": 3, "loses": 0},
    "ood": {
        "settings": 3,
        "beats": {"calibrated": 3, "mahalanobis": 1},
        "loses": {"calibrated": 0, "mahalanobis": 2},
        "noise": {
            "ours": 0.99,
            "mahalanobis": 0.99,
            "zheng_hong": 0.99,
            "max_softmax": 0.95,
            "calibrated": 0.6,
        },
    },
    "purification": {"gain": 0.4, "p_value": 0.01, "corrected": 90, "broken": 50},
    "calibration": {"ece_before": 0.08, "ece_after": 0.02},
}

# For each claim: what makes it fail, and what makes it hold in part (None: no rule for that).
FLIPS = {
    "mistakes-have-unlikely-features": (
        {"u_test": {"log10_p": -0.1, **CHANCE}},
        {"u_test.log10_p": -1},
    ),
    "pixelcnn-hardly-separates": (
        {"u_test_pixelcnn": {"log10_p": -400, **HIGH}},
        {"u_test_pixelcnn": {"log10_p": -9, "auroc": 0.56, "low": 0.55, "high": 0.57}},
    ),
    "mixture-beats-deep-densities": (
        {"vae": HIGH, "maf": HIGH},
        {"maf": HIGH},
    ),
    "mixture-beats-pixelcnn": (
        {"pixelcnn": HIGH},
        {"pixelcnn": {"auroc": 0.69, "low": 0.68, "high": 0.7}},
    ),
    "mixture-below-calibrated-on-densenet": (
        {"densenet_bc.calibrated": CHANCE},
        {"densenet_bc.calibrated": {"auroc": 0.705, "low": 0.695, "high": 0.715}},
    ),
    "mixture-equals-calibrated-on-wide-resnet": (
        {"wide_resnet.ours": CHANCE},
        {"wide_resnet.ours": {"auroc": 0.86, "low": 0.85, "high": 0.87}},
    ),
    "adversarial-features-are-unlikely": (
        {"adversarial.lowest": CHANCE},
        {"adversarial.lowest": MIDDLE},
    ),
    "mixture-beats-confidence-on-attacks": (
        {"adversarial.beats.calibrated": 2, "adversarial.loses.calibrated": 6},
        {"adversarial.beats.max_softmax": 7},
    ),
    "mixture-equals-class-conditional-on-attacks": (
        {"adversarial.loses.zheng_hong": 8},
        {"adversarial.loses.mahalanobis": 1},
    ),
    "mixture-best-with-few-labels": ({"few_labels.loses": 1}, None),
    "works-with-few-labels": ({"semi_supervised.ours": CHANCE}, None),
    "mixture-beats-calibrated-on-strange-images": (
        {"ood.beats.calibrated": 1, "ood.loses.calibrated": 2},
        {"ood.beats.calibrated": 2},
    ),
    "mixture-beats-mahalanobis-on-some-sets": ({"ood.beats.mahalanobis": 0}, None),
    "only-calibrated-fails-on-noise": ({"ood.noise.ours": 0.5}, {"ood.noise.max_softmax": 0.6}),
    "pixelcnn-fails-on-strange-images": (
        {"pixelcnn_ood.below_half": 0},
        {"pixelcnn_ood.below_half": 1},
    ),
    "purification-corrects": ({"purification.gain": -0.3}, {"purification.p_value": 0.3}),
    "purification-breaks": ({"purification.broken": 0}, None),
    "temperature-lowers-ece": ({"calibration.ece_after": 0.09}, None),
}
CLAIMS = load_claims(LEDGER)
every_claim = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)


def changed(changes):
    """RIGHT with other values at dotted names."""
    evidence = copy.deepcopy(RIGHT)
    for name, value in changes.items():
        *path, last = name.split(".")
        place = evidence
        for part in path:
            place = place[part]
        place[last] = value
    return evidence


def verdict(claim, evidence):
    return judge([claim], evidence)[0].verdict


# --- the book's ledger ---------------------------------------------------------------------------


def test_the_flips_are_those_of_the_ledger():
    assert [claim.id for claim in CLAIMS] == list(FLIPS)


@every_claim
def test_each_verdict_follows_the_evidence(claim):
    wrong, weak = FLIPS[claim.id]
    assert verdict(claim, RIGHT) == REPRODUCED
    assert verdict(claim, changed(wrong)) == NOT
    assert bool(weak) == bool(claim.partly)
    if weak:
        assert verdict(claim, changed(weak)) == PARTLY


@every_claim
def test_without_evidence_a_claim_is_not_testable(claim):
    [judgement] = judge([claim], {})
    assert judgement.verdict == UNTESTABLE
    assert claim.needs in judgement.ours


@every_claim
def test_evidence_stands_where_the_claim_says(claim):
    chapter, _, label = claim.where.partition("#")
    source = (BOOK.parent / "notebooks" / f"{chapter}.py").read_text(encoding="utf-8")
    assert not label or f"({label})=" in source
    assert label or claim.needs, "what no chapter computes says what it needs"


def test_the_page_has_every_claim_with_its_verdict_and_rule():
    page = as_markdown(judge(CLAIMS, RIGHT))
    assert page.startswith(f"**{len(CLAIMS)} reproduced**, **0 partly reproduced**, ")
    for claim in CLAIMS:
        assert page.count(f"(claim-{claim.id})=\n") == 1
        assert f" <claim-{claim.id}>`" in page
        assert f"`{' '.join(claim.reproduced.split())}`" in page
    assert page.count("{bdg-success}`reproduced`") == 2 * len(CLAIMS)
    wrong = judge(CLAIMS[:1], changed(FLIPS[CLAIMS[0].id][0]))
    assert as_markdown(wrong).count("{bdg-danger}`not reproduced`") == 2


# --- evidence ------------------------------------------------------------------------------------


def test_evidence_is_json_of_four_digits_under_names_that_rules_can_use():
    values = {"Zheng & Hong": {"AUROC": 0.123456}, "n": 10_000, "tiny": 1e-30, "title": "A 1.23456"}
    assert json.loads(as_evidence({"test": values})) == {
        "test": {"zheng_hong": {"auroc": 0.1235}, "n": 10_000, "tiny": 1e-30, "title": "A 1.23456"}
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1]])
def test_evidence_is_numbers_and_names(value):
    with pytest.raises(TypeError, match=r"evidence\.test\.x must be a finite number"):
        as_evidence({"test": {"x": value}})


def test_evidence_is_gathered_from_all_files(tmp_path):
    (tmp_path / "a.json").write_text('{"one": {"x": 1}}')
    (tmp_path / "b.json").write_text('{"two": {"y": 2}}')
    assert load_evidence(tmp_path) == {"one": {"x": 1}, "two": {"y": 2}}
    (tmp_path / "c.json").write_text('{"two": {"y": 3}}')
    with pytest.raises(ValueError, match="topics that no other file has"):
        load_evidence(tmp_path)
    (tmp_path / "c.json").write_text('{"three": ')
    with pytest.raises(ValueError, match=r"c\.json is damaged"):
        load_evidence(tmp_path)
    with pytest.raises(FileNotFoundError, match="build the book"):
        load_evidence(tmp_path / "nowhere")


# --- what is refused -----------------------------------------------------------------------------

ENTRY = {
    "id": "x",
    "section": "§1",
    "says": "It is.",
    "reproduced": "a.b > 1",
    "ours": "{a.b}",
    "where": "04_mistakes",
}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"id": "x"}, "must hold a list of claims"),
        (["x"], "must hold a list of claims"),
        ([{k: v for k, v in ENTRY.items() if k != "says"}], r"claim 1 \(x\) lacks 'says'"),
        ([ENTRY | {"verdict": "yes"}], r"claim 1 \(x\) has an unknown field 'verdict'"),
        ([ENTRY | {"says": 3}], "says must be a text, got 3"),
        ([ENTRY, ENTRY], "two claims 'x'"),
        ([ENTRY | {"reproduced": "a.b >"}], "is no expression"),
        ([ENTRY | {"reproduced": "a.b"}], "compares nothing"),
        ([ENTRY | {"reproduced": "__import__('os').getcwd() > 1"}], "may only compare"),
        ([ENTRY | {"reproduced": "a.__class__ > 1"}], "may only compare"),
        ([ENTRY | {"partly": "[1 for a in b] > 1"}], "may only compare"),
    ],
)
def test_a_faulty_ledger_is_refused(tmp_path, entries, message):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump(entries))
    with pytest.raises(ValueError, match=message):
        load_claims(path)


def test_a_ledger_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "claims.yml").write_text("- [")
    with pytest.raises(ValueError, match=r"claims\.yml is no YAML"):
        load_claims(tmp_path / "claims.yml")


def test_a_missing_ledger_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no ledger of claims"):
        load_claims(tmp_path / "claims.yml")


def test_a_claim_of_unlike_things_is_decided_by_its_own_rule():
    claim = Claim("x", "§1", "It is.", "not (a.b > 1 or a.b < -1)", "b = {a.b}", "")
    assert [verdict(claim, {"a": {"b": b}}) for b in (-2, 0, 2)] == [NOT, REPRODUCED, NOT]
    assert judge([claim], {"a": {"b": 0}})[0].ours == "b = 0"
    assert verdict(claim, {"a": {"c": 0}}) == UNTESTABLE
