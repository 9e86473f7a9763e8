"""Several processes train as one: the same loss curve, whatever their number."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from mistakes_lib import processes
from mistakes_lib.experiment import load_experiment
from mistakes_lib.features import FeatureSet
from mistakes_lib.runs import load_run, train_run
from mistakes_lib.training import check_common_start

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


@pytest.fixture
def parameters(tmp_path):
    path = tmp_path / "small.yml"
    path.write_text(yaml.safe_dump(PARAMETERS))
    return path


def train_in_processes(number, *arguments):
    """What `accelerate launch` does on a machine with GPUs, on a CPU and with gloo."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", number]
    return subprocess.run(
        [sys.executable, *map(str, launch), "-m", "mistakes_lib", "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["dense", "semi"])
def test_two_processes_have_the_loss_curve_of_one_with_twice_the_batch(parameters, preset):
    """Each of the two has half of every batch: half the images that the one process has."""
    root = parameters.parent
    options = ["--preset", preset, "--device", "cpu", "--runs", root / "two"]
    result = train_in_processes(2, parameters, *options)
    assert result.returncode == 0, result.stderr
    two = load_run(root / "two" / "digits" / preset / "seed0")
    assert result.stdout.splitlines()[-1] == f"{two.title}: {two.path}", "said once"

    experiment = load_experiment(parameters, preset=preset)
    one = train_run(experiment, root=root / "one", device="cpu", progress=False)
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
def test_one_process_goes_on_where_two_were(parameters):
    """The checkpoint does not depend on the number of processes either."""
    root = parameters.parent
    options = ["--device", "cpu", "--runs", root, "--quiet"]
    assert train_in_processes(2, parameters, "--epochs", 3, *options).returncode == 0
    run = load_run(root / "digits" / "dense" / "seed0")
    assert isinstance(run.features("test"), FeatureSet)
    again = train_run(load_experiment(parameters), root=root, device="cpu", progress=False)
    assert again.info == run.info


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
