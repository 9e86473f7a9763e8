"""Killed at any moment, or started twice, a run ends the same."""

import json
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mistakes_lib.data.named import load_dataset
from mistakes_lib.runs import load_run, train_run
from mistakes_lib.training.recipe import Recipe
from mistakes_lib.training.supervised import train
from tests.helpers.runs import (
    EXPERIMENT,
    STAGES,
    assert_same_run,
    make,
    temporaries,
)

CHILD = """
import json, os, signal, sys
from pathlib import Path
from mistakes_lib import runs
from mistakes_lib.runs.experiment import Experiment

root, experiment, function, file, moment = sys.argv[1:]
replace = Path.replace

def deadly(self, target):
    if Path(target).name != file:
        return replace(self, target)
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, target)
    os.kill(os.getpid(), signal.SIGKILL)

Path.replace = deadly
experiment = Experiment.from_dict(json.loads(experiment))
getattr(runs, function)(experiment, root=root, device="cpu")
"""


def start(nursery, root, file="", moment="", *, experiment=EXPERIMENT, function="make_run"):
    """Make a run in a child process, killed just before or after it renames a file into place."""
    return nursery.start(CHILD, root, json.dumps(experiment.to_dict()), function, file, moment)


def seconds_of(child):
    """How long a child takes that nobody kills."""
    started = time.monotonic()
    assert child.wait() == 0, child.stderr
    return time.monotonic() - started


def kill_after(child, seconds):
    """Kill a child; return its exit code, which is 0 if it was done before."""
    time.sleep(seconds)
    child.kill()
    return child.wait()


@pytest.mark.slow
def test_killed_at_any_write_and_resumed_it_is_the_same_run(nursery, published, tmp_path):
    """Each process starts where the one before was killed: inside a write, or just after it."""
    moments = [
        ("training.safetensors", "before"),
        ("training.safetensors", "after"),  # one epoch of two
        ("training.safetensors", "after"),
        ("classifier.safetensors", "before"),
        ("classifier.safetensors", "after"),  # the journal knows nothing of it
        ("stages.json", "after"),  # the checkpoint is still there
        ("train.safetensors", "before"),
        ("test.safetensors", "after"),
        ("fgsm-32.safetensors", "before"),
        ("photo_patches.safetensors", "after"),
        ("gmm-2.safetensors", "before"),
        ("vae-training.safetensors", "after"),  # one epoch of two
        ("vae.safetensors", "before"),
        ("stages.json", "before"),
        ("examples.png", "before"),
        ("run.json", "before"),
    ]
    for file, moment in moments:
        child = start(nursery, tmp_path, file, moment)
        assert child.wait() == -signal.SIGKILL, (file, child.stderr)
    assert temporaries(tmp_path), "a killed writer had no time to clean up"
    with pytest.raises(FileNotFoundError, match="no run"):
        load_run(tmp_path / EXPERIMENT.name)
    make(tmp_path)
    assert_same_run(tmp_path, published)


@pytest.mark.slow
def test_killed_at_fifty_random_moments_and_resumed_it_is_the_same_run(
    nursery, published, tmp_path
):
    """Each within half of the time that a whole run takes; after a finished run, another."""
    roots, kills = [tmp_path / "undisturbed", tmp_path / "1"], 0
    whole = seconds_of(start(nursery, roots[0]))
    rng = np.random.default_rng(0)
    while kills < 50:
        child = start(nursery, roots[-1])
        code = kill_after(child, rng.uniform(0, whole / 2))
        assert code in (0, -signal.SIGKILL), child.stderr
        if code == 0:
            roots.append(tmp_path / str(len(roots)))
        else:
            kills += 1
    for root in roots:
        make(root)
        assert_same_run(root, published)


@pytest.mark.slow
def test_a_training_killed_ten_times_ends_bit_for_bit_the_same(nursery, tmp_path):
    """Temporal Ensembling, whose checkpoint also has the ensemble predictions."""
    recipe = replace(EXPERIMENT.recipe, epochs=20)
    experiment = replace(EXPERIMENT, recipe=recipe, labels_per_class=10)
    options = {"experiment": experiment, "function": "train_run"}
    whole = seconds_of(start(nursery, tmp_path / "undisturbed", **options))
    rng = np.random.default_rng(0)
    for kill in range(10):
        if kill % 2:
            child = start(nursery, tmp_path / "killed", **options)
            code = kill_after(child, rng.uniform(0, whole / 10))
        else:
            moment = ("before", "after")[kill % 4 // 2]
            child = start(nursery, tmp_path / "killed", "training.safetensors", moment, **options)
            code = child.wait()
        assert code == -signal.SIGKILL, child.stderr
    seconds_of(start(nursery, tmp_path / "killed", **options))
    undisturbed, resumed = (
        load_run(tmp_path / root / experiment.name).info for root in ("undisturbed", "killed")
    )
    assert resumed["files"] == undisturbed["files"]


@pytest.mark.slow
def test_a_training_by_several_recipes_is_killed_in_each_and_ends_the_same(nursery, tmp_path):
    """It is the first one's training, then the second one's from its weights, and so on."""
    second = Recipe(epochs=2, lr=0.05, milestones=(), max_shift=1, ema_decay=0.9)
    third = replace(second, epochs=1, lr=0.01)
    experiment = replace(EXPERIMENT, then=[second, third])
    options = {"device": "cpu", "progress": False}
    undisturbed = train_run(experiment, root=tmp_path / "undisturbed", **options)
    history = undisturbed.info["training"]["history"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]
    assert [record["lr"] for record in history[2:]] == [0.05, 0.05, 0.01]

    first = train_run(EXPERIMENT, root=tmp_path / "first", **options)
    data, classifier = load_dataset("digits", "train"), first.classifier().train()
    for seed, recipe in enumerate(experiment.then, start=1):
        train(classifier, data.images, data.labels, recipe, seed=seed, device="cpu")
    expected = undisturbed.classifier().state_dict()
    for name, value in classifier.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)

    moments = [
        ("training.safetensors", "after"),
        ("training-2.safetensors", "before"),
        ("training-2.safetensors", "after"),
        ("training-3.safetensors", "after"),
        ("classifier.safetensors", "before"),
        ("stages.json", "after"),  # all checkpoints are still there
    ]
    train_it = {"experiment": experiment, "function": "train_run"}
    for file, moment in moments:
        child = start(nursery, tmp_path / "runs", file, moment, **train_it)
        assert child.wait() == -signal.SIGKILL, (file, child.stderr)
    resumed = train_run(experiment, root=tmp_path / "runs", **options)
    assert resumed.info["files"] == undisturbed.info["files"]
    assert not list((tmp_path / "runs").rglob("training*.safetensors"))


def test_a_later_recipe_does_not_go_on_from_weights_that_are_gone(tmp_path):
    experiment = replace(EXPERIMENT, then=[EXPERIMENT.recipe])
    options = {"device": "cpu", "progress": False}
    expected = train_run(experiment, root=tmp_path / "undisturbed", **options)
    folder = tmp_path / "runs" / EXPERIMENT.name
    folder.mkdir(parents=True)
    (folder / "training-2.safetensors").write_bytes(b"of another first recipe")
    again = train_run(experiment, root=tmp_path / "runs", **options)
    assert again.info["files"] == expected.info["files"]


@pytest.mark.slow
def test_processes_at_once_share_the_work(nursery, published, tmp_path):
    """They take turns, and what one has computed the other does not compute again."""
    children = [start(nursery, tmp_path) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0], [c.stderr for c in children]
    printed = "".join(child.stdout for child in children)
    for name in STAGES:
        assert printed.count(f"] {name}\n") == 1
    assert printed.count("] done: ") == 3
    assert_same_run(tmp_path, published)
