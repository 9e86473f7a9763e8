"""Which of the named data sets are at hand, in which form, and whether they are the originals."""

from dataclasses import dataclass

from mistakes_lib.data.named import DATASETS, data_root, load_part
from mistakes_lib.data.originals import ORIGINALS, WHOLE

__all__ = ["Holding", "take_stock"]

# What torchvision keeps of each set, by part; "{part}" stands where it has a file of its own.
TORCHVISION = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "svhn": "{part}_32x32.mat",
    "fashion_mnist": "FashionMNIST/raw/{idx}-images-idx3-ubyte",
}
IDX = {"train": "train", "test": "t10k"}  # how Fashion-MNIST's files call the parts
TINY = "tiny-imagenet-200"
MADE_HERE = ("digits", "gaussian_noise", "photo_patches")


@dataclass(frozen=True)
class Holding:
    """What is there of one part of a named data set.

    Args:
        name: the data set's, as :func:`~mistakes_lib.data.named.load_dataset` takes it.
        part: "train" or "test".
        status: "original" (the fingerprint is known), "subset" (fewer images than the original),
            "other" (as many images, but other pixels or labels), "made here" (needs no files),
            "unreadable" or "missing".
        form: "class folders", "torchvision's files", "public archive" or "".
        images: how many.
        found: where it is, or where it was looked for, and what is wrong with it.
    """

    name: str
    part: str
    status: str
    form: str
    images: int
    found: str


def take_stock(root=None, *, names=None, parts=("train", "test"), progress=False):
    """Look for every named data set, read what is there and compare it with the originals.

    Nothing is downloaded.

    Args:
        root: folder with the data; see :func:`~mistakes_lib.data.named.data_root`.
        names: data sets to look for; by default all.
        parts: of "train" and "test", which to read; training parts take some seconds each.
        progress: show a progress bar while image files are read.

    Returns:
        list of :class:`Holding`, in the order of the names.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> stock = take_stock("none", names=["digits"])
        >>> [(holding.part, holding.status, holding.images) for holding in stock]
        [('train', 'made here', 1437), ('test', 'made here', 360)]
    """
    names = sorted(DATASETS) if names is None else names
    unknown = [name for name in names if name not in DATASETS]
    if unknown:
        raise ValueError(
            f"unknown data set {unknown[0]!r}: choose from {', '.join(sorted(DATASETS))}"
        )
    root = data_root(root)
    return [
        _holding(name, part, root, progress)
        for name in names
        for part in parts
        if part == "test" or _has_training_part(name)
    ]


def _has_training_part(name):
    return name in WHOLE or name == "digits"


def _holding(name, part, root, progress):
    form, places = _form(name, part, root)
    if not form and name not in MADE_HERE:
        return Holding(name, part, "missing", "", 0, f"neither {' nor '.join(map(str, places))}")
    try:
        sets = load_part(name, part, root=root, download=False, progress=progress)
    except (FileNotFoundError, ValueError) as error:
        return Holding(name, part, "unreadable", form, 0, str(error))
    images = sum(map(len, sets.values()))
    status = _status(name, part, images, sets)
    return Holding(name, part, status, form, images, str(places[0]) if places else "")


def _status(name, part, images, sets):
    if name in MADE_HERE:
        return "made here"
    known = {split: ORIGINALS.get((name, split)) for split in sets}
    if all(known[split] == sets[split].fingerprint for split in sets):
        return "original"
    whole = WHOLE.get(name, {}).get(part)
    return "subset" if whole and images < whole else "other"


def _form(name, part, root):
    """The form in which a part lies in the root, and its place; all places if it is missing."""
    if name in MADE_HERE:
        return "", []
    if name not in TORCHVISION:
        place = root / TINY
        return ("public archive" if place.is_dir() else ""), [place]
    folders = root / name / part
    own = root / TORCHVISION[name].format(part=part, idx=IDX[part])
    if folders.is_dir():
        return "class folders", [folders, own]
    if own.exists():
        return "torchvision's files", [own]
    return "", [folders, own]
