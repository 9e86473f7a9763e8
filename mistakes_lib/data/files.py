"""Folders of images: which file is of which class and split, and what was passed over."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from mistakes_lib.data.layout import (
    entries_of,
    existing,
    images_below,
    innermost,
    parts_of,
    refuse_inner_splits,
    subfolders_of,
    walk_images,
)
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
    "used_images",
]

SPLIT_SEED = 0  # one split for every run, so that seeds differ in training only


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

    Hidden and empty subfolders are none. Where all lies in one folder inside, as an archive may
    unpack, that folder is taken.

    Args:
        folder: path of the folder.
        natural: sort as timm does, class_2 before class_10, and not as text, as torchvision does.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has validation or test images but no training images.
    """
    folder = innermost(existing(folder))
    parts = parts_of(folder)
    where = innermost(parts.get("train", folder))
    names = [name for name in subfolders_of(where) if any(walk_images(where / name, Counter()))]
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
        ValueError: a subfolder that is none of the classes or, by its name, two of them; or classes
            that are divided into train and test each.
    """
    folder = innermost(Path(folder), classes)
    passed_over = Counter()
    names = subfolders_of(folder, passed_over)
    own = {name: images_below(folder / name, passed_over) for name in names}
    empty = [name for name, paths in own.items() if not paths]
    if empty:
        passed_over[f"subfolders without images ({', '.join(empty[:3])})"] += len(empty)
    loose = [p.name for p in entries_of(folder) if p.is_file() and not is_hidden(p.name)]
    if loose:
        passed_over[f"files outside the class folders ({loose[0]})"] += len(loose)
    found = tuple(name for name in own if own[name])
    classes = found if classes is None else tuple(classes)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        hint = did_you_mean(unknown[0], classes)
        raise ValueError(f"{folder} has a class {unknown[0]!r} that {owner} lacks{hint}")
    twice = [name for name in found if classes.count(name) > 1]
    if twice:
        raise ValueError(
            f"{folder} has a class {twice[0]!r}, but two of the outputs are called so: give them "
            "and their folders names of their own"
        )
    refuse_inner_splits(folder, found)
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
    paths = images_below(folder, passed_over)
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
    folder = innermost(existing(folder), classes)
    parts = parts_of(folder)
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
        found["train"] = whole.take(np.sort(rest), f"90% of {source}")
        found["validation"] = whole.take(np.sort(held), f"10% of {source}")
    if "test" not in found:
        whole, source = found["validation"], parts["validation"]
        for name, rows in zip(
            ("validation", "test"), _divide(whole.labels, 0.5, seed, source), strict=True
        ):
            found[name] = whole.take(np.sort(rows), f"half of {source}")
    _say_beside(found["train"], folder, parts)
    return {name: found[name] for name in ("train", "validation", "test")}


def used_images(folder):
    """Paths of the images that :func:`split_files` would divide, sorted; none beside the splits.

    Raises:
        FileNotFoundError: no such folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("train/cat", "test/cat", "originals"):
        ...         (Path(folder) / name).mkdir(parents=True)
        ...         (Path(folder) / name / "1.png").touch()
        ...     [path.parent.name for path in used_images(folder)]
        ['cat', 'cat']
    """
    folder = innermost(existing(folder))
    parts = parts_of(folder).values() or [folder]
    return [
        path
        for part in parts
        for name in subfolders_of(part)
        for path in images_below(part / name, Counter())
    ]


def _thirds(files, source, seed):
    """80, 10 and 10% of all files, class by class."""
    rest, test = _divide(files.labels, 0.1, seed, source)
    inner, validation = _divide(files.labels[rest], 1 / 9, seed, source)
    rows = {"train": rest[np.sort(inner)], "validation": rest[np.sort(validation)], "test": test}
    shares = {"train": "80%", "validation": "10%", "test": "10%"}
    return {name: files.take(rows[name], f"{shares[name]} of {source}") for name in shares}


def _say_beside(files, folder, parts):
    """Note the folders and images beside those of the splits among what was passed over."""
    used = {path.name for path in parts.values()}
    others = [name for name in subfolders_of(folder) if name not in used]
    if others:
        reason = f"folders beside the splits ({', '.join(others[:3])})"
        files.passed_over[reason] = len(others)
    suffixes = image_suffixes()
    loose = [p.name for p in entries_of(folder) if p.is_file() and p.suffix.lower() in suffixes]
    loose = [name for name in loose if not is_hidden(name)]
    if loose:
        files.passed_over[f"images outside the class folders ({loose[0]})"] = len(loose)


def _divide(labels, share, seed, folder):
    """Two arrays of row numbers, the second with this share of every class."""
    try:
        return train_test_split(
            np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise ValueError(f"{folder} has too few images of a class to be split: {error}") from None
