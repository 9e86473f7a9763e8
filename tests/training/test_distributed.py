"""Several processes train as one: the same loss curve, whatever their number."""

import json
import socket

import numpy as np
import pytest
import torch
import yaml

from mistakes_lib.runs import load_run, train_run
from mistakes_lib.runs.experiment import load_experiment
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.loop import check_common_start

PARAMETERS = {
    "data_set": "digits",
    "classifier": "dense",
    "presets": {
        "dense": {
            "architecture": {"name": "densenet_bc", "depth": 10, "growth_rate": 4, "dropout": 0.0},
            "recipe": {"epochs": 3, "batch_size": 64, "lr": 0.01, "max_shift": 1, "flip": False},
        },
        "semi": {
            "architecture": {"name": "wide_resnet", "depth": 10, "widen_factor": 1, "dropout": 0.0},
            "recipe": {"epochs": 3, "batch_size": 50, "lr": 0.0005, "max_shift": 1, "flip": False},
            "labels_per_class": 10,
        },
    },
    "experiment": {},
}


# What a launcher starts in each of its processes, which know of each other: here two trainings.
CHILD = """
import json, sys
import torch
from mistakes_lib.cli.app import app

torch.set_num_threads(1)
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes") / "small.yml"
    path.write_text(yaml.safe_dump(PARAMETERS))
    return path


@pytest.fixture(scope="module")
def trained_by_two(nursery, parameters):
    """The folder of runs that two processes made, one run a preset, and what they printed."""
    root = parameters.parent / "two"
    options = ["--device", "cpu", "--runs", str(root)]
    commands = [
        ["train", str(parameters), "--preset", preset, *options] for preset in PARAMETERS["presets"]
    ]
    machine = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    machine |= {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    children = [
        nursery.start(CHILD, json.dumps(commands), RANK=rank, LOCAL_RANK=rank, **machine)
        for rank in range(2)
    ]
    assert [child.wait() for child in children] == [0, 0], [child.stderr for child in children]
    return root, "".join(child.stdout for child in children)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PARAMETERS["presets"])
def test_two_processes_have_the_loss_curve_of_one_with_twice_the_batch(
    parameters, trained_by_two, preset
):
    """Each of the two has half of every batch: half the images that the one process has."""
    root, printed = trained_by_two
    two = load_run(root / "digits" / preset / "seed0")
    assert printed.count(f"{two.title}: {two.path}\n") == 1, "said by one of them"
    assert two.info["training"]["hardware"].startswith("2 × ")

    experiment = load_experiment(parameters, preset=preset)
    one = train_run(experiment, root=parameters.parent / "one", device="cpu", progress=False)
    ours, theirs = two.info["training"]["history"], one.info["training"]["history"]
    assert len(ours) == len(theirs) == 3
    # Rounding apart; without shared batch normalisation they are several 1e-4 apart.
    np.testing.assert_allclose(
        [record["loss"] for record in ours], [record["loss"] for record in theirs], rtol=5e-5
    )
    # Networks with the same weights, up to rounding, have the same features.
    near = np.abs(two.features("test").features - one.features("test").features)
    assert np.median(near) < 0.01


@pytest.mark.slow
def test_one_process_goes_on_where_two_were(parameters, trained_by_two):
    """What they left does not depend on their number."""
    root, _ = trained_by_two
    experiment = load_experiment(parameters)
    before = load_run(root / experiment.name).info
    assert train_run(experiment, root=root, device="cpu", progress=False).info == before


def test_one_process_is_the_main_one_and_has_every_row():
    assert (processes.count(), processes.rank(), processes.is_main()) == (1, 0, True)
    assert processes.share(7) == slice(0, 7)
    network = torch.nn.BatchNorm2d(3)
    assert processes.parallel(network) is network
    assert processes.total(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    processes.wait()
    assert processes.connect("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("length", "count"), [(0, 2), (1, 3), (7, 2), (64, 5)])
def test_the_shares_are_equal_and_together_the_batch(monkeypatch, length, count):
    monkeypatch.setattr(processes, "count", lambda: count)
    rows = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        rows.append(list(range(length))[processes.share(length)])
    assert [row for part in rows for row in part] == list(range(length))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_processes_that_read_different_checkpoints_are_told(monkeypatch):
    check_common_start(3, torch.device("cpu"))
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "total", lambda tensor: tensor)  # the other has 0
    with pytest.raises(RuntimeError, match="on a disk that all of them share"):
        check_common_start(3, torch.device("cpu"))


def test_an_unknown_device_is_named():
    with pytest.raises(RuntimeError, match="abacus"):
        processes.connect("abacus")
