"""Tiny ImageNet, as its public archive unpacks."""

import numpy as np

from mistakes_lib.data.image_set import IMAGE_SIZE, only_test, read_images

__all__ = ["tiny_imagenet"]


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
    return read_images(files, IMAGE_SIZE, progress), np.array([label for _, label in rows])


def _wnids(folder):
    return sorted((folder / "wnids.txt").read_text().split())


def tiny_imagenet(split, *, name, root, download, progress):
    """All classes' validation images at 32 × 32: an out-of-distribution set."""
    folder = _tiny_imagenet_folder(root)
    wnids = _wnids(folder)
    images, labels = _tiny_imagenet_validation(folder, wnids, progress)
    description = "Tiny ImageNet (validation images, 32 × 32)"
    return only_test(images, labels, tuple(wnids), split, name, description)
