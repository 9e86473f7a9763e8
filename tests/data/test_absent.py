"""What is not there, and the real images where they are."""

import re
import urllib.error

import numpy as np
import pytest

from mistakes_lib.data.image_set import PARTS
from mistakes_lib.data.inventory import TORCHVISION
from mistakes_lib.data.named import DATASETS, data_root, load_dataset, load_part
from tests.helpers.originals import write_fashion_mnist


@pytest.fixture
def offline(monkeypatch):
    """No network, for torchvision as for anybody."""

    def fail(*args, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", fail)


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cifar10", "cifar10"),
        ("cifar100", "cifar100"),
        ("svhn", "SVHN"),
        ("fashion_mnist", "Fashion-MNIST"),
        ("tiny_imagenet", "Tiny ImageNet"),
    ],
)
def test_no_data_and_no_network_is_one_clear_error(tmp_path, offline, name, what, download):
    for split in ("train", "test"):
        with pytest.raises(FileNotFoundError) as caught:
            load_dataset(name, split, root=tmp_path / "missing", download=download)
        message = str(caught.value)
        assert message.startswith(f"{what} is not in {tmp_path / 'missing'}")
        assert "MISTAKES_DATA" in message
        assert "\n" not in message
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match=r"unknown data set 'cifar'.*cifar10, .*imagefolder:PATH"):
        load_dataset("cifar")
    for name in ("digits", "gaussian_noise", "cifar10"):
        with pytest.raises(ValueError, match=r"unknown split 'val'.*train, validation, test"):
            load_dataset(name, "val")
    for name in ("digits", "gaussian_noise", "imagefolder:nowhere"):
        with pytest.raises(ValueError, match=r"unknown part 'validation'.*train, test"):
            load_part(name, "validation")


def test_the_root_is_given_or_in_the_environment_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MISTAKES_DATA", str(tmp_path / "environment"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root() == tmp_path / "environment"
    monkeypatch.delenv("MISTAKES_DATA")
    assert data_root().parts[-3:] == (".cache", "mistakes", "data")


def test_the_environments_folder_is_read(tmp_path, monkeypatch):
    write_fashion_mnist(tmp_path, monkeypatch)
    monkeypatch.setenv("MISTAKES_DATA", str(tmp_path))
    assert len(load_dataset("fashion_mnist", download=False)) == 30


def test_the_docstrings_names_are_the_known_ones():
    assert {"cifar10", "cifar100", "svhn", "fashion_mnist", "tiny_imagenet"} < set(DATASETS)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in DATASETS)


# As widely published, of the 50,000 training images.
STATISTICS = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "cifar100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS)
def test_the_real_cifar(name):
    if not any((data_root() / form).is_dir() for form in (name, TORCHVISION[name])):
        pytest.skip(f"{name} is not among the real images at hand")
    sets = {k: own for part in PARTS for k, own in load_part(name, part, download=False).items()}
    for split, size in [("train", 45_000), ("validation", 5_000), ("test", 10_000)]:
        assert sets[split].description == name.upper().replace("CIFAR", "CIFAR-")
        assert set(np.bincount(sets[split].labels)) == {size // len(sets[split].classes)}
    both = np.concatenate([sets["train"].images, sets["validation"].images]) / np.float32(255)
    mean, std = STATISTICS[name]
    np.testing.assert_allclose(both.mean(axis=(0, 2, 3), dtype=np.float64), mean, atol=1e-4)
    np.testing.assert_allclose(both.std(axis=(0, 2, 3), dtype=np.float64), std, atol=1e-4)


@pytest.mark.data
@pytest.mark.slow
def test_the_real_svhn_and_fashion_mnist():
    svhn = load_dataset("svhn", download=False)
    assert len(svhn) == 26_032 or svhn.description == f"SVHN ({len(svhn):,} test digits)"
    fashion = load_dataset("fashion_mnist", download=False)
    assert (fashion.description, len(fashion)) == ("Fashion-MNIST", 10_000)
    assert np.bincount(fashion.labels).tolist() == [1000] * 10


@pytest.mark.data
@pytest.mark.slow
def test_the_real_tiny_imagenet():
    """50 validation images of each class: 200 classes, in some copies of the archive more."""
    folder = data_root() / "tiny-imagenet-200" / "val"
    lines = (folder / "val_annotations.txt").read_text().splitlines()
    tiny = load_dataset("tiny_imagenet")
    assert len(tiny) == len(lines) == len(list((folder / "images").iterdir()))
    assert [tiny.classes[label] for label in tiny.labels] == [line.split("\t")[1] for line in lines]
    assert len(tiny.classes) >= 200
    assert np.bincount(tiny.labels).tolist() == [50] * len(tiny.classes)


@pytest.mark.data
def test_the_real_fashion_mnist():
    fashion = load_dataset("fashion_mnist", download=False)
    assert fashion.images.shape[1:] == (3, 32, 32)
    assert len(fashion) in (900, 10_000)
    assert (fashion.images.min(), fashion.images.max()) == (0, 255)
    tiles = fashion.images[:, 0, 2:30, 2:30] / 255
    assert tiles.mean() == pytest.approx(0.286, abs=0.02)  # as widely published
    assert tiles.std() == pytest.approx(0.353, abs=0.02)
    assert tiles[:, 0, 0].mean() < 0.05, "a garment leaves the corners black"
    assert len({tile.tobytes() for tile in tiles}) == len(tiles)
