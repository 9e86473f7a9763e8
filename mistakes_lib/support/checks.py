"""Turn what a user passes into checked NumPy arrays, or say clearly what is wrong with it."""

import warnings
from numbers import Real

import numpy as np
import torch

from mistakes_lib.support.blocks import in_blocks

__all__ = [
    "as_array",
    "as_flags",
    "as_labels",
    "as_matrix",
    "as_vector",
    "channels_axis",
    "check_fraction",
    "check_pixels",
    "check_positive",
    "looks_like_probabilities",
]


def as_array(values, name, *, dtype=np.float64):
    """Return ``values`` (NumPy array, torch tensor or sequence) as a finite NumPy array.

    Args:
        values: the data, any shape.
        name: the argument's name, for the error message.
        dtype: dtype of the result; ``None`` keeps float32 and float64 as they are.

    Raises:
        ValueError: the array is empty, has masked entries, or has a NaN or an infinity (the first
            such row is named).
        TypeError: the values are not real numbers, or a sparse matrix.
    """
    if values is None:  # which NumPy would turn into a NaN
        raise TypeError(f"{name} must be numeric, got None")
    if isinstance(values, torch.Tensor):
        values = _of_tensor(values)
    elif isinstance(values, list | tuple):
        values = [_of_tensor(v) if isinstance(v, torch.Tensor) else v for v in values]
    if hasattr(values, "toarray"):
        raise TypeError(f"{name} is sparse ({type(values).__name__}): pass {name}.toarray()")
    if np.ma.is_masked(values):
        raise ValueError(f"{name} is a masked array with masked entries: remove or fill these")
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cmM":
            raise TypeError(f"{array.dtype} are no real numbers")
        if dtype is not None:
            array = array.astype(dtype, copy=False)
        elif array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numeric, got {type(values).__name__}: {error}") from None
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}): pass at least one row")
    rows = _not_finite(np.atleast_1d(array))
    if len(rows):
        raise ValueError(
            f"{name} has a NaN or an infinity in {len(rows)} of {len(np.atleast_1d(array))} rows, "
            f"the first at index {rows[0]}: remove or repair these rows"
        )
    return array


def _of_tensor(tensor):
    """A tensor of any precision and layout, with gradients or without, as a NumPy array."""
    tensor = tensor.detach().to("cpu")
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    known = not tensor.is_floating_point() or tensor.dtype in (torch.float32, torch.float64)
    return (tensor if known else tensor.float()).numpy()


def _not_finite(array):
    """Numbers of the rows (n,) of an array (n, …) with a NaN or an infinity."""

    def has_such(rows):
        return ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)

    return np.flatnonzero(in_blocks(has_such, array))


def as_vector(values, name):
    """Return finite float64 scores of shape (n,); see :func:`as_array`."""
    array = as_array(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    return array


def as_matrix(values, name, *, columns=None, dtype=np.float64):
    """Return a finite array of shape (n, d), d = ``columns`` if given; see :func:`as_array`."""
    array = as_array(values, name, dtype=dtype)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got shape {array.shape}")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name} has {array.shape[1]} columns, but {columns} were expected")
    return array


def as_labels(values, name, *, length=None, num_classes=None):
    """Return int64 class labels of shape (n,).

    Raises:
        ValueError: not one-dimensional, not whole numbers, not of ``length``, or outside
            0 … ``num_classes`` − 1 (the first offending index is named).
    """
    array = as_array(values, name)
    if array.ndim == 2 and array.shape[1] == 1:  # a column, as Keras has them
        array = array[:, 0]
    if array.ndim == 2 and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all():
        raise ValueError(f"{name} are one-hot, {array.shape}: pass {name}.argmax(axis=1)")
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if (array != np.round(array)).any():
        raise ValueError(f"{name} must be whole numbers (class indices)")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, but there are {length} rows")
    labels = array.astype(np.int64)
    if num_classes is not None:
        bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(bad):
            from_one = labels.min() >= 1 and labels.max() == num_classes
            raise ValueError(
                f"{name}[{bad[0]}] is {labels[bad[0]]}, outside 0…{num_classes - 1} "
                f"for {num_classes} classes"
                + (": if your labels begin with 1, subtract 1" if from_one else "")
            )
    return labels


def channels_axis(shape):
    """Which axis of images with this shape holds the channels: 1, or 3 as OpenCV has them.

    Example:
        >>> channels_axis((8, 3, 32, 32)), channels_axis((8, 32, 32, 3))
        (1, 3)
    """
    return 3 if len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3) else 1


def check_pixels(lowest, highest, *, is_bytes, advice):
    """Raise ValueError unless images are in the range that the library takes, and say why.

    Args:
        lowest, highest: of all pixels.
        is_bytes: the images are uint8, 0…255; else floats in [0, 1].
        advice: what to do about images that are standardised already.

    Example:
        >>> check_pixels(0.0, 255.0, is_bytes=False, advice="")
        Traceback (most recent call last):
        ...
        ValueError: images must lie in [0, 1], got values from 0 to 255: pass uint8 or divide by 255
    """
    if is_bytes:
        if 0 < highest <= 1:
            warnings.warn(
                "the images are uint8, 0…255, but no pixel is above 1: if these were floats in "
                "[0, 1], do not convert them to uint8",
                stacklevel=3,
            )
        return
    if np.isnan(lowest) or np.isnan(highest):
        raise ValueError("images have a NaN: remove or repair them")
    if lowest < 0 or highest > 1:
        way = advice if lowest < 0 else "pass uint8 or divide by 255"
        raise ValueError(
            f"images must lie in [0, 1], got values from {lowest:.4g} to {highest:.4g}: {way}"
        )
    if 0 < highest <= 1 / 255:
        warnings.warn(
            f"no pixel is above {highest:.2g} of 1: were the images divided by 255 twice?",
            stacklevel=3,
        )


def looks_like_probabilities(logits):
    """Whether every row of (n, c), c > 1, is not negative and sums to 1, as after a softmax.

    Example:
        >>> looks_like_probabilities(np.array([[0.9, 0.1]]))
        True
    """
    return bool(
        logits.shape[1] > 1
        and logits.min() >= 0
        and np.allclose(logits.sum(axis=1), 1, rtol=0, atol=1e-2)  # bfloat16 has three digits
    )


def as_flags(values, name, scores):
    """Return bool (n,), one for each score."""
    flags = as_vector(values, name)
    if len(flags) != len(scores):
        raise ValueError(f"{name} has {len(flags)} entries, but there are {len(scores)} scores")
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(f"{name} must be true or false for each score")
    return flags.astype(bool)


def check_positive(value, name):
    """Return ``value`` if it is a finite number above 0, else raise ValueError."""
    if not isinstance(value, Real) or not np.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a number above 0, got {value!r}")
    return value


def check_fraction(value, name):
    """Return ``value`` if it lies strictly between 0 and 1, else raise ValueError."""
    if not isinstance(value, Real) or not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return value
