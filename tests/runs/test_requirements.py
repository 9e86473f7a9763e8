"""The published runs reach what requirements.yml asks of them, counted from their own files."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mistakes_lib.data.originals import ORIGINALS
from mistakes_lib.runs import Run
from mistakes_lib.support.locations import PUBLISHED_RUNS
from mistakes_lib.support.storage import read_yaml

ASKED = read_yaml(Path(__file__).with_name("requirements.yml"), "requirements")
EVERY = [*ASKED["reach"], ASKED["gain"]["with"], ASKED["gain"]["without"]]
EVERY += [f"{ASKED['trainings']['of']}/seed{k}" for k in range(ASKED["trainings"]["count"])]


def published(name):
    return Run(PUBLISHED_RUNS / name)


def accuracy_of(run):
    batch = run.features("test")
    return np.mean(batch.logits.argmax(axis=1) == batch.labels)


def chosen_temperature(run):
    """What makes the labels of the validation images likeliest."""
    held = run.features("validation")

    def loss(log_t):
        rows = np.arange(len(held))
        return -log_softmax(held.logits / np.exp(log_t), axis=1)[rows, held.labels].mean()

    return np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)


@pytest.mark.parametrize("name", EVERY)
def test_it_was_made_of_the_original_images(name):
    run = published(name)
    for split, fingerprint in run.info["data"]["fingerprints"].items():
        assert fingerprint == ORIGINALS[run.experiment.data_set, split]


@pytest.mark.parametrize("name", ASKED["reach"])
def test_it_is_right_often_enough(name):
    assert accuracy_of(published(name)) >= ASKED["reach"][name]["accuracy"]


@pytest.mark.parametrize("name", [n for n, least in ASKED["reach"].items() if len(least) > 1])
def test_it_knows_its_training_images_by_heart_and_is_over_confident(name):
    run, least = published(name), ASKED["reach"][name]
    assert run.info["training"]["history"][-1]["accuracy"] > least["training_accuracy"]
    assert chosen_temperature(run) > least["temperature"]


def test_images_without_a_label_raise_the_accuracy():
    ours, twin = (published(ASKED["gain"][which]) for which in ("with", "without"))
    assert accuracy_of(ours) - accuracy_of(twin) >= ASKED["gain"]["by"]
    labels = {run.experiment.labels_per_class for run in (ours, twin)}
    assert len(labels) == 1 and None not in labels
    assert ours.experiment.ensembling and not twin.experiment.ensembling
    assert ours.experiment.architecture == twin.experiment.architecture


def test_trainings_differ_in_their_seed_alone():
    folder, count = PUBLISHED_RUNS / ASKED["trainings"]["of"], ASKED["trainings"]["count"]
    records = [json.loads((folder / f"seed{k}/run.json").read_text()) for k in range(count)]
    settings = [record["experiment"] for record in records]
    assert [each.pop("seed") for each in settings] == list(range(count))
    assert all(each == settings[0] for each in settings)
    weights = {record["files"]["classifier.safetensors"] for record in records}
    assert len(weights) == count, "each was trained anew"
