"""Named image data sets, split as in Appendix C: train, 5,000 held out for validation, test."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split

from mistakes_lib.data.files import SPLIT_SEED, list_files, read_image, split_files
from mistakes_lib.support.checks import as_labels
from mistakes_lib.support.progress import progress_bar

__all__ = ["DATASETS", "ORIGINALS", "SPLITS", "ImageSet", "data_root", "load_dataset"]

SPLITS = ("train", "validation", "test")
IMAGE_SIZE = 32
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


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their classes and an honest name.

    Args:
        images: uint8 (n, 3, h, w), pixels 0…255.
        labels: int64 (n,), or None for sets without classes.
        classes: class names, in the order of the labels.
        name: the name under which :func:`load_dataset` knows it.
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
    options = {"root": data_root(root), "download": download, "progress": progress}
    if name.startswith("imagefolder:"):
        path = Path(name.removeprefix("imagefolder:")).expanduser()
        return _image_folder(path, split, name=name, size=size or IMAGE_SIZE, progress=progress)
    if name not in DATASETS:
        raise ValueError(
            f"unknown data set {name!r}: choose one of {', '.join(sorted(DATASETS))} "
            "or imagefolder:PATH"
        )
    image_set = DATASETS[name](split, name=name, **options)
    return image_set if size is None else _resized(image_set, size)


# --- torchvision's data sets -------------------------------------------------------------------


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


def _cifar(split, *, name, root, download, progress):
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[name]
    part = "test" if split == "test" else "train"
    if _has_folders(root, name, part):
        images, labels, classes = _read_class_folders(root / name / part, IMAGE_SIZE, progress)
    else:
        make = partial(_torchvision(name.upper()), train=split != "test")
        dataset = _downloaded(make, root, download, name)
        images = dataset.data.transpose(0, 3, 1, 2)  # (n, h, w, 3) → (n, 3, h, w)
        labels, classes = dataset.targets, tuple(dataset.classes)
    return _named(images, labels, split, classes, name, title)


def _svhn(split, *, name, root, download, progress):
    part = "test" if split == "test" else "train"
    if _has_folders(root, name, part):
        images, labels, _ = _read_class_folders(root / name / part, IMAGE_SIZE, progress)
    else:
        dataset = _downloaded(partial(_torchvision("SVHN"), split=part), root, download, "SVHN")
        images, labels = dataset.data, dataset.labels
    return _named(images, labels, split, DIGITS, name, "SVHN")


def _fashion_mnist(split, *, name, root, download, progress):
    part = "test" if split == "test" else "train"
    if _has_folders(root, name, part):
        colour, labels, _ = _read_class_folders(root / name / part, 28, progress)
        gray = colour[:, 0]
    else:
        make = partial(_torchvision("FashionMNIST"), train=split != "test")
        dataset = _downloaded(make, root, download, "Fashion-MNIST")
        gray, labels = dataset.data.numpy(), dataset.targets
    classes = FASHION_CLASSES
    return _named(_from_gray(gray), labels, split, classes, name, "Fashion-MNIST")


def _has_folders(root, name, part):
    """Whether a split lies as folders NAME/{train,test}/CLASS/FILE, which go before other forms."""
    return (root / name / part).is_dir()


def _named(images, labels, split, classes, name, title):
    """A split of a data set that may lie in two forms: in canonical order, with an honest name."""
    images, labels = _canonical(images, np.asarray(labels))
    part = "test" if split == "test" else "train"
    image_set = _held_out(images, labels, split, classes, name, title)
    if len(images) != WHOLE[name][part]:
        what = "digits" if name == "svhn" else "images"
        return replace(image_set, description=f"{title} ({len(images):,} {part} {what})")
    if image_set.fingerprint != ORIGINALS.get((name, split), image_set.fingerprint):
        return replace(image_set, description=f"{title} (not the original pixels)")
    return image_set


def _canonical(images, labels):
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


# --- Tiny ImageNet -----------------------------------------------------------------------------


def _tiny_imagenet_folder(root):
    folder = root / "tiny-imagenet-200"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Tiny ImageNet is not in {root}: unpack the public archive tiny-imagenet-200.zip "
            "there, or point the environment variable MISTAKES_DATA at the folder that holds it."
        )
    return folder


def _tiny_imagenet_validation(folder, wnids, progress):
    """The validation images of the given classes: uint8 (n, 3, 32, 32) and labels (n,)."""
    lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines]
    index = {wnid: label for label, wnid in enumerate(wnids)}
    rows = [(file, index[wnid]) for file, wnid in rows if wnid in index]
    files = [folder / "val" / "images" / file for file, _ in rows]
    return _read_images(files, IMAGE_SIZE, progress), np.array([label for _, label in rows])


def _wnids(folder):
    return sorted((folder / "wnids.txt").read_text().split())


def _tiny_imagenet(split, *, name, root, download, progress):
    """All classes' validation images at 32 × 32: an out-of-distribution set."""
    folder = _tiny_imagenet_folder(root)
    wnids = _wnids(folder)
    images, labels = _tiny_imagenet_validation(folder, wnids, progress)
    description = "Tiny ImageNet (validation images, 32 × 32)"
    return _only_test(images, labels, tuple(wnids), split, name, description)


def _tiny_imagenet_other(split, *, name, root, download, progress):
    """The classes that ``tiny_imagenet_100`` leaves out: out of distribution, but near."""
    folder = _tiny_imagenet_folder(root)
    wnids = _wnids(folder)[100:]
    images, labels = _tiny_imagenet_validation(folder, wnids, progress)
    description = "Tiny ImageNet, classes beyond the first 100 (validation images, 32 × 32)"
    return _only_test(images, labels, tuple(wnids), split, name, description)


def _tiny_imagenet_100(split, *, name, root, download, progress):
    """The first 100 classes, in the shape of CIFAR-100; tested on their validation images."""
    folder = _tiny_imagenet_folder(root)
    wnids = _wnids(folder)[:100]
    description = "Tiny ImageNet, first 100 classes, 32 × 32"
    if split == "test":
        images, labels = _tiny_imagenet_validation(folder, wnids, progress)
        return ImageSet(images, labels, tuple(wnids), name, description)
    files, labels = [], []
    for label, wnid in enumerate(wnids):
        found = sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
        if not found:
            raise FileNotFoundError(f"no training images of class {wnid} in {folder / 'train'}")
        files += found
        labels += [label] * len(found)
    images = _read_images(files, IMAGE_SIZE, progress)
    return _held_out(images, labels, split, tuple(wnids), name, description)


# --- sets that need no files -------------------------------------------------------------------


def _digits(split, *, name, root, download, progress):
    """scikit-learn's 1,797 handwritten digits, 8 × 8, for tests and quick runs."""
    gray, labels = load_digits(return_X_y=True)
    gray = np.round(gray.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.repeat(gray[:, None], 3, axis=1)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=SPLIT_SEED, stratify=labels
    )
    rows = test if split == "test" else train
    classes = tuple(str(digit) for digit in range(10))
    description = "scikit-learn digits"
    return _held_out(images[rows], labels[rows], split, classes, name, description, share=0.2)


def _gaussian_noise(split, *, name, root, download, progress, count=10_000):
    """Every pixel from N(0.5, 0.25²) clipped to [0, 1]: what no camera has seen."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0.5, 0.25, (count, 3, IMAGE_SIZE, IMAGE_SIZE)).clip(0, 1)
    images = np.round(noise * 255).astype(np.uint8)
    return _only_test(images, None, (), split, name, "Gaussian noise")


def _photo_patches(split, *, name, root, download, progress, edge=8):
    """8 × 8 patches of scikit-learn's two photographs: what no digit looks like."""
    patches = []
    for photo in load_sample_images().images:
        rows, columns = photo.shape[0] // edge, photo.shape[1] // edge
        tiles = photo[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge, 3)
        patches.append(tiles.transpose(0, 2, 4, 1, 3).reshape(-1, 3, edge, edge))
    description = "patches of photographs (scikit-learn)"
    return _only_test(np.concatenate(patches), None, (), split, name, description)


# --- anybody's images --------------------------------------------------------------------------


def _image_folder(path, split, *, name, size, progress):
    files = split_files(path)[split]
    images = _read_images(files.paths, size, progress)
    return ImageSet(images, files.labels, files.classes, name, f"image folder {path.name}")


# --- reading and splitting ---------------------------------------------------------------------


def _read_class_folders(folder, size, progress):
    """Images in one subfolder a class: uint8 (n, 3, size, size), labels (n,), class names."""
    files = list_files(folder)
    return _read_images(files.paths, size, progress), files.labels, files.classes


def _read_images(files, size, progress):
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    for i, file in enumerate(progress_bar(files, desc="images", shown=progress)):
        images[i] = _resize(read_image(file), size)
    return images


def _resize(image, size):
    """PIL image → uint8 (3, size, size), area-averaged when it shrinks."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(image).transpose(2, 0, 1)


def _resized(image_set, size):
    if image_set.images.shape[-1] == size:
        return image_set
    images = np.stack(
        [_resize(Image.fromarray(image.transpose(1, 2, 0)), size) for image in image_set.images]
    )
    return ImageSet(
        images, image_set.labels, image_set.classes, image_set.name, image_set.description
    )


def _held_out(images, labels, split, classes, name, description, share=0.1):
    """Keep the test set whole; divide the training images into train and validation."""
    labels = np.asarray(labels)
    rows = np.arange(len(labels))
    if split != "test":
        train, validation = train_test_split(
            rows, test_size=share, random_state=SPLIT_SEED, stratify=labels
        )
        rows = np.sort(train if split == "train" else validation)
    return ImageSet(images[rows], labels[rows], classes, name, description)


def _only_test(images, labels, classes, split, name, description):
    if split != "test":
        raise ValueError(f"{name} is an out-of-distribution set: it has the split 'test' only")
    return ImageSet(images, labels, classes, name, description)


DATASETS = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
    "gaussian_noise": _gaussian_noise,
    "photo_patches": _photo_patches,
    "svhn": _svhn,
    "tiny_imagenet": _tiny_imagenet,
    "tiny_imagenet_100": _tiny_imagenet_100,
    "tiny_imagenet_other": _tiny_imagenet_other,
}
