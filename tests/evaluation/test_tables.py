"""The tables of detectors: each fitted on its split, each row what the report says."""

import numpy as np
import pandas as pd
import pytest

from mistakes_lib import (
    DiagonalGMM,
    FeatureSet,
    auroc_table,
    describe_scorers,
    detection_report,
    detection_table,
    fit_scorers,
    mark_class_agnostic,
    readable,
    score_many,
    score_pairs,
)


@pytest.fixture(scope="module")
def splits():
    """Three classes in four dimensions: train, validation, test, and inputs from far away."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=3, size=(3, 4))
    head = centres + rng.normal(scale=0.3, size=(3, 4))

    def draw(n, shift=0.0):
        labels = rng.integers(3, size=n)
        features = centres[labels] + rng.normal(size=(n, 4)) + shift
        return FeatureSet(features, features @ head.T - (centres**2).sum(axis=1) / 2, labels)

    return {"train": draw(400), "validation": draw(200), "test": draw(300), "far": draw(80, 9.0)}


@pytest.fixture(scope="module")
def scorers(splits):
    density = DiagonalGMM(3, random_state=0)
    return fit_scorers(splits["train"], splits["validation"], density)


def test_the_papers_score_comes_first_and_every_score_is_fitted(scorers, splits):
    assert next(iter(scorers)) == "GMM-3"
    for scorer in scorers.values():
        assert np.isfinite(scorer.score_samples(splits["test"])).all()


def test_each_scorer_learns_from_its_own_split(splits):
    """Moving the other split must change nothing."""
    train, validation, far = splits["train"], splits["validation"], splits["far"]
    density = DiagonalGMM(3, random_state=0)
    usual = fit_scorers(train, validation, density)
    for moved, unmoved in (("train", "validation"), ("validation", "train")):
        arguments = {"train": train, "validation": validation} | {moved: far}
        other = fit_scorers(**arguments, density=density)
        for name, scorer in usual.items():
            if scorer.fits_on == unmoved:
                np.testing.assert_array_equal(
                    other[name].score_samples(splits["test"]), scorer.score_samples(splits["test"])
                )


def test_the_description_tells_what_a_method_sees(scorers):
    table = describe_scorers(scorers)
    assert list(table.index) == list(scorers)
    agnostic = table.index[table["class-agnostic"] == "yes"]
    assert list(agnostic) == ["GMM-3", "Nearest neighbors"], "labels and logits tell of classes"
    assert table["reads"]["Zheng & Hong"] == "features, logits"


def test_the_classes_share_the_components(splits):
    density = DiagonalGMM(7, random_state=0)
    scorers = fit_scorers(splits["train"], splits["validation"], density)
    assert [m.n_components for m in scorers["Zheng & Hong"].mixtures_] == [2, 2, 2]


def test_a_row_is_the_report_of_its_scores(scorers, splits):
    pairs = score_pairs(scorers, splits["test"], splits["far"])
    table = detection_table(pairs, confidence=0.9, random_state=1)
    assert list(table.index) == list(scorers)
    for name, scorer in scorers.items():
        trusted, suspect = (scorer.score_samples(splits[s]) for s in ("test", "far"))
        report = detection_report(trusted, suspect, confidence=0.9, random_state=1)
        assert table.AUROC[name] == report.auroc
        assert (table.low[name], table.high[name]) == report.auroc_ci
        assert (table.AUPR[name], table.FPR95[name]) == (report.aupr, report.fpr95)
        for value, (low, high) in (("AUPR", report.aupr_ci), ("FPR95", report.fpr95_ci)):
            assert table[f"{value} 90 % interval"][name] == f"{low:.2f} to {high:.2f}"


def test_many_groups_are_scored_as_one_by_one(scorers, splits):
    groups = {"far": splits["far"], ("near", 1): splits["validation"]}
    many = score_many(scorers, splits["test"], groups)
    assert list(many) == list(groups)
    for key, batch in groups.items():
        one = score_pairs(scorers, splits["test"], batch)
        assert list(many[key]) == list(one) == list(scorers)
        for name, pair in one.items():
            for ours, theirs in zip(many[key][name], pair, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_far_inputs_are_found_by_the_features(scorers, splits):
    table = detection_table(score_pairs(scorers, splits["test"], splits["far"]), random_state=0)
    assert table.AUROC["GMM-3"] > 0.95 and table.AUROC["Mahalanobis"] > 0.95


def test_an_empty_group_is_named(scorers, splits):
    test = splits["test"]
    with pytest.raises(ValueError, match="features is empty"):
        score_pairs(scorers, test, test[np.zeros(len(test), bool)])


def test_what_needs_labels_sees_only_those_that_training_saw(splits):
    """Scrambling the other labels changes nothing; fitting on all rows would."""
    train, validation = splits["train"], splits["validation"]
    labelled = np.arange(len(train)) % 3 == 0
    scrambled = np.where(labelled, train.labels, (train.labels + 1) % 3)
    other = FeatureSet(train.features, train.logits, scrambled)
    options = {"density": DiagonalGMM(3, random_state=0), "labelled": labelled}
    ours = fit_scorers(train, validation, **options)
    theirs = fit_scorers(other, validation, **options)
    every = fit_scorers(train, validation, options["density"])
    for name, scorer in ours.items():
        np.testing.assert_array_equal(
            scorer.score_samples(validation), theirs[name].score_samples(validation)
        )
        same = np.array_equal(
            scorer.score_samples(validation), every[name].score_samples(validation)
        )
        assert same is not scorer.needs_labels or scorer.fits_on == "validation"


def test_auroc_table_is_the_detection_table_without_its_bootstrap(scorers, splits):
    pairs = score_pairs(scorers, splits["test"], splits["far"])
    expected = detection_table(pairs, random_state=0)[["AUROC", "low", "high"]]
    pd.testing.assert_frame_equal(auroc_table(pairs), expected)


def test_a_dagger_marks_the_methods_that_look_at_no_class(scorers):
    table = pd.DataFrame({"AUROC": 0.5}, index=[*scorers, "PixelCNN"])
    marked = mark_class_agnostic(table, scorers, others=["PixelCNN", "another"])
    daggers = [name for name in marked.index if name.endswith("†")]
    assert daggers == ["GMM-3 †", "Nearest neighbors †", "PixelCNN †"]
    assert marked.index.str.removesuffix(" †").equals(table.index)
    assert "PixelCNN" in table.index  # which is left alone


def test_readers_get_text_where_code_gets_low_and_high(scorers, splits):
    table = auroc_table(score_pairs(scorers, splits["test"], splits["far"]))
    shown = readable(table)
    assert list(shown) == ["AUROC", "AUROC 95 % interval"]
    assert shown.iloc[0, 1] == f"{table.low.iloc[0]:.2f} to {table.high.iloc[0]:.2f}"
    with pytest.raises(ValueError, match="lacks the column high"):
        readable(table.drop(columns="high"))
