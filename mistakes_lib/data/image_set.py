"""A set of labelled images; how image files become one, and how it is divided."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn.model_selection import train_test_split

from mistakes_lib.data.files import SPLIT_SEED, list_files, read_image
from mistakes_lib.support.checks import as_labels
from mistakes_lib.support.progress import progress_bar

__all__ = [
    "IMAGE_SIZE",
    "PARTS",
    "SPLITS",
    "ImageSet",
    "divided",
    "only_test",
    "part_of",
    "read_class_folders",
    "read_images",
    "resized",
]

PARTS = {"train": ("train", "validation"), "test": ("test",)}  # as they are published: our splits
SPLITS = tuple(split for splits in PARTS.values() for split in splits)
IMAGE_SIZE = 32


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their classes and an honest name.

    Args:
        images: uint8 (n, 3, h, w), pixels 0…255.
        labels: int64 (n,), or None for sets without classes.
        classes: class names, in the order of the labels.
        name: the name under which :func:`~mistakes_lib.data.named.load_dataset` knows it.
        description: what to print beside every number computed from it.

    Example:
        >>> images = np.zeros((3, 3, 2, 2), dtype=np.uint8)
        >>> pets = ImageSet(images, [0, 1, 1], ("cat", "dog"), "pets", "three black squares")
        >>> dogs = pets[pets.labels == 1]
        >>> len(dogs), dogs.channel_statistics()
        (2, ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]))
    """

    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple
    name: str
    description: str

    def __post_init__(self):
        images = np.asarray(self.images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images must be uint8 (n, 3, h, w), got {images.dtype} {images.shape}"
            )
        object.__setattr__(self, "images", images)
        if self.labels is not None:
            labels = as_labels(
                self.labels, "labels", length=len(images), num_classes=len(self.classes)
            )
            object.__setattr__(self, "labels", labels)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        """The rows picked by a boolean mask, a slice or an index array."""
        labels = None if self.labels is None else self.labels[rows]
        return ImageSet(self.images[rows], labels, self.classes, self.name, self.description)

    def subset(self, size, *, seed=0):
        """``size`` images drawn without replacement, in their original order (all if fewer)."""
        if size >= len(self):
            return self
        rows = np.random.default_rng(seed).choice(len(self), size, replace=False)
        return self[np.sort(rows)]

    @property
    def fingerprint(self):
        """SHA-256 of pixels and labels in hexadecimal; two sets with one fingerprint are equal."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images))
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()

    def channel_statistics(self):
        """Mean and standard deviation of each channel, pixels in [0, 1]: two lists of 3 floats."""
        counts = np.stack(
            [np.bincount(self.images[:, c].ravel(), minlength=256) for c in range(3)]
        )  # (3, 256)
        levels = np.arange(256) / 255
        mean = counts @ levels / counts.sum(axis=1)
        variance = counts @ levels**2 / counts.sum(axis=1) - mean**2
        variance = np.maximum(variance, 0)  # rounding may leave −1e-17 of a constant channel
        return mean.tolist(), np.sqrt(variance).tolist()


def read_class_folders(folder, size, progress):
    """Images in one subfolder a class: uint8 (n, 3, size, size), labels (n,), class names."""
    files = list_files(folder)
    return read_images(files.paths, size, progress), files.labels, files.classes


def read_images(files, size, progress):
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    for i, file in enumerate(progress_bar(files, desc="images", shown=progress)):
        images[i] = _resize(read_image(file), size)
    return images


def _resize(image, size):
    """PIL image → uint8 (3, size, size), area-averaged when it shrinks."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(image).transpose(2, 0, 1)


def resized(image_set, size):
    if image_set.images.shape[-1] == size:
        return image_set
    images = np.stack(
        [_resize(Image.fromarray(image.transpose(1, 2, 0)), size) for image in image_set.images]
    )
    return ImageSet(
        images, image_set.labels, image_set.classes, image_set.name, image_set.description
    )


def part_of(split):
    """The part of a published data set, "train" or "test", that a split is taken from."""
    return "test" if split == "test" else "train"


def divided(whole, part, share=0.1):
    """The splits of a part, name → ImageSet: a share of the training images is for validation."""
    if part == "test":
        return {"test": whole}
    rows = train_test_split(
        np.arange(len(whole)), test_size=share, random_state=SPLIT_SEED, stratify=whole.labels
    )
    return {split: whole[np.sort(own)] for split, own in zip(PARTS[part], rows, strict=True)}


def only_test(whole, part):
    """The one split of an out-of-distribution set."""
    if part != "test":
        raise ValueError(
            f"{whole.name} is an out-of-distribution set: it has the split 'test' only"
        )
    return {"test": whole}
