"""Original files are read, in one order, and split."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from mistakes_lib.data.image_set import PARTS, SPLITS, ImageSet, divided
from mistakes_lib.data.named import load_dataset
from mistakes_lib.data.originals import ORIGINALS, canonical
from tests.helpers.originals import (
    rows_of,
    write_cifar10,
    write_cifar100,
    write_fashion_mnist,
    write_image_folder,
    write_svhn,
)

TWO_FORMS = [write_cifar10, write_cifar100, write_svhn, write_fashion_mnist]
WRITERS = [
    *TWO_FORMS,
    write_image_folder,
]


def canonical_order(images, labels):
    """Rows by SHA-256 of the bytes (3, h, w), then by label."""
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    return np.array(sorted(range(len(images)), key=lambda i: (digests[i], labels[i])))


@pytest.mark.parametrize("write", WRITERS)
def test_original_files_are_read_and_split(tmp_path, monkeypatch, write):
    """Train and validation share the training images, class by class; the test set is whole."""
    name, train, train_labels, test, test_labels, classes = write(tmp_path, monkeypatch)
    sets = {split: load_dataset(name, split, root=tmp_path, download=False) for split in SPLITS}
    for image_set in sets.values():
        assert image_set.images.dtype == np.uint8
        assert image_set.images.shape[1:] == (3, 32, 32)
        assert image_set.classes == classes
        assert image_set.name == name

    order = canonical_order(test, test_labels) if write in TWO_FORMS else np.arange(len(test))
    np.testing.assert_array_equal(rows_of(sets["test"].images, test), order)
    np.testing.assert_array_equal(sets["test"].labels, test_labels[order])

    rows = {split: rows_of(sets[split].images, train) for split in ("train", "validation")}
    order = canonical_order(train, train_labels) if write in TWO_FORMS else np.arange(len(train))
    for split, found in rows.items():
        assert (np.diff(np.argsort(order)[found]) > 0).all(), "the canonical order"
        np.testing.assert_array_equal(sets[split].labels, train_labels[found])
    together = np.sort(np.concatenate([*rows.values()]))
    np.testing.assert_array_equal(together, np.arange(len(train)))
    np.testing.assert_array_equal(
        np.bincount(sets["validation"].labels), np.bincount(train_labels) // 10
    )


@pytest.mark.parametrize(
    ("write", "description"),
    [
        (write_cifar10, "CIFAR-10 (30 test images)"),
        (write_cifar100, "CIFAR-100 (100 test images)"),
        (write_svhn, "SVHN (30 test digits)"),
        (write_fashion_mnist, "Fashion-MNIST (30 test images)"),
        (write_image_folder, "image folder pets"),
    ],
)
def test_the_description_is_honest(tmp_path, monkeypatch, write, description):
    name = write(tmp_path, monkeypatch)[0]
    assert load_dataset(name, root=tmp_path, download=False).description == description


def as_class_folders(root, name, train, train_labels, test, test_labels, classes):
    """The same images as folders NAME/{train,test}/CLASS/FILE, in another order, without losses."""
    if name == "fashion_mnist":  # its folders are named after the number of the class
        classes = tuple("0123456789")
        train, test = (images[:, 0, 2:30, 2:30] for images in (train, test))
    for part, images, labels in [("train", train, train_labels), ("test", test, test_labels)]:
        for i in np.random.default_rng(1).permutation(len(images)):
            path = root / name / part / classes[labels[i]] / f"{(7919 * i) % 10007:05}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = images[i] if images.ndim == 3 else images[i].transpose(1, 2, 0)
            Image.fromarray(pixels).save(path, lossless=True)


@pytest.mark.parametrize("write", TWO_FORMS)
def test_both_forms_of_a_data_set_are_one_image_set(tmp_path, monkeypatch, write):
    """A reader who lets torchvision download computes with the same images in the same order."""
    name, *contents = write(tmp_path / "originals", monkeypatch)
    as_class_folders(tmp_path / "folders", name, *contents)
    for split in SPLITS:
        own, other = (
            load_dataset(name, split, root=tmp_path / form, download=False)
            for form in ("originals", "folders")
        )
        assert own.fingerprint == other.fingerprint
        assert own.classes == other.classes
        assert own.description == other.description


def test_images_that_stand_twice_are_ordered_by_label():
    """CIFAR-100's training set has images twice, some of them in two classes."""
    images = np.zeros((4, 3, 2, 2), dtype=np.uint8)
    images[1] = 9
    rows = [
        canonical(images[order], np.array([3, 1, 0, 2])[order])
        for order in ([0, 1, 2, 3], [3, 2, 1, 0])
    ]
    for (first, labels), (second, others) in [rows]:
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(labels, others)
    assert sorted(rows[0][1].tolist()) == [0, 1, 2, 3]
    zeros = rows[0][1][rows[0][0].sum(axis=(1, 2, 3)) == 0]
    assert zeros.tolist() == [0, 2, 3]


def test_copies_with_losses_are_no_originals(tmp_path, monkeypatch):
    name, *_ = write_cifar10(tmp_path, monkeypatch)
    own = load_dataset(name, root=tmp_path, download=False)
    whole = {"cifar10": {"train": 200, "test": 30}}
    monkeypatch.setattr("mistakes_lib.data.originals.WHOLE", whole)
    monkeypatch.setitem(ORIGINALS, ("cifar10", "test"), own.fingerprint)
    assert load_dataset(name, root=tmp_path, download=False).description == "CIFAR-10"
    monkeypatch.setitem(ORIGINALS, ("cifar10", "test"), "another")
    description = load_dataset(name, root=tmp_path, download=False).description
    assert description == "CIFAR-10 (not the original pixels)"


def test_a_damaged_original_is_refused(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    batch = tmp_path / datasets.CIFAR10.base_folder / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(FileNotFoundError, match=r"cifar10 .*corrupted"):
        load_dataset("cifar10", "train", root=tmp_path, download=False)


def test_5000_of_50000_are_held_out_500_a_class():
    """As in Appendix C; on one-pixel images, to be quick."""
    labels = np.arange(50_000) % 10
    images = np.zeros((50_000, 3, 1, 1), dtype=np.uint8)
    classes = tuple("0123456789")
    whole = ImageSet(images, labels, classes, "x", "x")
    counts = {
        split: np.bincount(own.labels).tolist()
        for part in PARTS
        for split, own in divided(whole, part).items()
    }
    assert counts == {"train": [4500] * 10, "validation": [500] * 10, "test": [5000] * 10}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(10, 60), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_classes_of_any_size_are_divided_evenly(sizes, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    index = np.arange(len(labels), dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    images = np.zeros((len(labels), 3, 1, 1), dtype=np.uint8)
    images[:, :2, 0, 0] = index  # each image knows its row
    names = tuple(map(str, range(len(sizes))))
    parts = list(divided(ImageSet(images, labels, names, "x", "x"), "train").values())
    rows = [
        np.ascontiguousarray(part.images[:, :2, 0, 0]).view(np.uint16).ravel() for part in parts
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(len(labels)))
    held = np.bincount(parts[1].labels, minlength=len(sizes))
    assert held.sum() == np.ceil(sum(sizes) / 10)
    assert (np.abs(held - np.array(sizes) * held.sum() / sum(sizes)) < 1).all()


@pytest.mark.parametrize("split", SPLITS)
def test_every_call_gives_the_same_split(split):
    first, second = (load_dataset("digits", split) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_digits_are_scikit_learns_in_three_channels():
    sets = [load_dataset("digits", split) for split in SPLITS]
    assert [len(s) for s in sets] == [1149, 288, 360]
    images = np.concatenate([s.images for s in sets])
    assert (images == images[:, :1]).all()
    back = np.round(images[:, 0].reshape(-1, 64) / 255 * 16)
    gray, labels = load_digits(return_X_y=True)
    ours = np.column_stack([back, np.concatenate([s.labels for s in sets])])
    original = np.column_stack([gray, labels])
    assert sorted(ours.tolist()) == sorted(original.tolist())
