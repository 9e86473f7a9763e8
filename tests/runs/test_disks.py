"""Disks that are full or read-only."""

import json
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from mistakes_lib.cli.app import app
from mistakes_lib.runs import load_run
from tests.helpers.runs import (
    EXPERIMENT,
    assert_same_run,
    contents,
    temporaries,
)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 50 MB of its own, and how to change its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not mount("size=50m"):
        pytest.skip("mounting a file system takes rights that this user lacks")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def parameters(tmp_path):
    """The experiment as a file for the command."""
    experiment = EXPERIMENT.to_dict()
    own = {name: experiment.pop(name) for name in ("data_set", "classifier", "seed")}
    path = tmp_path / "parameters.yml"
    path.write_text(json.dumps(own | {"experiment": experiment}))  # JSON is YAML
    return path


def command_run(parameters, root):
    arguments = ["run", str(parameters), "--runs", str(root), "--device", "cpu", "--quiet"]
    return CliRunner().invoke(app, arguments)


def assert_one_line(result, *parts):
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr


@pytest.mark.slow
def test_on_a_full_disk_nothing_is_lost(published, parameters, small_disk):
    """It is said, again and again, and with more space the run goes on to the same end."""
    folder, remount = small_disk
    needed = sum(len(data) for data in contents(published).values())
    for share in (0.05, 0.2, 0.4, 0.6, 0.8):  # more and more of it is found on the disk
        assert remount(f"size={int(share * needed)}")
        result = command_run(parameters, folder)
        assert_one_line(result, "No space left on device", "free some space")
        with pytest.raises(FileNotFoundError, match="no run"):
            load_run(folder / EXPERIMENT.name)
        assert not temporaries(folder)
    assert remount("size=50m")
    result = command_run(parameters, folder)
    assert (result.exit_code, result.output) == (0, "")
    assert_same_run(folder, published)


def test_a_folder_that_is_read_only_is_named_and_still_read(published, parameters, small_disk):
    folder, remount = small_disk
    assert remount("ro")
    assert_one_line(command_run(parameters, folder), "Read-only file system", str(folder))
    assert remount("rw")
    shutil.copytree(published, folder, dirs_exist_ok=True)
    assert remount("ro")
    assert load_run(folder / EXPERIMENT.name).features("test").accuracy > 0
