"""Batches of images from whatever holds them: arrays, tensors, Datasets, loaders, dicts."""

import re
import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

__all__ = ["batches_of", "number_of_batches"]

IMAGE_KEYS = ("pixel_values", "images", "image", "img", "x", "inputs")
LABEL_KEYS = ("labels", "label", "targets", "target", "y", "class")


def batches_of(source, batch_size):
    """Go through a source of images batch by batch.

    Args:
        source: images (n, …) in an array or a tensor, a Dataset, or an iterable of batches.
        batch_size: images a step, for arrays, tensors and Datasets.

    Yields:
        (images, labels or None).

    Raises:
        TypeError: no images are found in it.

    Example:
        >>> list(batches_of([{"pixel_values": np.zeros((2, 3, 1, 1)), "labels": [0, 1]}], 8))[0][1]
        [0, 1]
    """
    if isinstance(source, np.ndarray | torch.Tensor):
        for start in range(0, len(source), batch_size):
            yield source[start : start + batch_size], None
        return
    if _is_dataset(source):
        source = DataLoader(source, batch_size=batch_size)
    if not isinstance(source, Iterable) or isinstance(source, str | bytes | Mapping):
        raise TypeError(
            f"images must be an array, a tensor, a Dataset or an iterable of batches, got "
            f"{type(source).__name__}"
        )
    try:
        for batch in source:
            yield _parts(batch)
    except TypeError as error:
        if "default_collate" in str(error):
            raise TypeError(
                "the data set gives no tensors: give it a transform such as torchvision's ToTensor "
                f"({str(error).splitlines()[0][:100]})"
            ) from None
        raise


def number_of_batches(source, batch_size):
    """How many batches there will be, for the progress bar; None where nobody knows."""
    if isinstance(source, np.ndarray | torch.Tensor) or _is_dataset(source):
        return -(-len(source) // batch_size) if hasattr(source, "__len__") else None
    return len(source) if hasattr(source, "__len__") else None


def _is_dataset(source):
    """Whether its items are single images: a torch Dataset, or Hugging Face's, which is none."""
    if isinstance(source, Dataset):
        return True
    is_sequence = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    return is_sequence and hasattr(source, "features") and hasattr(source, "with_format")


def _parts(batch):
    """Images and labels of a batch."""
    if isinstance(batch, Mapping):
        images = next((batch[key] for key in IMAGE_KEYS if key in batch), None)
        if images is None:
            raise TypeError(
                f"a batch is a dict with the keys {', '.join(map(str, batch))}: none of them is "
                f"{', '.join(IMAGE_KEYS)}"
            )
        labels = next((batch[key] for key in LABEL_KEYS if key in batch), None)
        others = [key for key in batch if re.search("label|target|class", str(key).lower())]
        if labels is None and others:
            warnings.warn(
                f"a batch is a dict with {', '.join(map(str, others))}, but the keys of labels are "
                f"{', '.join(LABEL_KEYS)}: it is taken to have none",
                stacklevel=2,
            )
        return images, labels
    if isinstance(batch, list | tuple):
        if not len(batch):
            raise TypeError("a batch is empty: it must be images, or (images, labels)")
        if len(batch) == 1 and isinstance(batch[0], Mapping):
            return _parts(batch[0])
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None
