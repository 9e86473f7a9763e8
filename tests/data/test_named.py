"""Data sets in their original formats, which the tests write themselves, and the laws of splits."""

import hashlib
import pickle
import re
import struct
import urllib.error

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.io import savemat
from scipy.stats import norm
from sklearn.datasets import load_digits, load_sample_image
from torchvision import datasets

from mistakes_lib.data.inventory import TORCHVISION
from mistakes_lib.data.named import (
    DATASETS,
    ORIGINALS,
    SPLITS,
    ImageSet,
    _canonical,
    _held_out,
    data_root,
    load_dataset,
)

IMAGES = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 6), st.just(3), st.integers(1, 5), st.integers(1, 5)),
)


# --- writers of the original formats -------------------------------------------------------------
#
# Each writes a small data set below ``root`` and gives back what must be read again:
# (name, train images, train labels, test images, test labels, classes).


def random_images(rng, n, edge=32):
    return rng.integers(256, size=(n, 3, edge, edge), dtype=np.uint8)


def shuffled_labels(rng, num_classes, each):
    return rng.permutation(np.repeat(np.arange(num_classes), each))


def write_pickle(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(contents))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


def write_cifar10(root, monkeypatch):
    rng = np.random.default_rng(0)
    classes = tuple(f"class {c}" for c in range(10))
    folder = root / datasets.CIFAR10.base_folder
    train, train_labels = random_images(rng, 200), shuffled_labels(rng, 10, 20)
    test, test_labels = random_images(rng, 30), shuffled_labels(rng, 10, 3)

    def write(name, images, labels):
        return write_pickle(folder / name, {"data": images.reshape(-1, 3072), "labels": [*labels]})

    parts = [slice(start, start + 40) for start in range(0, 200, 40)]
    batches = [
        write(f"data_batch_{i}", train[part], train_labels[part]) for i, part in enumerate(parts, 1)
    ]
    meta = write_pickle(folder / "batches.meta", {"label_names": list(classes)})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", test, test_labels)])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", meta[1])
    return "cifar10", train, train_labels, test, test_labels, classes


def write_cifar100(root, monkeypatch):
    rng = np.random.default_rng(0)
    classes = tuple(f"class {c:02}" for c in range(100))
    folder = root / datasets.CIFAR100.base_folder
    train, train_labels = random_images(rng, 1000), shuffled_labels(rng, 100, 10)
    test, test_labels = random_images(rng, 100), shuffled_labels(rng, 100, 1)

    def write(name, images, labels):
        contents = {
            "data": images.reshape(-1, 3072),
            "fine_labels": [*labels],
            "coarse_labels": [*(labels // 5)],
        }
        return write_pickle(folder / name, contents)

    meta = write_pickle(folder / "meta", {"fine_label_names": list(classes)})
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [write("train", train, train_labels)])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [write("test", test, test_labels)])
    monkeypatch.setitem(datasets.CIFAR100.meta, "md5", meta[1])
    return "cifar100", train, train_labels, test, test_labels, classes


def write_svhn(root, monkeypatch):
    rng = np.random.default_rng(0)
    train, train_labels = random_images(rng, 200), shuffled_labels(rng, 10, 20)
    test, test_labels = random_images(rng, 30), shuffled_labels(rng, 10, 3)
    split_list = {}
    root.mkdir(exist_ok=True)
    for split, images, labels in [("train", train, train_labels), ("test", test, test_labels)]:
        path = root / f"{split}_32x32.mat"
        stored = np.where(labels == 0, 10, labels)  # SVHN's files call the digit 0 class 10
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": stored[:, None].astype(np.uint8)})
        split_list[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    return "svhn", train, train_labels, test, test_labels, tuple("0123456789")


def write_fashion_mnist(root, monkeypatch):
    rng = np.random.default_rng(0)
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    expected = []
    for prefix, each in [("train", 20), ("t10k", 3)]:
        gray = rng.integers(256, size=(10 * each, 28, 28), dtype=np.uint8)
        labels = shuffled_labels(rng, 10, each).astype(np.uint8)
        header = struct.pack(">4I", 0x0803, *gray.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + gray.tobytes())
        header = struct.pack(">2I", 0x0801, len(labels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
        images = np.zeros((len(gray), 3, 32, 32), dtype=np.uint8)
        images[..., 2:30, 2:30] = gray[:, None]
        expected += [images, labels]
    return "fashion_mnist", *expected, tuple(datasets.FashionMNIST.classes)


def write_image(path, pixels):
    """Write uint8 (3, h, w) and give back the pixels that the file holds: JPEG is lossy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def write_class_folders(folder, classes, each, suffix, edge=32, seed=0):
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for label, name in enumerate(classes):
        for i, pixels in enumerate(random_images(rng, each, edge)):
            images.append(write_image(folder / name / f"{i:04}{suffix}", pixels))
            labels.append(label)
    return np.stack(images), np.array(labels)


CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def write_image_folder(root, monkeypatch):
    classes = ("cat", "dog", "owl")
    train = write_class_folders(root / "pets" / "train", classes, 20, ".png")
    test = write_class_folders(root / "pets" / "test", classes, 3, ".PNG", seed=1)
    return f"imagefolder:{root / 'pets'}", *train, *test, classes


def halved(images):
    """Mean of 2 × 2 pixels."""
    n, c, h, w = images.shape
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def write_tiny_imagenet(root, num_classes=102, each=10):
    """The archive: 64 × 64, wnids.txt unsorted, training images of the first 100 classes."""
    rng = np.random.default_rng(0)
    folder = root / "tiny-imagenet-200"
    wnids = [f"n{1000 + 7 * i:08}" for i in range(num_classes)]
    train, train_labels = [], []
    for label, wnid in enumerate(wnids[:100]):
        for i, pixels in enumerate(random_images(rng, each, 64)):
            train.append(write_image(folder / f"train/{wnid}/images/{wnid}_{i}.JPEG", pixels))
            train_labels.append(label)
    labels = shuffled_labels(rng, num_classes, 2)
    validation, lines = [], []
    for i, (label, pixels) in enumerate(
        zip(labels, random_images(rng, 2 * num_classes, 64), strict=True)
    ):
        validation.append(write_image(folder / f"val/images/val_{i}.JPEG", pixels))
        lines.append(f"val_{i}.JPEG\t{wnids[label]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(rng.permutation(wnids)))
    return halved(np.stack(train)), np.array(train_labels), halved(np.stack(validation)), labels


def write_tiny_imagenet_100(root, monkeypatch):
    train, train_labels, test, test_labels = write_tiny_imagenet(root)
    classes = tuple(sorted((root / "tiny-imagenet-200" / "wnids.txt").read_text().split())[:100])
    own = test_labels < 100
    return "tiny_imagenet_100", train, train_labels, test[own], test_labels[own], classes


TWO_FORMS = [write_cifar10, write_cifar100, write_svhn, write_fashion_mnist]
WRITERS = [
    *TWO_FORMS,
    write_image_folder,
    write_tiny_imagenet_100,
]


def rows_of(images, originals):
    """Where each image stands among the originals; resizing rounds by at most one level."""
    images, originals = (a.reshape(len(a), -1).astype(np.float64) for a in (images, originals))
    squares = (originals**2).sum(axis=1) - 2 * images @ originals.T
    rows = squares.argmin(axis=1)
    assert np.abs(images - originals[rows]).max() <= 1
    return rows


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
        _canonical(images[order], np.array([3, 1, 0, 2])[order])
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
    monkeypatch.setattr("mistakes_lib.data.named.WHOLE", whole)
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


# --- the split -----------------------------------------------------------------------------------


def test_5000_of_50000_are_held_out_500_a_class():
    """As in Appendix C; on one-pixel images, to be quick."""
    labels = np.arange(50_000) % 10
    images = np.zeros((50_000, 3, 1, 1), dtype=np.uint8)
    classes = tuple("0123456789")
    counts = {
        split: np.bincount(_held_out(images, labels, split, classes, "x", "x").labels).tolist()
        for split in SPLITS
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
    parts = [_held_out(images, labels, s, names, "x", "x") for s in ("train", "validation")]
    rows = [
        np.ascontiguousarray(part.images[:, :2, 0, 0]).view(np.uint16).ravel() for part in parts
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(len(labels)))
    held = np.bincount(parts[1].labels, minlength=len(sizes))
    assert (np.abs(held - np.array(sizes) / 10) <= 1).all()


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


# --- sets of one split ---------------------------------------------------------------------------


def test_tiny_imagenet_is_all_validation_images_at_32_pixels(tmp_path):
    *_, images, labels = write_tiny_imagenet(tmp_path, each=1)
    tiny = load_dataset("tiny_imagenet", root=tmp_path)
    assert tiny.images.shape == (204, 3, 32, 32)
    assert np.abs(tiny.images - images).max() <= 1
    np.testing.assert_array_equal(tiny.labels, labels)
    assert list(tiny.classes) == sorted(tiny.classes)


def test_the_other_classes_of_tiny_imagenet_are_those_beyond_the_first_100(tmp_path):
    *_, images, labels = write_tiny_imagenet(tmp_path, each=1)
    other = load_dataset("tiny_imagenet_other", root=tmp_path)
    assert np.abs(other.images - images[labels >= 100]).max() <= 1
    np.testing.assert_array_equal(other.labels, labels[labels >= 100] - 100)
    every = load_dataset("tiny_imagenet", root=tmp_path)
    assert other.classes == every.classes[100:]
    with pytest.raises(ValueError, match="out-of-distribution set"):
        load_dataset("tiny_imagenet_other", "train", root=tmp_path)


def test_a_tiny_imagenet_class_without_images_is_named(tmp_path):
    write_tiny_imagenet(tmp_path, num_classes=3, each=2)
    for file in (tmp_path / "tiny-imagenet-200" / "train" / "n00001007" / "images").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="n00001007"):
        load_dataset("tiny_imagenet_100", "train", root=tmp_path)


def test_gaussian_noise_has_the_moments_of_a_clipped_normal():
    noise = load_dataset("gaussian_noise")
    assert noise.images.shape == (10_000, 3, 32, 32)
    assert noise.labels is None
    counts = np.bincount(noise.images.ravel(), minlength=256)
    edges = (np.arange(255) + 0.5) / 255  # between two levels
    expected = np.diff(norm(0.5, 0.25).cdf([-np.inf, *edges, np.inf])) * counts.sum()
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected)).all()
    pixels = noise.images[:1000].reshape(1000, -1)
    neighbours = np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.005
    assert noise.fingerprint == load_dataset("gaussian_noise").fingerprint


def test_photo_patches_tile_two_photographs():
    patches = load_dataset("photo_patches")
    assert patches.images.shape == (2 * 53 * 80, 3, 8, 8)
    photo = load_sample_image("flower.jpg")
    rows = patches.images[53 * 80 :].reshape(53, 80, 3, 8, 8)
    again = rows.transpose(0, 3, 1, 4, 2).reshape(53 * 8, 640, 3)
    np.testing.assert_array_equal(again, photo[: 53 * 8])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_out_of_distribution_sets_have_nothing_to_train_on(tmp_path, split):
    write_tiny_imagenet(tmp_path, num_classes=2, each=1)
    for name in ("gaussian_noise", "photo_patches", "tiny_imagenet"):
        with pytest.raises(ValueError, match=f"{name} is an out-of-distribution set.*'test' only"):
            load_dataset(name, split, root=tmp_path, download=False)


# --- anybody's images ----------------------------------------------------------------------------


def test_a_folder_without_splits_is_divided_80_10_10(tmp_path):
    images, labels = write_class_folders(tmp_path, ("cat", "dog"), 50, ".png", edge=20)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    sets = [load_dataset(f"imagefolder:{tmp_path}", split, size=20) for split in SPLITS]
    rows = [rows_of(s.images, images) for s in sets]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(100))
    assert [np.bincount(s.labels).tolist() for s in sets] == [[40, 40], [5, 5], [5, 5]]
    for image_set, found in zip(sets, rows, strict=True):
        np.testing.assert_array_equal(image_set.labels, labels[found])


def test_images_of_any_kind_and_size_become_rgb_squares(tmp_path):
    for i, mode in enumerate(["RGB", "RGBA", "L", "P", "1"] * 4):
        path = tmp_path / "abc"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new(mode, (10 + i, 50 - i)).save(path)
    for size in (None, 7):
        image_set = load_dataset(f"imagefolder:{tmp_path}", "train", size=size)
        assert image_set.images.shape == (16, 3, size or 32, size or 32)


def test_a_label_means_the_same_class_in_train_and_test(tmp_path):
    write_class_folders(tmp_path / "train", ("cat", "dog", "owl"), 10, ".png", edge=4)
    write_class_folders(tmp_path / "test", ("dog", "owl"), 2, ".png", edge=4)
    test = load_dataset(f"imagefolder:{tmp_path}", "test")
    assert [test.classes[label] for label in test.labels] == ["dog", "dog", "owl", "owl"]
    assert test.classes == load_dataset(f"imagefolder:{tmp_path}", "train").classes
    write_class_folders(tmp_path / "test", ("yak",), 2, ".png", edge=4)
    with pytest.raises(ValueError, match="'yak' that train lacks"):
        load_dataset(f"imagefolder:{tmp_path}", "test")


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*one subfolder a class"):
        load_dataset(f"imagefolder:{tmp_path / 'nowhere'}")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no images in .*empty"):
        load_dataset(f"imagefolder:{tmp_path / 'empty'}")


# --- size ----------------------------------------------------------------------------------------


def test_size_averages_areas():
    own, half, double = (load_dataset("digits", size=size) for size in (8, 4, 16))
    assert own.fingerprint == load_dataset("digits").fingerprint
    assert np.abs(half.images - halved(own.images)).max() <= 1
    np.testing.assert_array_equal(double.images, own.images.repeat(2, axis=2).repeat(2, axis=3))
    np.testing.assert_array_equal(half.labels, own.labels)


# --- ImageSet ------------------------------------------------------------------------------------


def image_set(images, labels=None, classes=("a", "b")):
    return ImageSet(images, labels, classes, "x", "x")


@settings(deadline=None, max_examples=100)
@given(IMAGES, st.data())
def test_the_fingerprint_knows_every_pixel_and_label(images, data):
    labels = np.zeros(len(images), dtype=np.int64)
    whole = image_set(images, labels)
    assert whole.fingerprint == image_set(images.copy(), labels.copy()).fingerprint
    other = images.copy()
    other.ravel()[data.draw(st.integers(0, images.size - 1))] ^= data.draw(st.integers(1, 255))
    assert image_set(other, labels).fingerprint != whole.fingerprint
    labels[data.draw(st.integers(0, len(labels) - 1))] = 1
    assert image_set(images, labels).fingerprint != whole.fingerprint
    assert image_set(images).fingerprint != whole.fingerprint


def test_the_fingerprint_knows_the_shape_but_not_the_memory():
    images = np.zeros((2, 3, 2, 8), dtype=np.uint8)
    assert image_set(images).fingerprint != image_set(images.reshape(2, 3, 4, 4)).fingerprint
    rng = np.random.default_rng(0)
    images = random_images(rng, 4)
    strided = image_set(np.asfortranarray(images))
    assert strided.fingerprint == image_set(images).fingerprint


@settings(deadline=None, max_examples=100)
@given(IMAGES)
def test_channel_statistics_equal_numpys(images):
    mean, std = image_set(images).channel_statistics()
    pixels = images / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), atol=1e-7)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_a_subset_keeps_the_order_and_repeats_nothing(n, size, seed):
    images = np.zeros((n, 3, 1, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    subset = image_set(images, np.arange(n) % 2).subset(size, seed=seed)
    rows = subset.images[:, 0, 0, 0].astype(int)
    assert len(rows) == min(n, size)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(subset.labels, rows % 2)
    same = image_set(images, np.arange(n) % 2).subset(size, seed=seed)
    assert same.fingerprint == subset.fingerprint


def test_the_seed_decides_the_subset():
    digits = load_dataset("digits")
    first, other = (digits.subset(20, seed=seed).fingerprint for seed in (0, 1))
    assert first != other


def test_rows_are_picked_like_an_arrays():
    digits = load_dataset("digits")
    for rows in (slice(3, 9, 2), np.array([5, 0]), digits.labels == 3):
        picked = digits[rows]
        np.testing.assert_array_equal(picked.images, digits.images[rows])
        np.testing.assert_array_equal(picked.labels, digits.labels[rows])
        assert picked.classes == digits.classes
    assert load_dataset("photo_patches")[:5].labels is None


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 4, 4)), None, r"must be uint8 .*got float64 \(2, 3, 4, 4\)"),
        (np.zeros((2, 1, 4, 4), np.uint8), None, "must be uint8"),
        (np.zeros((3, 4, 4), np.uint8), None, "must be uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0], "1 entries, but there are 2 rows"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0, 2], r"labels\[1\] is 2"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0, 0.5], "whole numbers"),
    ],
)
def test_wrong_images_or_labels_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        image_set(images, labels)


# --- what is not there ---------------------------------------------------------------------------


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
        ("tiny_imagenet_100", "Tiny ImageNet"),
        ("tiny_imagenet_other", "Tiny ImageNet"),
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


# --- real images ---------------------------------------------------------------------------------


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
    sets = {split: load_dataset(name, split, download=False) for split in SPLITS}
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
    first = load_dataset("tiny_imagenet_100", "test")
    assert first.classes == tiny.classes[:100]
    np.testing.assert_array_equal(first.images, tiny.images[tiny.labels < 100])
    other = load_dataset("tiny_imagenet_other")
    np.testing.assert_array_equal(other.images, tiny.images[tiny.labels >= 100])


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
