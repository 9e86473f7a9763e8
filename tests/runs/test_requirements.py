"""The published runs reach what requirements.yml asks of them, counted from their own files."""

from pathlib import Path

import numpy as np
import pytest

from mistakes_lib.data.originals import ORIGINALS
from mistakes_lib.runs import Run
from mistakes_lib.runs.files import CLASSIFIER, HEAD
from mistakes_lib.scores import TemperatureScaling
from mistakes_lib.support.locations import PUBLISHED_RUNS
from mistakes_lib.support.storage import read_yaml

ASKED = read_yaml(Path(__file__).with_name("requirements.yml"), "requirements")
EVERY = list(ASKED["reach"])
EVERY += [f"{ASKED['trainings']['of']}/seed{k}" for k in range(ASKED["trainings"]["count"])]


def published(name):
    return Run(PUBLISHED_RUNS / name)


def accuracy_of(run):
    batch = run.features("test")
    return np.mean(batch.logits.argmax(axis=1) == batch.labels)


@pytest.mark.parametrize("name", EVERY)
def test_it_was_made_of_the_original_images(name):
    run = published(name)
    for split, fingerprint in run.info["data"]["fingerprints"].items():
        assert fingerprint == ORIGINALS[run.experiment.data_set, split]


@pytest.mark.parametrize("name", ASKED["reach"])
def test_it_is_right_often_enough(name):
    assert accuracy_of(published(name)) >= ASKED["reach"][name]["accuracy"]


@pytest.mark.parametrize(
    "name", [name for name, asked in ASKED["reach"].items() if "temperature" in asked]
)
def test_it_is_over_confident(name):
    run, asked = published(name), ASKED["reach"][name]
    assert run.info["accuracy"]["train"] > asked["training_accuracy"]
    scaled = TemperatureScaling().fit(run.features("validation"))
    assert scaled.temperature_ > asked["temperature"]


@pytest.mark.parametrize("name", ASKED["above_its_twin"])
def test_it_is_above_its_twin(name):
    asked = ASKED["above_its_twin"][name]
    run, twin = published(name), published(asked["twin"])
    assert run.experiment.labels_per_class == twin.experiment.labels_per_class
    assert 100 * (accuracy_of(run) - accuracy_of(twin)) >= asked["points"]


def test_trainings_differ_in_their_seed_alone():
    name, count = ASKED["trainings"]["of"], ASKED["trainings"]["count"]
    records = [published(f"{name}/seed{k}").info for k in range(count)]
    settings = [dict(record["experiment"]) for record in records]
    for each in settings:
        del each["deep_densities"]  # of the first training's features alone
    assert [each.pop("seed") for each in settings] == list(range(count))
    assert all(each == settings[0] for each in settings)
    weights = {r["files"].get(CLASSIFIER, r["files"].get(HEAD)) for r in records}
    assert len(weights) == count, "each was trained anew"
