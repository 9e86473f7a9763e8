"""Folders of images: which file is of which class and split, and how a file becomes pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.model_selection import train_test_split

from mistakes_lib.support.suggestions import did_you_mean

__all__ = [
    "SPLIT_SEED",
    "ImageFiles",
    "Preprocessing",
    "class_names",
    "list_files",
    "list_unlabelled",
    "read_image",
    "split_files",
]

SPLIT_SEED = 0  # one split for every run, so that seeds differ in training only
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
VALIDATION_FOLDERS = ("validation", "val")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files with their classes; indexing reads a file.

    Args:
        paths: array of n paths.
        labels: int64 (n,), or None for images without classes.
        classes: class names, in the order of the labels.
        origin: where they come from, for the reader.
        preprocessing: what makes pixels of an image; None gives the image itself.
    """

    paths: np.ndarray
    labels: np.ndarray | None
    classes: tuple
    origin: str
    preprocessing: "Preprocessing | None" = None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        """Image number ``row``, and its label if it has one."""
        image = read_image(self.paths[row])
        if self.preprocessing is not None:
            image = self.preprocessing(image)
        return image if self.labels is None else (image, int(self.labels[row]))

    def take(self, rows, origin):
        """The files with these numbers, in this order."""
        return ImageFiles(self.paths[rows], self.labels[rows], self.classes, origin)

    def prepared(self, preprocessing):
        """The same files, read as this network wants them."""
        return ImageFiles(self.paths, self.labels, self.classes, self.origin, preprocessing)


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, cut out the centre, as torchvision's and timm's networks want it.

    Args:
        resize: pixels of the shorter side.
        crop: pixels of the square that is cut out.
        interpolation: "bilinear", "bicubic", …

    Example:
        >>> Preprocessing(32, 28)(Image.new("RGB", (64, 40))).shape
        torch.Size([3, 28, 28])
    """

    resize: int
    crop: int
    interpolation: str = "bilinear"

    def __call__(self, image):
        """Pixels uint8 (3, crop, crop), a tensor, of an RGB image of PIL."""
        from torchvision.transforms import InterpolationMode  # takes seconds to import
        from torchvision.transforms import functional as transforms

        mode = InterpolationMode(self.interpolation)
        image = transforms.resize(image, [self.resize], interpolation=mode, antialias=True)
        return transforms.pil_to_tensor(transforms.center_crop(image, [self.crop]))

    def __str__(self):
        return (
            f"shorter side resized to {self.resize} pixels ({self.interpolation}), "
            f"central {self.crop} × {self.crop} cut out"
        )


def read_image(path):
    """Read an image file as an RGB image of PIL.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise
    except Exception as error:  # the readers of the many formats raise many kinds
        raise ValueError(f"{path} is damaged or no image: {error}") from None


def class_names(folder):
    """Names of a folder's classes: its subfolders, sorted; those of ``train`` if it is split.

    Raises:
        FileNotFoundError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected one with one subfolder a class")
    return _subfolders(folder / "train" if _parts(folder) else folder)


def list_files(folder, classes=None, *, owner="the network"):
    """List the image files in a folder with one subfolder a class.

    Args:
        folder: path of the folder.
        classes: class names, in the order of the labels; by default the subfolders, sorted.
        owner: whose classes these are, for the error message.

    Returns:
        ImageFiles in the order of the classes.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: a subfolder that is none of the classes.
    """
    folder = Path(folder)
    found = _subfolders(folder)
    classes = found if classes is None else tuple(classes)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        hint = did_you_mean(unknown[0], classes)
        raise ValueError(f"{folder} has a class {unknown[0]!r} that {owner} lacks{hint}")
    paths, labels = [], []
    for label, name in enumerate(classes):
        own = _images(folder / name)
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise FileNotFoundError(f"no images in {folder}: expected one subfolder of images a class")
    return ImageFiles(np.array(paths, dtype=object), np.array(labels), classes, str(folder))


def list_unlabelled(folder):
    """List the image files anywhere in a folder, whatever its subfolders; sorted by path.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
    """
    folder = Path(folder)
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise FileNotFoundError(f"no images in {folder}: expected a folder of images")
    return ImageFiles(np.array(paths, dtype=object), None, (), str(folder))


def split_files(folder, classes=None, *, seed=SPLIT_SEED):
    """Divide a folder of images into training, validation and test files.

    Subfolders ``train``, ``validation`` (or ``val``) and ``test`` are taken as they are. Without
    ``validation``, a tenth of ``train`` is held out; without ``test``, ``validation`` is halved.
    A folder with none of them, one subfolder a class, is split 80/10/10. Every class is divided
    alike.

    Args:
        folder: path of the folder.
        classes: class names in the order of the network's outputs; by default the names of the
            subfolders, sorted.
        seed: of the division.

    Returns:
        dict with the keys "train", "validation" and "test" → ImageFiles.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: a subfolder that is no class, or too few images to be divided.
    """
    folder = Path(folder)
    own = class_names(folder)
    owner = "train" if classes is None else "the network"
    classes = own if classes is None else classes
    parts = _parts(folder)
    if not parts:
        files = list_files(folder, classes, owner=owner)
        rest, test = _divide(files.labels, 0.1, seed, folder)
        inner, validation = _divide(files.labels[rest], 1 / 9, seed, folder)
        rows = {"train": rest[np.sort(inner)], "validation": rest[np.sort(validation)]}
        shares = {"train": "80 %", "validation": "10 %", "test": "10 %"}
        rows["test"] = test
        return {name: files.take(rows[name], f"{shares[name]} of {folder}") for name in shares}
    found = {name: list_files(path, classes, owner=owner) for name, path in parts.items()}
    if "validation" not in found:
        whole, source = found["train"], parts["train"]
        rest, held = _divide(whole.labels, 0.1, seed, source)
        found["train"] = whole.take(np.sort(rest), f"90 % of {source}")
        found["validation"] = whole.take(np.sort(held), f"10 % of {source}")
    if "test" not in found:
        whole, source = found["validation"], parts["validation"]
        for name, rows in zip(
            ("validation", "test"), _divide(whole.labels, 0.5, seed, source), strict=True
        ):
            found[name] = whole.take(np.sort(rows), f"half of {source}")
    return {name: found[name] for name in ("train", "validation", "test")}


def _subfolders(folder):
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir())) if folder.is_dir() else ()


def _images(folder):
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _parts(folder):
    """The folders of a folder that somebody has split already: name → path."""
    names = {"train": ("train",), "validation": VALIDATION_FOLDERS, "test": ("test",)}
    parts = {
        name: next((folder / own for own in names[name] if (folder / own).is_dir()), None)
        for name in names
    }
    parts = {name: path for name, path in parts.items() if path is not None}
    return parts if "train" in parts and len(parts) > 1 else {}


def _divide(labels, share, seed, folder):
    """Two arrays of row numbers, the second with this share of every class."""
    try:
        return train_test_split(
            np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise ValueError(f"{folder} has too few images of a class to be split: {error}") from None
