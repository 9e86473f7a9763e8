"""What a network says of folders of images: what a report on it is made from."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader

from mistakes_lib.data.files import ImageFiles, list_unlabelled, read_image, split_files
from mistakes_lib.features.feature_set import FeatureSet, extract_features

__all__ = ["FolderFeatures", "features_of_folders", "thumbnails"]

BATCH_SIZE = 64
THUMBNAIL = 112  # pixels of the longer side


@dataclass(frozen=True)
class FolderFeatures:
    """Features of a folder's images.

    Attributes:
        sets: dict with the keys "train", "validation" and "test" → FeatureSet with labels.
        suspects: dict of name → FeatureSet without labels.
        files: dict with the same keys as ``sets`` → ImageFiles, in the order of the rows.

    Example:
        >>> seen = FeatureSet(np.zeros((2, 3)), np.zeros((2, 2)), [0, 1])
        >>> FolderFeatures({"test": seen}, {}, {}).sets["test"].accuracy
        0.5
    """

    sets: dict[str, FeatureSet]
    suspects: dict[str, FeatureSet]
    files: dict[str, ImageFiles]


def features_of_folders(network, folder, *, suspects=None, seed=0, device="auto", progress=False):
    """Run a network over a folder of images, divided into training, validation and test files.

    Args:
        network: :class:`~mistakes_lib.classifiers.loading.Network`.
        folder: path of the folder, divided as :func:`~mistakes_lib.data.files.split_files` says;
            a class is matched to an output by its name.
        suspects: dict of name → folder of images from elsewhere, whatever its subfolders.
        seed: of the division.
        device: "auto", "cpu", "cuda", …
        progress: show a progress bar for each set.

    Returns:
        FolderFeatures.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: a class that the network does not know, one with fewer than two training
            images, or a damaged image, which is named.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from mistakes_lib.classifiers.loading import load_network
        >>> name = "mistakes_lib.classifiers:densenet_bc"
        >>> network = load_network(name, ["cat", "dog"], size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(40):
        ...         path = Path(folder, ("cat", "dog")[i % 2], f"{i}.png")
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (8, 8), (6 * i, 0, 0)).save(path)
        ...     found = features_of_folders(network, folder)
        >>> {name: len(features) for name, features in found.sets.items()}
        {'train': 32, 'validation': 4, 'test': 4}
    """
    files = split_files(folder, network.classes, seed=seed)
    counts = np.bincount(files["train"].labels, minlength=len(network.classes))
    if counts.min() < 2:
        raise ValueError(
            f"class {network.classes[counts.argmin()]!r} has {counts.min()} training images in "
            f"{files['train'].origin}: a report needs two or more of each class"
        )
    others = {name: list_unlabelled(path) for name, path in (suspects or {}).items()}

    def watch(images):
        loader = DataLoader(images.prepared(network.preprocessing), batch_size=BATCH_SIZE)
        return extract_features(network.classifier, loader, device=device, progress=progress)

    return FolderFeatures(
        {name: watch(images) for name, images in files.items()},
        {name: watch(images) for name, images in others.items()},
        files,
    )


def thumbnails(files, rows):
    """Small pictures that a page can hold.

    Args:
        files: :class:`~mistakes_lib.data.files.ImageFiles`.
        rows: iterable of row numbers.

    Returns:
        dict of row → "data:image/jpeg;base64,…".
    """
    pictures = {}
    for row in rows:
        image = read_image(files.paths[row])
        if max(image.size) > THUMBNAIL:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=85)
        pictures[row] = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return pictures
