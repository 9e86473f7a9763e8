"""Images between test set and strangers: the usual corruptions, at five strengths."""

import io
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar

from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["CORRUPTIONS", "STRENGTHS", "corrupt"]

STRENGTHS = (1, 2, 3, 4, 5)

# What each strength means, for images of 32 pixels: near the values by which CIFAR-10-C was made.
GAUSSIAN_NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, pixels in [0, 1]
IMPULSE_NOISE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of pixels set to black or white
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation, pixels
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to every pixel in [0, 1]
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # factor around the image's mean gray
SATURATION = (0.3, 0.1, 1.5, 2.0, 3.0)  # factor; the first two take colour away
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # side of the smaller image it passes through
JPEG = (80, 65, 58, 50, 40)  # quality
POSTERIZE = (6, 5, 4, 3, 2)  # bits a channel
ROTATE = (4, 8, 12, 16, 20)  # largest angle, degrees
OCCLUDE = (4, 6, 8, 10, 12)  # side of a gray square, pixels of 32


def corrupt(images, kind, strength, *, seed=0):
    """Corrupt images by one of the usual families, as a shifted test set.

    Computed with torchvision's transforms; nothing is downloaded.

    Args:
        images: uint8 (n, 3, h, w).
        kind: one of ``CORRUPTIONS``.
        strength: 1 (hardly seen) to 5.
        seed: of noise, angles and places; an image's own randomness depends on ``seed`` and its
            row only, so that the first images of a longer array are corrupted alike.

    Returns:
        uint8 (n, 3, h, w).

    Raises:
        ValueError: an unknown kind, a strength outside 1 … 5, or images of another dtype or shape.

    Source: Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions
    and Perturbations*, 2019, https://arxiv.org/abs/1903.12261

    Example:
        >>> gray = np.full((2, 3, 8, 8), 128, dtype=np.uint8)
        >>> corrupt(gray, "brightness", 4)[0, 0, 0, 0]  # 0.2 · 255 brighter
        np.uint8(179)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(
            f"images must be uint8 (n, 3, h, w) with n ≥ 1, got {images.dtype} {images.shape}"
        )
    if kind not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {kind!r}{did_you_mean(str(kind), CORRUPTIONS)}")
    check_scalar(strength, "strength", Integral, min_val=STRENGTHS[0], max_val=STRENGTHS[-1])
    check_scalar(seed, "seed", Integral, min_val=0)
    function, values = CORRUPTIONS[kind]
    corrupted = np.empty_like(images)
    for row, image in enumerate(images):
        rng = np.random.default_rng([seed, row])
        image = torch.from_numpy(np.ascontiguousarray(image))  # (3, h, w)
        corrupted[row] = function(image, values[strength - 1], rng).numpy()
    return corrupted


def _as_bytes(image):
    """Pixels in [0, 1] as uint8."""
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)


def _gaussian_noise(image, sigma, rng):
    noise = torch.from_numpy(rng.normal(scale=sigma, size=image.shape).astype(np.float32))
    return _as_bytes(image / 255 + noise)


def _impulse_noise(image, share, rng):
    hit = torch.from_numpy(rng.random(image.shape) < share)
    white = torch.from_numpy(rng.random(image.shape) < 0.5)
    return torch.where(hit, white.to(torch.uint8) * 255, image)


def _blur(image, sigma, rng):
    from torchvision.transforms.v2.functional import gaussian_blur

    return gaussian_blur(image, kernel_size=[7, 7], sigma=[sigma, sigma])


def _brightness(image, added, rng):
    return _as_bytes(image / 255 + added)


def _contrast(image, factor, rng):
    from torchvision.transforms.v2.functional import adjust_contrast

    return adjust_contrast(image, factor)


def _saturation(image, factor, rng):
    from torchvision.transforms.v2.functional import adjust_saturation

    return adjust_saturation(image, factor)


def _pixelate(image, share, rng):
    from PIL import Image

    height, width = image.shape[1:]
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    small = picture.resize((max(1, int(width * share)), max(1, int(height * share))), Image.BOX)
    coarse = small.resize((width, height), Image.NEAREST)
    return torch.from_numpy(np.asarray(coarse).copy()).permute(2, 0, 1)


def _jpeg(image, quality, rng):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)


def _posterize(image, bits, rng):
    from torchvision.transforms.v2.functional import posterize

    return posterize(image, bits)


def _rotate(image, degrees, rng):
    from torchvision.transforms.v2.functional import InterpolationMode, rotate

    angle = float(rng.uniform(-degrees, degrees))
    return rotate(image, angle, InterpolationMode.BILINEAR)


def _occlude(image, side, rng):
    height, width = image.shape[1:]
    side = max(1, round(side * height / 32))
    top, left = (int(rng.integers(0, max(1, length - side + 1))) for length in (height, width))
    image = image.clone()
    image[:, top : top + side, left : left + side] = 128
    return image


CORRUPTIONS = {
    "gaussian_noise": (_gaussian_noise, GAUSSIAN_NOISE),
    "impulse_noise": (_impulse_noise, IMPULSE_NOISE),
    "blur": (_blur, BLUR),
    "brightness": (_brightness, BRIGHTNESS),
    "contrast": (_contrast, CONTRAST),
    "saturation": (_saturation, SATURATION),
    "pixelate": (_pixelate, PIXELATE),
    "jpeg": (_jpeg, JPEG),
    "posterize": (_posterize, POSTERIZE),
    "rotate": (_rotate, ROTATE),
    "occlude": (_occlude, OCCLUDE),
}
