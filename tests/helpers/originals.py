"""Small data sets, written as their originals are."""

import hashlib
import pickle
import struct

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

__all__ = [
    "CIFAR10_CLASSES",
    "IMAGES",
    "halved",
    "random_images",
    "rows_of",
    "shuffled_labels",
    "write_cifar10",
    "write_cifar100",
    "write_class_folders",
    "write_fashion_mnist",
    "write_image",
    "write_image_folder",
    "write_pickle",
    "write_svhn",
    "write_tiny_imagenet",
]

IMAGES = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 6), st.just(3), st.integers(1, 5), st.integers(1, 5)),
)


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


def write_tiny_imagenet(root, num_classes=102):
    """The archive's validation images, 64 × 64, with wnids.txt unsorted; images and labels."""
    rng = np.random.default_rng(0)
    folder = root / "tiny-imagenet-200"
    wnids = [f"n{1000 + 7 * i:08}" for i in range(num_classes)]
    labels = shuffled_labels(rng, num_classes, 2)
    validation, lines = [], []
    for i, (label, pixels) in enumerate(
        zip(labels, random_images(rng, 2 * num_classes, 64), strict=True)
    ):
        validation.append(write_image(folder / f"val/images/val_{i}.JPEG", pixels))
        lines.append(f"val_{i}.JPEG\t{wnids[label]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(rng.permutation(wnids)))
    return halved(np.stack(validation)), labels


def rows_of(images, originals):
    """Where each image stands among the originals; resizing rounds by at most one level."""
    images, originals = (a.reshape(len(a), -1).astype(np.float64) for a in (images, originals))
    squares = (originals**2).sum(axis=1) - 2 * images @ originals.T
    rows = squares.argmin(axis=1)
    assert np.abs(images - originals[rows]).max() <= 1
    return rows
