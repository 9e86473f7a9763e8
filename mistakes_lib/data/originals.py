"""CIFAR, SVHN and Fashion-MNIST: torchvision's files or class folders, one order for both."""

import hashlib
from dataclasses import replace
from functools import partial

import numpy as np

from mistakes_lib.data.image_set import IMAGE_SIZE, ImageSet, divided, read_class_folders

__all__ = ["ORIGINALS", "WHOLE", "canonical", "cifar", "fashion_mnist", "svhn"]

DIGITS = tuple(str(digit) for digit in range(10))
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
WHOLE = {  # images of the original sets
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "svhn": {"train": 73_257, "test": 26_032},
    "fashion_mnist": {"train": 60_000, "test": 10_000},
}

# Fingerprints of the splits of the original images, in whichever form they lie.
ORIGINALS = {
    ("cifar10", "train"): "c2bffc70adbcd9681e110d4b6fa6acfe6ef909f13122e374f7c3d62b57e52b2b",
    ("cifar10", "validation"): "aaaea8aee0e06c9b02a6fa462e826ea47da0866f40508c78253aac7a90525843",
    ("cifar10", "test"): "5bef61adcf331e144f270fc494bec5dbe8151a09727e55cebac79f7551cb84c0",
    ("cifar100", "train"): "10ea2ec63f51b019b59f82395f519865f2eb5ae1cb5d36f2ef5d2ab8d63a6cff",
    ("cifar100", "validation"): "602218c3c12a77e6640ce4462556dd9ce70c08ce1a7c9895b3a7fb9830bbc6df",
    ("cifar100", "test"): "23bbecbc66fe2f85137206bb91526ac6763f260bf8ecf28fe220a6fc3513dcd7",
    ("fashion_mnist", "test"): "85be46a81bc43c05c0d96b7b3240a00df713f878435039d68933a19f2b126a8f",
}


def _torchvision(name):
    """A data set's class, imported only where it is needed: it takes longer than all the rest."""
    from torchvision import datasets

    return getattr(datasets, name)


def _downloaded(make, root, download, what):
    """Call a torchvision data set's constructor; turn its failures into one clear error."""
    try:
        return make(root=root, download=download)
    except Exception as error:  # torchvision raises RuntimeError, URLError, OSError, …
        reason = " ".join(str(error).split())  # some have lines
        raise FileNotFoundError(
            f"{what} is not in {root} and could not be downloaded ({reason}). "
            "Put it there, or point the environment variable MISTAKES_DATA at the folder that "
            "holds it."
        ) from None


def cifar(part, *, name, root, download, progress):
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[name]
    if _has_folders(root, name, part):
        images, labels, classes = read_class_folders(root / name / part, IMAGE_SIZE, progress)
    else:
        make = partial(_torchvision(name.upper()), train=part == "train")
        dataset = _downloaded(make, root, download, name)
        images = dataset.data.transpose(0, 3, 1, 2)  # (n, h, w, 3) → (n, 3, h, w)
        labels, classes = dataset.targets, tuple(dataset.classes)
    return _named(images, labels, part, classes, name, title)


def svhn(part, *, name, root, download, progress):
    if _has_folders(root, name, part):
        images, labels, _ = read_class_folders(root / name / part, IMAGE_SIZE, progress)
    else:
        dataset = _downloaded(partial(_torchvision("SVHN"), split=part), root, download, "SVHN")
        images, labels = dataset.data, dataset.labels
    return _named(images, labels, part, DIGITS, name, "SVHN")


def fashion_mnist(part, *, name, root, download, progress):
    if _has_folders(root, name, part):
        colour, labels, _ = read_class_folders(root / name / part, 28, progress)
        gray = colour[:, 0]
    else:
        make = partial(_torchvision("FashionMNIST"), train=part == "train")
        dataset = _downloaded(make, root, download, "Fashion-MNIST")
        gray, labels = dataset.data.numpy(), dataset.targets
    classes = FASHION_CLASSES
    return _named(_from_gray(gray), labels, part, classes, name, "Fashion-MNIST")


def _has_folders(root, name, part):
    """Whether a split lies as folders NAME/{train,test}/CLASS/FILE, which go before other forms."""
    return (root / name / part).is_dir()


def _named(images, labels, part, classes, name, title):
    """The splits of a part that may lie in two forms: in canonical order, with an honest name."""
    images, labels = canonical(images, np.asarray(labels))
    sets = divided(ImageSet(images, labels, classes, name, title), part)
    if len(images) != WHOLE[name][part]:
        what = "digits" if name == "svhn" else "images"
        title = f"{title} ({len(images):,} {part} {what})"
    elif any(ORIGINALS.get((name, k)) not in (None, own.fingerprint) for k, own in sets.items()):
        title = f"{title} (not the original pixels)"
    return {split: replace(each, description=title) for split, each in sets.items()}


def canonical(images, labels):
    """Sort by the SHA-256 of an image's bytes (3, h, w), then by label: one order for all forms."""
    images = np.ascontiguousarray(images)
    digests = np.array([hashlib.sha256(image).digest() for image in images], dtype="S32")
    keys = digests.view(np.uint8).reshape(-1, 32) if len(images) else np.empty((0, 32), np.uint8)
    rows = np.lexsort([labels, *keys.T[::-1]])  # the last key is the first to sort by
    return images[rows], labels[rows]


def _from_gray(images):
    """Gray (n, 28, 28) → (n, 3, 32, 32): two pixels of padding on each side, as usual for OOD."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[:, None], 3, axis=1)
