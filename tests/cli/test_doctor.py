"""`mistakes doctor`: what is wrong is named, with what to do about it."""

import shutil
from importlib import metadata

import pytest
import torch

from mistakes_lib.cli import doctor
from mistakes_lib.cli.doctor import examine
from tests.helpers.commands import mistakes


def find(name, **folders):
    [check] = [check for check in examine(**folders) if check.name == name]
    return check


def test_this_environment_is_in_order(tmp_path):
    assert {check.name: check.status for check in examine(data=tmp_path, runs=tmp_path)} == {
        "Python": "ok",
        "packages": "ok",
        "torchvision": "ok",
        "GPU": "ok" if torch.cuda.is_available() else "note",
        "images": "note",
        "disk": "ok",
        "book": "ok",
    }


def test_missing_and_old_packages_are_named_with_the_command_that_mends_them(monkeypatch, tmp_path):
    asked = ["torch>=999", "no-such-package>=1", "numpy", 'ruff; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda _: asked)
    torch_version = metadata.version("torch")
    found = examine(data=tmp_path, runs=tmp_path)
    assert [(c.name, c.found, c.advice) for c in found if c.status == "problem"] == [
        ("torch", torch_version, 'pip install "torch>=999"'),
        ("no-such-package", "missing", 'pip install "no-such-package>=1"'),
    ]


def test_a_torchvision_of_another_torch_is_a_problem(monkeypatch, tmp_path):
    real = doctor.importlib.import_module

    def broken(name):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    check = find("torchvision", data=tmp_path)
    assert check.status == "problem"
    assert "nms does not exist" in check.found and "together" in check.advice


def test_without_images_one_note_says_where_to_put_them(tmp_path):
    check = find("images", data=tmp_path / "nowhere")
    assert check.status == "note" and str(tmp_path / "nowhere") in check.found
    assert "MISTAKES_DATA" in check.advice


def test_each_set_is_listed_once_one_is_there(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    broken = find("images of cifar10", data=tmp_path)
    assert broken.status == "problem" and "unreadable" in broken.found and "mend" in broken.advice
    missing = find("images of fashion_mnist", data=tmp_path)
    assert missing.status == "note" and str(tmp_path / "fashion_mnist" / "test") in missing.found


def test_a_full_disk_is_a_problem(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check = find("disk", data=tmp_path, runs=tmp_path / "not" / "yet")
    assert (check.status, check.found[:9]) == ("problem", "0 GB free")
    assert "MISTAKES_RUNS" in check.advice


@pytest.mark.parametrize(("required", "code"), [("numpy", 0), ("numpy>=999", 1)])
def test_the_command_prints_each_check_and_its_exit_code_says_whether_all_is_well(
    monkeypatch, tmp_path, required, code
):
    monkeypatch.setattr(metadata, "requires", lambda _: [required])
    result = mistakes("doctor", "--data", tmp_path)
    assert result.exit_code == code
    said = f"note    images: none of the named data sets in {tmp_path}\n        → "
    assert said in result.stdout
    assert ("problem numpy: " in result.stdout) == bool(code)
