"""`mistakes data`: each named data set with what was found, where, and what to do."""

import numpy as np
import pytest
from PIL import Image

from mistakes_lib.cli.images import ADVICE, FINDINGS
from mistakes_lib.data.inventory import take_stock
from mistakes_lib.data.named import DATASETS
from tests.helpers.commands import mistakes


def data(*arguments):
    return mistakes("data", *arguments)


@pytest.fixture
def folder(tmp_path):
    """Three test images of CIFAR-10, in class folders."""
    for number, name in enumerate(("cat", "cat", "dog")):
        path = tmp_path / "cifar10" / "test" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), 60 * number, dtype=np.uint8)).save(path)
    return tmp_path


def test_what_is_there_is_counted_and_compared(folder):
    said = data("cifar10", "digits", "--data", folder)
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    part = next(line for line in lines if line.startswith("cifar10, test: "))
    [held] = [h for h in take_stock(folder, names=["cifar10"]) if h.part == "test"]
    assert (held.images, held.status) == (3, "subset")
    assert "3 images, a part of the originals (class folders)" in part
    assert str(folder / "cifar10" / "test") in part
    assert lines[lines.index(part) + 1] == f"    → {ADVICE['subset']}"
    assert "digits, test: 360 images, made here, from no files" in lines


def test_what_is_missing_is_said_with_both_places_and_what_to_do(folder):
    said = data("svhn", "tiny_imagenet", "--data", folder).stdout
    assert f"svhn, test: missing: neither {folder / 'svhn' / 'test'} nor " in said
    assert "svhn/test/CLASS/FILE" in said
    assert str(folder / "tiny-imagenet-200") in said
    assert "unpack the public archive tiny-imagenet-200.zip there" in said


def test_without_names_every_set_is_listed(folder):
    said = data("--data", folder).stdout
    assert all(f"{name}, test: " in said for name in DATASETS)


def test_an_unknown_set_is_refused(folder):
    said = data("cifar", "--data", folder)
    assert said.exit_code == 1 and "unknown data set 'cifar'" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_there_are_words_for_every_finding():
    known = {"original", "subset", "other", "made here", "unreadable", "missing"}
    assert set(FINDINGS) == known
    assert set(ADVICE) == known - {"original", "made here"}
