"""The table of several trainings, against scikit-learn's AUROC and NumPy's deviations."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from mistakes_lib.book.trainings import (
    readable_trainings,
    trainings_methods,
    trainings_sentence,
    trainings_spread,
    trainings_table,
)
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.scores import LogLikelihood, MaxSoftmax, TemperatureScaling
from mistakes_lib.training.recipe import Recipe

EXPERIMENT = Experiment(
    data_set="digits",
    classifier="tiny",
    architecture={"name": "densenet_bc", "depth": 10, "growth_rate": 4},
    recipe=Recipe(epochs=1),
    attacks=("fgsm",),
    eps_levels=(8,),
    ood={"svhn": 60},
    mixtures=(2,),
)


def batch(rng, n, shift=0.0):
    features = rng.normal(shift, 1, size=(n, 3))
    logits = features @ np.eye(3) * 2 + rng.normal(size=(n, 3))
    return FeatureSet(features, logits, features.argmax(axis=1))


def training(seed, lacks=(), **changes):
    """What the tables ask a run for, with features drawn at random."""
    rng = np.random.default_rng(seed)
    test, attacked = batch(rng, 200), np.arange(0, 200, 4)
    sets = {"svhn": batch(rng, 60, 1.5)}
    attack, train = batch(rng, 50, 0.8), rng.normal(size=(300, 3))
    splits = {"test": test, "validation": batch(rng, 150)}

    def density(n_components, seed=0):
        return DiagonalGMM(n_components, random_state=seed, tol=0.1).fit(train)

    def scorers(n_components):
        usual = {"GMM": LogLikelihood(density(n_components)), "Max softmax": MaxSoftmax()}
        usual["Calibrated"] = TemperatureScaling()
        fitted = {name: each.fit(splits["validation"]) for name, each in usual.items()}
        return {name: each for name, each in fitted.items() if name not in lacks}

    return SimpleNamespace(
        name=f"digits/tiny/seed{seed}",
        experiment=replace(EXPERIMENT, seed=seed, **changes),
        density=density,
        scorers=scorers,
        fitted_seeds=lambda n_components: [0, 1, 2, 3] if seed == 0 else [seed],
        features=splits.__getitem__,
        attacked=attacked,
        attack=lambda name, eps: attack,
        eps_levels=[8],
        ood=sets.__getitem__,
        ood_sets=sets,
    )


RUNS = [training(seed) for seed in range(4)]


def areas(trusted_and_suspect, score):
    """scikit-learn's AUROC of each training."""
    found = []
    for run in RUNS:
        trusted, suspect = trusted_and_suspect(run)
        values = np.concatenate([score(run, trusted), score(run, suspect)])
        found.append(roc_auc_score(np.arange(len(values)) < len(trusted), values))
    return found


def density(run, inputs):
    return run.density(2).score_samples(inputs.features)


def confidence(run, inputs):
    temperature = TemperatureScaling().fit(run.features("validation")).temperature_
    return softmax(inputs.logits / temperature, axis=1).max(axis=1)


def mistaken(run):
    test = run.features("test")
    return test[test.correct], test[~test.correct]


@pytest.mark.parametrize(
    ("kind", "row", "pair"),
    [
        ("attacks", "FGSM 8/255", lambda r: (r.features("test")[r.attacked], r.attack("fgsm", 0))),
        ("strange", "svhn", lambda r: (r.features("test"), r.ood("svhn"))),
    ],
)
def test_means_and_deviations_are_scikit_learns_and_numpys(kind, row, pair):
    table = trainings_table(RUNS, kind, 2, resamples=20)
    found = table.loc[row]
    assert list(table.index) == [row]
    for name, score in (("density", density), ("confidence", confidence)):
        expected = areas(pair, score)
        assert found[name] == pytest.approx(np.mean(expected), abs=1e-9)
        assert found[f"{name} sd"] == pytest.approx(np.std(expected, ddof=1), abs=1e-9)
    assert found["difference"] == pytest.approx(found["density"] - found["confidence"])
    assert found["low"] < found["difference"] < found["high"]
    assert found["largest"] in ("trainings", "test images")


def test_every_method_is_judged_on_the_mistakes_of_all_trainings():
    found = trainings_methods(RUNS, 2, resamples=20)
    assert list(found.index) == ["GMM", "Max softmax", "Calibrated"]
    for name, score in (("GMM", density), ("Calibrated", confidence)):
        expected = areas(mistaken, score)
        assert found.loc[name, "AUROC"] == pytest.approx(np.mean(expected), abs=1e-9)
        assert found.loc[name, "sd"] == pytest.approx(np.std(expected, ddof=1), abs=1e-9)
    gaps = found["AUROC"]["GMM"] - found["AUROC"]
    np.testing.assert_allclose(found["difference"][1:], gaps[1:])
    assert np.isnan(found.loc["GMM", "low"])
    shown = readable_trainings(found)
    assert shown.loc["GMM"].tolist()[1:] == ["–", "–"]
    assert shown.loc["Calibrated", "density …"] == found.loc["Calibrated", "verdict"]


def test_a_method_that_one_training_lacks_is_left_out():
    runs = [*RUNS, training(4, lacks=("Max softmax",))]
    assert list(trainings_methods(runs, 2, resamples=10).index) == ["GMM", "Calibrated"]


def test_the_fits_of_one_training_say_how_far_fits_differ():
    spread = trainings_spread(RUNS, 2, resamples=20)
    assert spread.sources["drawn"].tolist() == [4, 4, 200]
    test = RUNS[0].features("test")
    fits = [RUNS[0].density(2, seed=each).score_samples(test.features) for each in range(4)]
    expected = [roc_auc_score(test.correct, each) for each in fits]
    np.testing.assert_allclose(spread.values[0], expected)
    assert spread.sources.loc["fits", "standard deviation"] == pytest.approx(
        np.std(expected, ddof=1)
    )
    others = [
        roc_auc_score(
            (test := run.features("test")).correct,
            run.density(2, seed=run.experiment.seed).score_samples(test.features),
        )
        for run in RUNS[1:]
    ]
    np.testing.assert_allclose(spread.values[1:, 0], others)


def test_the_sentence_is_computed_from_the_table():
    table = trainings_table(RUNS, "strange", 2, resamples=20)
    sentence = trainings_sentence(table)
    assert f"{table.loc['svhn', 'density sd']:.3f} (svhn)" in sentence
    assert f"of {len(table)} settings" in sentence


@pytest.mark.parametrize(
    "table",
    [
        trainings_methods,
        trainings_spread,
        lambda runs: trainings_table(runs, "attacks"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused(table):
    with pytest.raises(ValueError, match="needs two or more, got 1"):
        table(RUNS[:1])
    with pytest.raises(ValueError, match=r"seed9 differs from .*seed0 in more .*: eps_levels$"):
        table([RUNS[0], training(9, eps_levels=(4,))])


def test_a_vae_of_one_training_changes_nothing():
    alone = trainings_table(RUNS, "attacks", 2, resamples=20)
    beside = [training(0, deep_densities={"vae": {}}), *RUNS[1:]]
    found = trainings_table(beside, "attacks", 2, resamples=20)
    pd.testing.assert_frame_equal(found, alone)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be 'attacks' or 'strange', got 'mistakes'"):
        trainings_table(RUNS, "mistakes")
