"""Folders of images: which file is of which class and split, and what was passed over."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from mistakes_lib.data.reading import (
    Preprocessing,
    common_size,
    image_suffixes,
    is_hidden,
    read_image,
)
from mistakes_lib.support.suggestions import did_you_mean

__all__ = [
    "SPLIT_SEED",
    "ImageFiles",
    "Preprocessing",
    "class_names",
    "common_size",
    "list_files",
    "list_unlabelled",
    "natural_order",
    "read_image",
    "split_files",
]

SPLIT_SEED = 0  # one split for every run, so that seeds differ in training only
SPLIT_NAMES = {  # in any case
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
HIDDEN = "hidden or made by the system"


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files with their classes; indexing reads a file.

    Args:
        paths: array of n paths.
        labels: int64 (n,), or None for images without classes.
        classes: class names, in the order of the labels.
        origin: where they come from, for the reader.
        preprocessing: what makes pixels of an image; None gives the image itself.
        passed_over: dict of reason → number of files or folders there that are not among these.
    """

    paths: np.ndarray
    labels: np.ndarray | None
    classes: tuple
    origin: str
    preprocessing: "Preprocessing | None" = None
    passed_over: dict = field(default_factory=dict)

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
        labels = None if self.labels is None else self.labels[rows]
        return ImageFiles(
            self.paths[rows], labels, self.classes, origin, self.preprocessing, self.passed_over
        )

    def prepared(self, preprocessing):
        """The same files, read as this network wants them."""
        return ImageFiles(
            self.paths, self.labels, self.classes, self.origin, preprocessing, self.passed_over
        )


def natural_order(names):
    """Sort names as timm sorts class folders: numbers by their value, case ignored.

    Args:
        names: iterable of names.

    Returns:
        tuple of str.

    Example:
        >>> natural_order(["class_10", "class_2", "Class_1"])
        ('Class_1', 'class_2', 'class_10')
    """

    def key(name):
        parts = re.split(r"(\d+)", name.lower())
        return [int(part) if part.isdigit() else part for part in parts]

    return tuple(sorted(sorted(names), key=key))


def class_names(folder, *, natural=False):
    """Names of a folder's classes: its subfolders, sorted; those of ``train`` if it is split.

    Hidden and empty subfolders are none.

    Args:
        folder: path of the folder.
        natural: sort as timm does, class_2 before class_10, and not as text, as torchvision does.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has validation or test images but no training images.
    """
    folder = _existing(folder)
    parts = _parts(folder)
    where = parts.get("train", folder)
    names = [name for name in _subfolders(where) if any(_walk(where / name, Counter()))]
    return natural_order(names) if natural else tuple(names)


def list_files(folder, classes=None, *, owner="the network"):
    """List the image files in a folder with one subfolder a class, at any depth below it.

    Args:
        folder: path of the folder.
        classes: class names, in the order of the labels; by default the subfolders with images,
            sorted.
        owner: whose classes these are, for the error message.

    Returns:
        ImageFiles in the order of the classes; ``passed_over`` says what else lies there.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: a subfolder that is none of the classes.
    """
    folder = Path(folder)
    passed_over = Counter()
    own = {name: _images(folder / name, passed_over) for name in _subfolders(folder, passed_over)}
    empty = [name for name, paths in own.items() if not paths]
    if empty:
        passed_over[f"subfolders without images ({', '.join(empty[:3])})"] += len(empty)
    loose = [p.name for p in _entries(folder) if p.is_file() and not is_hidden(p.name)]
    if loose:
        passed_over[f"files outside the class folders ({loose[0]})"] += len(loose)
    found = tuple(name for name in own if own[name])
    classes = found if classes is None else tuple(classes)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        hint = did_you_mean(unknown[0], classes)
        raise ValueError(f"{folder} has a class {unknown[0]!r} that {owner} lacks{hint}")
    paths, labels = [], []
    for label, name in enumerate(classes):
        some = own.get(name, [])
        paths += some
        labels += [label] * len(some)
    if not paths:
        why = "; ".join(f"{count} {reason}" for reason, count in passed_over.items())
        raise FileNotFoundError(
            f"no images in {folder}: expected one subfolder of images a class"
            + (f" (passed over: {why})" if why else "")
        )
    return ImageFiles(
        np.array(paths, dtype=object),
        np.array(labels),
        classes,
        str(folder),
        passed_over=dict(passed_over),
    )


def list_unlabelled(folder):
    """List the image files anywhere in a folder, whatever its subfolders; sorted by path.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
    """
    folder, passed_over = Path(folder), Counter()
    paths = _images(folder, passed_over)
    if not paths:
        raise FileNotFoundError(f"no images in {folder}: expected a folder of images")
    return ImageFiles(
        np.array(paths, dtype=object), None, (), str(folder), passed_over=dict(passed_over)
    )


def split_files(folder, classes=None, *, seed=SPLIT_SEED, validation_from_test=False):
    """Divide a folder of images into training, validation and test files.

    Subfolders ``train``, ``validation`` (or ``val``, ``valid``, ``dev``) and ``test``, in any case,
    are taken as they are. Without ``validation``, a tenth of ``train`` is held out; without
    ``test``, ``validation`` is halved; ``train`` alone, and a folder with one subfolder a class,
    are split 80/10/10. Every class is divided alike.

    Args:
        folder: path of the folder.
        classes: class names in the order of the network's outputs; by default the names of the
            subfolders, sorted.
        seed: of the division.
        validation_from_test: let half of the test images be the validation images, whatever lies in
            ``validation``, and leave ``train`` whole: for a network trained on all of it.

    Returns:
        dict with the keys "train", "validation" and "test" → ImageFiles.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: a subfolder that is no class, too few images to be divided, no training images,
            or two folders for one split.
    """
    folder = _existing(folder)
    parts = _parts(folder)
    owner = "train" if classes is None else "the network"
    classes = class_names(folder) if classes is None else classes
    if validation_from_test:
        if not {"train", "test"} <= set(parts):
            raise ValueError(f"{folder} needs folders train and test to take validation from test")
        parts = {"train": parts["train"], "validation": parts["test"]}  # which is halved
    if set(parts) <= {"train"}:
        source = parts.get("train", folder)
        files = list_files(source, classes, owner=owner)
        if parts:
            _say_beside(files, folder, parts)
        return _thirds(files, source, seed)
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
    _say_beside(found["train"], folder, parts)
    return {name: found[name] for name in ("train", "validation", "test")}


def _thirds(files, source, seed):
    """80, 10 and 10 % of all files, class by class."""
    rest, test = _divide(files.labels, 0.1, seed, source)
    inner, validation = _divide(files.labels[rest], 1 / 9, seed, source)
    rows = {"train": rest[np.sort(inner)], "validation": rest[np.sort(validation)], "test": test}
    shares = {"train": "80 %", "validation": "10 %", "test": "10 %"}
    return {name: files.take(rows[name], f"{shares[name]} of {source}") for name in shares}


def _existing(folder):
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected one with one subfolder a class")
    return folder


def _entries(folder):
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _subfolders(folder, passed_over=None):
    folders = [path.name for path in _entries(folder) if path.is_dir()]
    hidden = [name for name in folders if is_hidden(name)]
    if passed_over is not None and hidden:
        passed_over[HIDDEN] += len(hidden)
    return tuple(name for name in folders if name not in hidden)


def _images(folder, passed_over):
    """Image files at any depth below a folder, sorted by path; counts what is none."""
    return sorted(_walk(folder, passed_over))


def _walk(folder, passed_over):
    seen = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        for name in [name for name in folders if is_hidden(name)]:
            folders.remove(name)
            passed_over[HIDDEN] += 1
        for name in files:
            suffix = Path(name).suffix.lower()
            if is_hidden(name):
                passed_over[HIDDEN] += 1
            elif suffix in image_suffixes():
                yield Path(where, name)
            else:
                passed_over[f"no images ({suffix or 'without suffix'})"] += 1


def _parts(folder):
    """The folders of a folder that somebody has split already: name → path.

    A folder with images directly in it is a class, even if its name is "train".
    """
    parts = {}
    for name in _subfolders(folder):
        part = next((p for p, names in SPLIT_NAMES.items() if name.lower() in names), None)
        if part is None or _holds_images(folder / name) or not _subfolders(folder / name):
            continue
        if part in parts:
            raise ValueError(
                f"{folder} has two folders of {part} images, {parts[part].name} and {name}: "
                "keep one of them"
            )
        parts[part] = folder / name
    known = {name for names in SPLIT_NAMES.values() for name in names}
    others = [name for name in _subfolders(folder) if name.lower() not in known]
    if len(parts) == 1 and any(_holds_images(folder / name) for name in others):
        return {}  # classes of which one happens to be called so
    if parts and "train" not in parts:
        names = ", ".join(path.name for path in parts.values())
        raise ValueError(
            f"{folder} has {names} but no train: a report needs the images that the network was "
            f"trained on, in {folder / 'train'}"
        )
    return parts


def _say_beside(files, folder, parts):
    """Note the folders beside those of the splits among what was passed over."""
    used = {path.name for path in parts.values()}
    others = [name for name in _subfolders(folder) if name not in used]
    if others:
        reason = f"folders beside the splits ({', '.join(others[:3])})"
        files.passed_over[reason] = len(others)


def _holds_images(folder):
    suffixes = image_suffixes()
    return any(
        path.suffix.lower() in suffixes and not is_hidden(path.name) and path.is_file()
        for path in folder.iterdir()
    )


def _divide(labels, share, seed, folder):
    """Two arrays of row numbers, the second with this share of every class."""
    try:
        return train_test_split(
            np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise ValueError(f"{folder} has too few images of a class to be split: {error}") from None
