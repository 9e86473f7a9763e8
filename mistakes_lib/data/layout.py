"""How a folder of images is laid out: its splits, its classes, and what is hidden in it."""

import os
from pathlib import Path

from mistakes_lib.data.reading import image_suffixes, is_hidden

__all__ = [
    "entries_of",
    "existing",
    "holds_images",
    "images_below",
    "innermost",
    "parts_of",
    "refuse_inner_splits",
    "subfolders_of",
    "walk_images",
]

SPLIT_NAMES = {  # in any case
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
HIDDEN = "hidden or made by the system"


def existing(folder):
    """The path of a folder; FileNotFoundError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected one with one subfolder a class")
    return folder


def innermost(folder, classes=None):
    """The folder itself, or the only one in it, if that one holds the folders of the classes."""
    known, inside = {name for own in SPLIT_NAMES.values() for name in own}, folder
    while len(names := subfolders_of(inside)) == 1 and not holds_images(inside):
        if names[0] in (classes or ()) or names[0].lower() in known:
            return inside
        inside = inside / names[0]
    return inside if len(names) > 1 and not holds_images(inside) else folder


def parts_of(folder):
    """The folders of a folder that somebody has split already: name → path.

    A folder with images directly in it is a class, even if its name is "train".
    """
    parts = {}
    for name in subfolders_of(folder):
        part = next((p for p, names in SPLIT_NAMES.items() if name.lower() in names), None)
        if part is None or holds_images(folder / name) or not subfolders_of(folder / name):
            continue
        if part in parts:
            raise ValueError(
                f"{folder} has two folders of {part} images, {parts[part].name} and {name}: "
                "keep one of them"
            )
        parts[part] = folder / name
    known = {name for names in SPLIT_NAMES.values() for name in names}
    others = [name for name in subfolders_of(folder) if name.lower() not in known]
    beside = [name for name in others if holds_images(folder / name)]
    if len(parts) == 1 and beside:
        _refuse_either(folder, next(iter(parts.values())), beside)
        return {}  # classes of which one happens to be called so
    if parts and "train" not in parts:
        names = ", ".join(path.name for path in parts.values())
        raise ValueError(
            f"{folder} has {names} but no train: a report needs the images that the network was "
            f"trained on, in {folder / 'train'}"
        )
    return parts


def _refuse_either(folder, part, beside):
    """Raise ValueError where a folder called train may be a split or a class."""
    inside = [name for name in subfolders_of(part) if holds_images(part / name)]
    if len(inside) > 1:
        raise ValueError(
            f"{part} may be a split with the classes {', '.join(inside[:3])}, or a class beside "
            f"{', '.join(beside[:3])}: take {beside[0]} out of {folder}, or rename {part.name}"
        )


def refuse_inner_splits(folder, names):
    """Raise ValueError where each class is divided, since training images would be tested on."""
    known = {name for own in SPLIT_NAMES.values() for name in own}
    inside = [subfolders_of(folder / name) for name in names]
    if names and all(own and {each.lower() for each in own} <= known for own in inside):
        raise ValueError(
            f"{folder / names[0]} and the other classes are divided into {', '.join(inside[0])}: "
            f"put these first and the classes inside, as {folder / inside[0][0] / names[0]}"
        )


def entries_of(folder):
    """Paths in a folder, sorted; none where it is no folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def subfolders_of(folder, passed_over=None):
    """Names of the folders in a folder, sorted; counts the hidden in ``passed_over``."""
    folders = [path.name for path in entries_of(folder) if path.is_dir()]
    hidden = [name for name in folders if is_hidden(name)]
    if passed_over is not None and hidden:
        passed_over[HIDDEN] += len(hidden)
    return tuple(name for name in folders if name not in hidden)


def holds_images(folder):
    """Whether images lie directly in a folder."""
    suffixes = image_suffixes()
    return any(
        path.suffix.lower() in suffixes and not is_hidden(path.name) and path.is_file()
        for path in folder.iterdir()
    )


def images_below(folder, passed_over):
    """Image files at any depth below a folder, sorted by path; counts what is none."""
    return sorted(walk_images(folder, passed_over))


def walk_images(folder, passed_over):
    """Yield the paths of image files at any depth, each folder once; counts what is none."""
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
