"""What a network says of folders of images: what a report on it is made from."""

import base64
import io
import os
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import DataLoader

from mistakes_lib.data.files import ImageFiles, list_unlabelled, read_image, split_files
from mistakes_lib.features.feature_set import FeatureSet, extract_features
from mistakes_lib.features.stored import fingerprint_of, stored_features

__all__ = ["FolderFeatures", "features_of_folders", "thumbnails"]

BATCH_SIZE = 64
WORTH_WORKERS = 1000  # images from which on it pays to start processes
THUMBNAIL = 112  # pixels of the longer side


@dataclass(frozen=True)
class FolderFeatures:
    """Features of a folder's images.

    Attributes:
        sets: dict with the keys "train", "validation" and "test" → FeatureSet with labels.
        suspects: dict of name → FeatureSet without labels.
        files: dict with the same keys as ``sets`` → ImageFiles, in the order of the rows.
        suspect_files: the same of ``suspects``.

    Example:
        >>> seen = FeatureSet(np.zeros((2, 3)), np.zeros((2, 2)), [0, 1])
        >>> FolderFeatures({"test": seen}, {}, {}).sets["test"].accuracy
        0.5
    """

    sets: dict[str, FeatureSet]
    suspects: dict[str, FeatureSet]
    files: dict[str, ImageFiles]
    suspect_files: dict[str, ImageFiles] = field(default_factory=dict)


def features_of_folders(
    network,
    folder,
    *,
    suspects=None,
    seed=0,
    device="auto",
    workers=None,
    keep=None,
    validation_from_test=False,
    progress=False,
):
    """Run a network over a folder of images, divided into training, validation and test files.

    Args:
        network: :class:`~mistakes_lib.classifiers.loading.Network`.
        folder: path of the folder, divided as :func:`~mistakes_lib.data.files.split_files` says;
            a class is matched to an output by its name.
        suspects: dict of name → folder of images from elsewhere, whatever its subfolders.
        seed: of the division.
        device: "auto", "cpu", "cuda", …
        workers: processes that read images ahead of the network; by default as many as there are
            cores, at most 8, and none for few images.
        keep: folder where features are kept in blocks, so that a killed call goes on where it was
            and ``mistakes fit`` can read them; None keeps none.
        validation_from_test: let half of the test images be the validation images, for a network
            that was trained on all others.
        progress: show a progress bar for each set.

    Returns:
        FolderFeatures. Classes without images are left to the network.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: a class that the network does not know, one with a single training image,
            images of different sizes where none is given, or a damaged image, which is named.

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
    files = split_files(
        folder, network.classes, seed=seed, validation_from_test=validation_from_test
    )
    counts = np.bincount(files["train"].labels, minlength=len(network.classes))
    few = np.flatnonzero(counts == 1)
    if len(few):
        raise ValueError(
            f"class {network.classes[few[0]]!r} has 1 training image in "
            f"{files['train'].origin}: a report needs two or more of each class"
        )
    others = {name: list_unlabelled(path) for name, path in (suspects or {}).items()}

    def watch(images):
        return _features(network, images, device, workers, progress)

    owner = [fingerprint_of(network.classifier), str(network.preprocessing), network.layer]
    owner += [network.classifier.mean.flatten().tolist(), network.classifier.std.flatten().tolist()]

    def watch_or_read(name, images):
        if keep is None:
            return watch(images)
        return stored_features(watch, keep, name, images, owner)

    return FolderFeatures(
        {name: watch_or_read(name, images) for name, images in files.items()},
        {name: watch_or_read(f"suspects-{name}", images) for name, images in others.items()},
        files,
        others,
    )


def _features(network, images, device, workers, progress):
    """Features of files, which workers read ahead."""
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers = min(8, cores) if len(images) >= WORTH_WORKERS and cores > 1 else 0
    loader = DataLoader(
        images.prepared(network.preprocessing), batch_size=BATCH_SIZE, num_workers=workers
    )
    try:
        return extract_features(network.classifier, loader, device=device, progress=progress)
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        if "equal size" in str(error):
            reason = (
                f"the images of {images.origin} differ in size: give --size, the edge of the "
                "images that the network was trained on"
            )
        elif "DataLoader worker" in str(error):  # the worker's own traceback ends in the reason
            reason = str(error).strip().splitlines()[-1].partition(": ")[2]
        else:
            raise
    raise ValueError(reason)  # out here, so that nothing holds the workers any longer


def thumbnails(files, rows):
    """Small pictures that a page can hold.

    Args:
        files: :class:`~mistakes_lib.data.files.ImageFiles`.
        rows: iterable of row numbers.

    Returns:
        dict of row → str, an address of the kind ``data:image/jpeg;base64``.
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
