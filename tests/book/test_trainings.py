"""The table of several trainings, against scikit-learn's AUROC and NumPy's deviations."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from mistakes_lib.book.trainings import trainings_sentence, trainings_table
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.scores import TemperatureScaling
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


def training(seed, **changes):
    """What the table asks a run for, with features drawn at random."""
    rng = np.random.default_rng(seed)
    test, attacked = batch(rng, 200), np.arange(0, 200, 4)
    sets = {"svhn": batch(rng, 60, 1.5)}
    attack, mixture = (
        batch(rng, 50, 0.8),
        DiagonalGMM(2, random_state=0).fit(rng.normal(size=(300, 3))),
    )
    splits = {"test": test, "validation": batch(rng, 150)}
    return SimpleNamespace(
        name=f"digits/tiny/seed{seed}",
        experiment=replace(EXPERIMENT, seed=seed, **changes),
        density=lambda n_components: mixture,
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


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ("mistakes", lambda r: (t := r.features("test"), (t[t.correct], t[~t.correct]))[1]),
        ("FGSM 8/255", lambda r: (r.features("test")[r.attacked], r.attack("fgsm", 8 / 255))),
        ("svhn", lambda r: (r.features("test"), r.ood("svhn"))),
    ],
)
def test_means_and_deviations_are_scikit_learns_and_numpys(row, pair):
    found = trainings_table(RUNS, 2, n_components_large=2, resamples=20).loc[row]
    for name, score in (("density", density), ("confidence", confidence)):
        expected = areas(pair, score)
        assert found[name] == pytest.approx(np.mean(expected), abs=1e-9)
        assert found[f"{name} sd"] == pytest.approx(np.std(expected, ddof=1), abs=1e-9)
    assert found["difference"] == pytest.approx(found["density"] - found["confidence"])
    assert found["low"] < found["difference"] < found["high"]
    assert found["largest"] in ("trainings", "test images")


def test_the_sentence_is_computed_from_the_table():
    table = trainings_table(RUNS, 2, n_components_large=2, resamples=20)
    sentence = trainings_sentence(table)
    assert f"{table.loc['mistakes', 'density sd']:.3f} for mistakes" in sentence
    assert f"of {len(table)} settings" in sentence


def test_runs_that_differ_in_more_than_the_seed_are_refused():
    with pytest.raises(ValueError, match="needs two or more, got 1"):
        trainings_table(RUNS[:1])
    with pytest.raises(ValueError, match=r"seed9 differs from .*seed0 in more .*: eps_levels$"):
        trainings_table([RUNS[0], training(9, eps_levels=(4,))])
