"""Tiny ImageNet, as its public archive unpacks."""

import numpy as np

from mistakes_lib.data.image_set import IMAGE_SIZE, ImageSet, only_test, read_images

__all__ = ["tiny_imagenet"]


def _tiny_imagenet_folder(root):
    folder = root / "tiny-imagenet-200"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Tiny ImageNet is not in {root}: unpack the public archive tiny-imagenet-200.zip "
            "there, or point the environment variable MISTAKES_DATA at the folder that holds it."
        )
    return folder


def tiny_imagenet(part, *, name, root, download, progress):
    """All classes' validation images at 32 × 32: an out-of-distribution set."""
    folder = _tiny_imagenet_folder(root)
    wnids = sorted((folder / "wnids.txt").read_text().split())
    index = {wnid: label for label, wnid in enumerate(wnids)}
    lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines]
    rows = [(file, index[wnid]) for file, wnid in rows if wnid in index]
    files = [folder / "val" / "images" / file for file, _ in rows]
    images = read_images(files, IMAGE_SIZE, progress)
    labels = np.array([label for _, label in rows])
    description = "Tiny ImageNet (validation images, 32 × 32)"
    return only_test(ImageSet(images, labels, tuple(wnids), name, description), part)
