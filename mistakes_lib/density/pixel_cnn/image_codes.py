"""Bits per dimension of images without a network: what a PixelCNN has to beat."""

import io

import numpy as np
from PIL import Image

__all__ = ["histogram_bits", "webp_bits"]


def histogram_bits(train, images):
    """Mean bits per dimension if all pixels were independent, each colour as frequent as before.

    Args:
        train: uint8 (n, 3, h, w), of which the 256 values of each channel are counted.
        images: uint8 (m, 3, h, w).

    Returns:
        float. No value is impossible: each count is one more than what was seen.

    Example:
        >>> black = np.zeros((1, 3, 16, 16), dtype=np.uint8)
        >>> round(histogram_bits(black, black), 2), round(histogram_bits(black, black + 255), 2)
        (0.99, 9.0)
    """
    bits = 0.0
    for channel in range(train.shape[1]):
        counts = np.bincount(train[:, channel].ravel(), minlength=256) + 1
        seen = np.bincount(images[:, channel].ravel(), minlength=256)
        bits -= seen @ np.log2(counts / counts.sum())
    return float(bits / images.size)


def webp_bits(images):
    """Mean bits per dimension of lossless WebP files, headers included.

    Args:
        images: uint8 (n, 3, h, w).

    Returns:
        float.

    Example:
        >>> noise = np.random.default_rng(0).integers(256, size=(1, 3, 64, 64), dtype=np.uint8)
        >>> webp_bits(noise) > 8 > webp_bits(np.zeros_like(noise))
        True
    """
    size = 0
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "WEBP", lossless=True, method=6)
        size += len(file.getvalue())
    return 8 * size / images.size
