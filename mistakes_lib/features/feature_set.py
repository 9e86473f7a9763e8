"""What a classifier says of a batch of images: features, logits and, if known, labels (§3.1)."""

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar

from mistakes_lib.classifiers.weights import unwrap
from mistakes_lib.features.batches import batches_of, number_of_batches
from mistakes_lib.support.checks import (
    as_labels,
    as_matrix,
    channels_axis,
    check_pixels,
    looks_like_probabilities,
)
from mistakes_lib.support.devices import channels_last, eval_mode, resolve_device
from mistakes_lib.support.progress import progress_bar
from mistakes_lib.support.storage import load_arrays, save_arrays

__all__ = ["FeatureSet", "extract_features"]

STANDARDISED = 20  # deviations: a standardised pixel is never farther from its mean
STANDARDISED_TWICE = (
    "give pixels; the classifier standardises by itself, so leave out your loader's Normalize, or "
    "the classifier's mean and std"
)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features F = f_θ(X), logits W F + b and labels of n inputs (§3.1).

    Args:
        features: float32 (n, d), the classifier's last hidden layer.
        logits: float32 (n, c), unnormalised class scores.
        labels: int64 (n,) in 0 … c − 1, or None where the inputs have no class.

    Warns:
        UserWarning: every row of logits looks like probabilities.

    Raises:
        ValueError: shapes disagree, a value is not finite, or a label is out of range.

    Example:
        >>> batch = FeatureSet(np.eye(2), np.array([[2.0, 1.0], [3.0, 0.0]]), np.array([0, 1]))
        >>> batch.predictions, batch.correct
        (array([0, 0]), array([ True, False]))
        >>> len(batch[batch.correct])
        1
    """

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self):
        features = as_matrix(self.features, "features", dtype=np.float32)
        logits = as_matrix(self.logits, "logits", dtype=np.float32)
        if len(features) != len(logits):
            raise ValueError(f"features has {len(features)} rows, but logits has {len(logits)}")
        labels = self.labels
        if labels is not None:
            labels = as_labels(labels, "labels", length=len(features), num_classes=logits.shape[1])
        if looks_like_probabilities(logits):
            warnings.warn(
                "every row of logits is not negative and sums to 1: these look like probabilities; "
                "pass what enters the softmax, or their logarithms",
                stacklevel=3,
            )
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels)

    def __len__(self):
        return len(self.features)

    @property
    def shape(self):
        """Rows and columns of the features; scikit-learn takes rows of what has a shape."""
        return self.features.shape

    def __getitem__(self, rows):
        """The rows picked by a boolean mask, a slice or an index array, as a FeatureSet."""
        if isinstance(rows, tuple) and rows[1:] == (Ellipsis,):  # as scikit-learn takes rows
            rows = rows[0]
        rows = np.atleast_1d(rows) if not isinstance(rows, slice) else rows
        labels = None if self.labels is None else self.labels[rows]
        return FeatureSet(self.features[rows], self.logits[rows], labels)

    @property
    def predictions(self):
        """Predicted classes ŷ, int64 (n,)."""
        return self.logits.argmax(axis=1).astype(np.int64)

    @property
    def correct(self):
        """Whether each prediction is right, bool (n,)."""
        if self.labels is None:
            raise ValueError("this FeatureSet has no labels, so no prediction is right or wrong")
        return self.predictions == self.labels

    @property
    def accuracy(self):
        """Share of right predictions, in [0, 1]."""
        return float(self.correct.mean())

    def save(self, path, *, features_dtype=np.float32):
        """Write a safetensors file with a checksum; ``features_dtype=np.float16`` halves it.

        Raises:
            ValueError: a feature is too large for ``features_dtype``.
        """
        largest = np.abs(self.features).max()
        if largest > np.finfo(features_dtype).max:
            raise ValueError(f"a feature of size {largest} does not fit {np.dtype(features_dtype)}")
        arrays = {
            "features": self.features.astype(features_dtype),
            "logits": self.logits,
        }
        if self.labels is not None:
            arrays["labels"] = self.labels
        save_arrays(path, arrays, {"kind": "FeatureSet"})

    @classmethod
    def load(cls, path):
        """Read a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or holds something else.
        """
        arrays, _ = load_arrays(path, ["FeatureSet"])
        return cls(arrays["features"], arrays["logits"], arrays.get("labels"))


def extract_features(
    classifier, images_or_loader, *, labels=None, device="auto", batch_size=None, progress=False
):
    """Run a classifier over images and keep features and logits (§3.2).

    Args:
        classifier: a :class:`~mistakes_lib.classifiers.FeatureClassifier`.
        images_or_loader: images (n, 3, h, w) or (n, h, w, 3), uint8 in 0…255 or float in [0, 1], a
            torch Dataset of images or (image, label) pairs, or an iterable of batches such as a
            DataLoader: of images, of (images, labels) or of dicts with ``pixel_values`` (or
            ``images``, ``image``) and ``labels`` (or ``label``).
        labels: int (n,), if ``images_or_loader`` brings none; else they must be the same.
        device: "auto", "cpu", "cuda", …
        batch_size: images a step, for arrays, tensors and Datasets; by default 64 on a CPU, whose
            cache holds what a layer makes of so many small images, else 512. Features differ with
            it by rounding only.
        progress: show a progress bar.

    Returns:
        FeatureSet of n rows, in the order of the images.

    Raises:
        TypeError: what is given holds no images, or the classifier is no FeatureClassifier.
        ValueError: there are no images, they are integers other than uint8, or floats outside
            [0, 1], as 0…255, or as images that a loader has standardised already: the classifier
            standardises by itself. One that does not (mean 0, deviation 1) takes those. Or the
            images bring other labels than those given.

    Example:
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> classifier = FeatureClassifier(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        >>> images = np.zeros((5, 3, 2, 2), dtype=np.uint8)
        >>> batch = extract_features(classifier, images, labels=[0, 1, 2, 0, 1], device="cpu")
        >>> batch.features.shape, batch.logits.shape
        ((5, 12), (5, 3))
    """
    device = resolve_device(device)
    classifier = unwrap(classifier)
    if not (hasattr(classifier, "mean") and hasattr(classifier, "head")):
        raise TypeError(
            f"classifier must be a FeatureClassifier, got {type(classifier).__name__}: wrap it "
            "with FeatureClassifier.from_module(net, mean=…, std=…)"
        )
    batch_size = _usual_batch_size(device) if batch_size is None else batch_size
    check_scalar(batch_size, "batch_size", Integral, min_val=1)
    classifier = classifier.to(device)  # not in inference mode: later gradients need usual tensors
    features, logits, seen_labels = [], [], []
    with eval_mode(classifier), torch.inference_mode():
        for images, batch_labels in progress_bar(
            batches_of(images_or_loader, batch_size),
            desc="features",
            total=number_of_batches(images_or_loader, batch_size),
            shown=progress,
        ):
            images = _as_pixels(images, classifier, device)
            batch = classifier.features(images)  # (b, d)
            features.append(batch.float().cpu().numpy())
            logits.append(classifier.head(batch).float().cpu().numpy())
            if batch_labels is not None:
                seen_labels.append(np.atleast_1d(_plain(batch_labels)))
    if not features:
        raise ValueError("there are no images to extract features from")
    if seen_labels:
        brought = np.concatenate(seen_labels)
        if labels is not None and not np.array_equal(np.ravel(_plain(labels)), brought.ravel()):
            raise ValueError(
                "labels are given, but the images bring others: leave out one of the two"
            )
        labels = brought
    return FeatureSet(np.concatenate(features), np.concatenate(logits), labels)


def _plain(labels):
    """Labels as an array, wherever a tensor of them lies."""
    return labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)


def _usual_batch_size(device):
    """Images a step on a torch device."""
    return 64 if device.type == "cpu" else 512


def _as_pixels(images, classifier, device):
    """A batch as the classifier takes it: (b, channels, h, w) in [0, 1], on its device."""
    if not isinstance(images, torch.Tensor):
        # A copy, since torch refuses reversed arrays and warns of read-only ones.
        images = torch.tensor(np.ascontiguousarray(images))
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or float, got {images.dtype}")
    if images.ndim == 3:
        raise ValueError(
            f"images must have shape (n, 3, h, w), got {tuple(images.shape)}: give a single image "
            "as images[None], and a list of them as np.stack(images)"
        )
    images = images.movedim(channels_axis(images.shape), 1) if images.ndim == 4 else images
    is_bytes = images.dtype == torch.uint8
    if images.numel():
        lowest, highest = (float(value) for value in images.aminmax())
        plain = not classifier.mean.any() and bool((classifier.std == 1).all())
        if not (plain and not is_bytes and -STANDARDISED < lowest < 0 < highest < STANDARDISED):
            check_pixels(lowest, highest, is_bytes=is_bytes, advice=STANDARDISED_TWICE)
    return channels_last(images.to(device, classifier.mean.dtype) / (255 if is_bytes else 1))
