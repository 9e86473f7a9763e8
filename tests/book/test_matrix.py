"""The matrix of claims and runs, and how near a run is to the paper, computed and not typed."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mistakes_lib.book.claims import Claim
from mistakes_lib.book.evidence import stored_evidence
from mistakes_lib.book.matrix import (
    NetworkVerdict,
    judge_networks,
    judge_runs,
    matrix_page,
    overall_sentences,
    verdict_strip,
)
from mistakes_lib.book.nearness import CONDITIONS, conditions_of, papers_experiment
from mistakes_lib.data.originals import ORIGINALS
from mistakes_lib.runs import load_run
from mistakes_lib.runs.experiment import load_experiment

RULES = {"reproduced": "t.low > 0", "partly": "t.mean > 1", "undecided": "t.high > 0"}
FIRST = Claim("one", "§1", "First.", ours="m {t.mean}", where="", **RULES, contribution="1")
SECOND = replace(FIRST, id="two", says="Second.", contribution="3", central="yes")
THIRD = replace(FIRST, id="three", says="Third.", families="wide_resnet", contribution="")
GOOD, OPEN, BAD = (
    {"t": {"low": low, "mean": mean, "high": high}}
    for low, mean, high in ((1, 2, 3), (-1, 0, 1), (-3, -2, -1))
)
EVIDENCE = {
    "cifar100/a/seed0": GOOD | {"run": {"family": "densenet_bc"}},
    "cifar100/b/seed0": OPEN | {"run": {"family": "wide_resnet"}},
    "cifar10/b/seed0": BAD | {"run": {"family": "wide_resnet"}},
    "cifar10/c/seed1": {"run": {"family": "semi_supervised"}},
}


def test_every_cell_is_judged_by_its_own_evidence():
    cells = judge_runs([FIRST, SECOND, THIRD], EVIDENCE)
    assert [cells["one", run].verdict for run in EVIDENCE] == [
        "reproduced",
        "undecided",
        "not reproduced",
        "not testable here",
    ]
    assert {run for claim, run in cells if claim == "three"} == {
        "cifar100/b/seed0",
        "cifar10/b/seed0",
    }


def test_the_overall_sentences_are_counted_by_hand():
    claims = [FIRST, SECOND, THIRD]
    sentences = overall_sentences(claims, judge_runs(claims, EVIDENCE))
    counts = "of 3 verdicts on 4 networks, 1 reproduced, 1 not reproduced, 1 undecided."
    assert sentences[0] == f"Central claims: {counts}"
    assert len(sentences) == 4, "no sentence on a contribution without claims"
    assert sentences[-1].endswith("of 2 verdicts on 4 networks, 1 not reproduced, 1 undecided.")
    better = copy.deepcopy(EVIDENCE)
    better["cifar10/b/seed0"]["t"] = GOOD["t"]
    assert "2 reproduced, 1 undecided" in overall_sentences(claims, judge_runs(claims, better))[0]
    nothing = overall_sentences([FIRST], judge_runs([FIRST], {"x": {}}))
    assert nothing[0].endswith("nothing could be tested.")


def test_the_page_has_a_row_a_claim_a_column_a_run_and_the_conditions():
    conditions = {run: {"epochs": "same", "network": "same"} for run in EVIDENCE}
    conditions["cifar10/b/seed0"]["epochs"] = "fewer epochs (14 for 200)"
    claim = replace(FIRST, rule="Reproduced if above 0.", post_hoc="Changed.", conditions="epochs")
    page = matrix_page([claim, SECOND, THIRD], EVIDENCE, conditions)
    [row] = [line for line in page.splitlines() if "First. <claim-one>" in line]
    assert row.count("|") == 6
    verdicts = ["success", "info", "danger", "muted"]
    assert [row.index(f"bdg-{kind}") for kind in verdicts] == sorted(
        row.index(f"bdg-{kind}") for kind in verdicts
    )
    assert "| claim | cifar100/a | cifar100/b | cifar10/b | cifar10/c |" in page
    assert "**central** {ref}`Second. <claim-two>`" in page
    [third] = [line for line in page.splitlines() if "Third. <claim-three>" in line]
    assert third.split("|")[2].strip() == "–"
    section = page[page.index("(claim-one)=") : page.index("(claim-two)=")]
    assert "- the rule: Reproduced if above 0." in section and "- post hoc: Changed." in section
    assert "m -2 | fewer epochs (14 for 200) |" in section
    assert section.count("same as the paper's") == 3


def trained(*values):
    """Evidence of a network with one training for each value."""
    return {f"cifar100/a/seed{i}": value for i, value in enumerate(values)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((GOOD, GOOD, GOOD, BAD, OPEN), ("reproduced", 3, 5)),
        ((GOOD, GOOD, BAD, BAD, OPEN), ("undecided", 1, 5)),
        ((GOOD, BAD), ("undecided", 0, 2)),
        ((BAD, {}, {}), ("not reproduced", 1, 1)),  # the others have no such evidence
        (({}, {}), ("not testable here", 0, 0)),
        ((GOOD,), ("reproduced", 1, 1)),
    ],
)
def test_a_networks_verdict_is_that_of_most_of_its_trainings(values, expected):
    cells = judge_runs([FIRST], trained(*values))
    assert judge_networks(cells) == {("one", "cifar100/a"): NetworkVerdict(*expected)}


def test_a_network_trained_often_has_one_column_and_counts_once():
    evidence = trained(GOOD, GOOD, BAD) | {"cifar10/b/seed0": BAD}
    titles = {"cifar100": "Net-7 on CIFAR-100", "cifar10": "Net-8 on CIFAR-10"}
    for run in evidence:
        evidence[run] = evidence[run] | {"run": {"title": titles[run.partition("/")[0]]}}
    page = matrix_page([FIRST], evidence, {run: {} for run in evidence})
    assert "| claim | Net-7 on CIFAR-100 | Net-8 on CIFAR-10 |" in page
    [row] = [line for line in page.splitlines() if "First. <claim-one>" in line]
    assert "`reproduced` 2 of 3 |" in row and row.endswith("`not reproduced` |")
    assert "of 2 verdicts on 2 networks, 1 reproduced, 1 not reproduced." in page
    section = page[page.index("(claim-one)=") :]
    assert "| Net-7 on CIFAR-100, seed 2 |" in section and "| Net-8 on CIFAR-10 |" in section


def test_the_strip_has_a_square_a_claim_with_the_verdict_on_one_run():
    claims = [FIRST, SECOND, THIRD]
    cells = judge_runs(claims, EVIDENCE)
    strip = verdict_strip(claims, cells, "cifar100/b/seed0").splitlines()
    squares = [line.partition(": ")[2] for line in strip if "bdg-ref" in line]
    assert squares == [f"{{bdg-ref-info}}`U <claim-{name}>`" for name in ("one", "two", "three")]
    assert strip[-1] == "*U undecided; each square leads to its claim.*"
    dense = verdict_strip(claims, cells, "cifar100/a/seed0")
    assert dense.count("{bdg-ref-success}`R <claim-") == 2, "the third is not about a DenseNet"
    with pytest.raises(ValueError, match="no claim was judged on cifar10/x/seed0"):
        verdict_strip(claims, cells, "cifar10/x/seed0")


def test_no_run_is_no_matrix():
    with pytest.raises(ValueError, match="evidence is empty"):
        judge_runs([FIRST], {})


def test_stored_evidence_is_read_or_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no evidence of runs"):
        stored_evidence(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        stored_evidence(tmp_path)


# --- nearness ------------------------------------------------------------------------------------


def as_printed(**changes):
    """A run made exactly as the paper printed, but for some settings."""
    experiment = replace(load_experiment("paper", preset="wrn_28_10"), **changes)
    data_set = experiment.data_set
    test = ORIGINALS.get((data_set, "test"), "unknown")
    return SimpleNamespace(
        experiment=experiment,
        family="wide_resnet",
        classes=tuple(range(100)),
        attacked=range(experiment.attack_images),
        eps_levels=sorted(experiment.eps_levels),
        ood_sets=dict.fromkeys(experiment.ood),
        pixel_cnn_run=None,
        info={
            "data": {
                "fingerprints": {"test": test},
                "description": data_set,
                "counts": {"train": 45_000},
            }
        },
    )


def test_a_run_as_printed_is_the_same_throughout():
    found = conditions_of(as_printed())
    assert set(found) == set(CONDITIONS)
    absent = {"pixel_cnn": "no PixelCNN"}
    assert {name: text for name, text in found.items() if text != "same"} == absent


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("data", {"data_set": "svhn"}, "another data set (svhn)"),
        ("deep", {"deep_densities": {}}, "no VAE and no MAF"),
        ("deep", {"deep_densities": {"vae": {}, "maf": {}}}, "MAF with other settings"),
        (
            "deep",
            {"deep_densities": {"vae": {"epochs": 300}, "maf": {"lr": 0.01}}},
            "VAE with other settings",
        ),
        ("epochs", {"recipe": None}, "fewer epochs (14 for 200)"),
        (
            "network",
            {"architecture": {"name": "wide_resnet", "depth": 16, "widen_factor": 2}},
            "smaller network (depth 16 for 28, widen factor 2 for 10)",
        ),
        (
            "network",
            {"architecture": {"name": "wide_resnet", "depth": 40, "widen_factor": 2}},
            "another network (depth 40 for 28, widen factor 2 for 10)",
        ),
        (
            "dropout",
            {"architecture": {"name": "wide_resnet", "depth": 28, "dropout": 0.0}},
            "dropout 0 for 0.3",
        ),
        ("radii", {"eps_levels": (1, 16)}, "attack radii 1, 16 /255"),
        ("attacked", {"attack_images": 2000}, "2,000 attacked images for 10,000"),
        ("strange", {"ood": {"gaussian_noise": 9}}, "without svhn, tiny imagenet, fashion mnist"),
        ("labels", {"labels_per_class": 9}, "labels of 2% of the training images for 100%"),
    ],
)
def test_every_gap_is_said(name, changes, text):
    if name == "epochs":
        changes = {"recipe": replace(load_experiment("paper").recipe, epochs=14)}
    assert conditions_of(as_printed(**changes), [name])[name].startswith(text)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"epochs": 5000}, "same"),
        ({"epochs": 5}, "a PixelCNN of 5 epochs for 5000"),
        ({"n_filters": 8}, "same"),  # by default it is the paper's number
    ],
)
def test_a_pixel_cnn_of_another_classifier_is_as_near_as_that_ones(settings, text):
    run = as_printed()
    run.pixel_cnn_run = SimpleNamespace(experiment=SimpleNamespace(pixel_cnn=settings))
    assert conditions_of(run, ["pixel_cnn"]) == {"pixel_cnn": text}


def test_other_copies_of_the_images_are_told_by_their_fingerprint():
    run = as_printed()
    run.info["data"]["fingerprints"]["test"] = "another"
    assert conditions_of(run, ["images"])["images"].startswith("other images than the original")


def test_published_runs_are_compared_with_the_kind_of_network_that_they_are():
    run = load_run("cifar100/te_wrn_16_2/seed0")
    assert papers_experiment(run).classifier == "te_wrn_28_10"
    assert papers_experiment(run).data_set == "cifar100"
    twin = load_run("cifar100/wrn_16_2_few/seed0")
    assert papers_experiment(twin) == papers_experiment(run)
    other = load_run("cifar10/densenet_bc_100_12/seed0")
    assert papers_experiment(other).data_set == "cifar10"
    assert conditions_of(run, ["network"])["network"].startswith("smaller network (depth 16 for 28")


def test_what_cannot_be_compared_is_named():
    with pytest.raises(ValueError, match="unknown condition 'weather'"):
        conditions_of(as_printed(), ["weather"])
    run = as_printed()
    run.family = "transformer"
    with pytest.raises(LookupError, match="no classifier of the kind 'transformer'"):
        conditions_of(run)
