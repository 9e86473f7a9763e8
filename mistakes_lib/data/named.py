"""Named image data sets, split as in Appendix C: train, 5,000 held out for validation, test."""

import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split

from mistakes_lib.data.files import SPLIT_SEED, split_files
from mistakes_lib.data.image_set import (
    IMAGE_SIZE,
    PARTS,
    SPLITS,
    ImageSet,
    divided,
    only_test,
    part_of,
    read_images,
    resized,
)
from mistakes_lib.data.originals import cifar, fashion_mnist, svhn
from mistakes_lib.data.tiny_imagenet import tiny_imagenet

__all__ = ["DATASETS", "data_root", "load_dataset", "load_part"]

FOLDER = "imagefolder:"


def data_root(root=None):
    """The folder with the images: ``root``, else $MISTAKES_DATA, else ~/.cache/mistakes/data."""
    if root is None:
        root = os.environ.get("MISTAKES_DATA") or Path.home() / ".cache" / "mistakes" / "data"
    return Path(root)


def load_dataset(name, split="test", *, root=None, download=True, size=None, progress=False):
    """Load one split of a named data set.

    ``train`` and ``validation`` share the original training images: a class-balanced share (5,000
    of 50,000) drawn with a fixed seed is held out, as in Appendix C. Sets that are only used as
    out-of-distribution inputs have the split ``test`` alone.

    Args:
        name: a key of ``DATASETS``, or ``"imagefolder:PATH"`` for a folder with one subfolder
            of images a class, divided as :func:`~mistakes_lib.data.files.split_files` says.
        split: "train", "validation" or "test".
        root: folder with the data; see :func:`data_root`.
        download: let torchvision download what is missing.
        size: edge in pixels that images are resized to; the set's own size by default.
        progress: show a progress bar while many image files are read.

    Returns:
        ImageSet.

    Raises:
        ValueError: unknown name or split.
        FileNotFoundError: the images are not there and cannot be downloaded.

    Example:
        >>> digits = load_dataset("digits", "test")
        >>> digits.images.shape, len(digits.classes)
        ((360, 3, 8, 8), 10)
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if name.startswith(FOLDER):
        return _image_folder(name, split, size or IMAGE_SIZE, progress)
    options = {"root": root, "download": download, "size": size, "progress": progress}
    return load_part(name, part_of(split), **options)[split]


def load_part(name, part, *, root=None, download=True, size=None, progress=False):
    """Load the splits that share the images of one part of a data set, which are read once.

    Args:
        name, root, download, size, progress: see :func:`load_dataset`.
        part: "train" or "test".

    Returns:
        dict of split → ImageSet: "train" and "validation", or "test".

    Raises:
        ValueError, FileNotFoundError: as :func:`load_dataset`.

    Example:
        >>> {split: len(digits) for split, digits in load_part("digits", "train").items()}
        {'train': 1149, 'validation': 288}
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}: choose one of {', '.join(PARTS)}")
    if name.startswith(FOLDER):
        size = size or IMAGE_SIZE
        return {split: _image_folder(name, split, size, progress) for split in PARTS[part]}
    if name not in DATASETS:
        raise ValueError(
            f"unknown data set {name!r}: choose one of {', '.join(sorted(DATASETS))} "
            "or imagefolder:PATH"
        )
    options = {"root": data_root(root), "download": download, "progress": progress}
    sets = DATASETS[name](part, name=name, **options)
    return {k: own if size is None else resized(own, size) for k, own in sets.items()}


# --- sets that need no files -------------------------------------------------------------------


def _digits(part, *, name, root, download, progress):
    """scikit-learn's 1,797 handwritten digits, 8 × 8, for tests and quick runs."""
    gray, labels = load_digits(return_X_y=True)
    gray = np.round(gray.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.repeat(gray[:, None], 3, axis=1)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=SPLIT_SEED, stratify=labels
    )
    rows = test if part == "test" else train
    classes = tuple(str(digit) for digit in range(10))
    whole = ImageSet(images[rows], labels[rows], classes, name, "scikit-learn digits")
    return divided(whole, part, share=0.2)


def _gaussian_noise(part, *, name, root, download, progress, count=10_000):
    """Every pixel from N(0.5, 0.25²) clipped to [0, 1]: what no camera has seen."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0.5, 0.25, (count, 3, IMAGE_SIZE, IMAGE_SIZE)).clip(0, 1)
    images = np.round(noise * 255).astype(np.uint8)
    return only_test(ImageSet(images, None, (), name, "Gaussian noise"), part)


def _photo_patches(part, *, name, root, download, progress, edge=8):
    """8 × 8 patches of scikit-learn's two photographs: what no digit looks like."""
    patches = []
    for photo in load_sample_images().images:
        rows, columns = photo.shape[0] // edge, photo.shape[1] // edge
        tiles = photo[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge, 3)
        patches.append(tiles.transpose(0, 2, 4, 1, 3).reshape(-1, 3, edge, edge))
    description = "patches of photographs (scikit-learn)"
    return only_test(ImageSet(np.concatenate(patches), None, (), name, description), part)


# --- anybody's images --------------------------------------------------------------------------


def _image_folder(name, split, size, progress):
    path = Path(name.removeprefix(FOLDER)).expanduser()
    files = split_files(path)[split]
    images = read_images(files.paths, size, progress)
    return ImageSet(images, files.labels, files.classes, name, f"image folder {path.name}")


DATASETS = {
    "cifar10": cifar,
    "cifar100": cifar,
    "digits": _digits,
    "fashion_mnist": fashion_mnist,
    "gaussian_noise": _gaussian_noise,
    "photo_patches": _photo_patches,
    "svhn": svhn,
    "tiny_imagenet": tiny_imagenet,
}
