"""One image file becomes pixels: every format that Pillow reads, every depth, or a clear error."""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = [
    "Preprocessing",
    "as_rgb",
    "common_size",
    "image_suffixes",
    "is_hidden",
    "read_image",
]

# What Pillow knows by name but does not decode itself, or what holds no picture of pixels.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF", "FITS"}
SYSTEM_FILES = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"}
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # tags of a TIFF file
SIGNED = 2
SIZES_READ = 200  # images whose size is read from their headers, spread over the folder


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, cut out the centre, as torchvision's and timm's networks want it.

    Args:
        resize: pixels of the shorter side; None leaves every image as large as it is.
        crop: pixels of the square that is cut out; None cuts nothing out.
        interpolation: "bilinear", "bicubic", …
        channels: 3 for red, green and blue, 1 for grey.

    Example:
        >>> Preprocessing(32, 28)(Image.new("RGB", (64, 40))).shape
        torch.Size([3, 28, 28])
        >>> Preprocessing(None, None, channels=1)(Image.new("RGB", (64, 40))).shape
        torch.Size([1, 40, 64])
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    channels: int = 3

    def __call__(self, image):
        """Pixels uint8 (channels, h, w), a tensor, of an RGB image of PIL."""
        from torchvision.transforms import InterpolationMode  # takes seconds to import
        from torchvision.transforms import functional as transforms

        if self.channels == 1:
            image = image.convert("L")
        if self.resize is not None:
            mode = InterpolationMode(self.interpolation)
            image = transforms.resize(image, [self.resize], interpolation=mode, antialias=True)
        if self.crop is not None:
            image = transforms.center_crop(image, [self.crop])
        return transforms.pil_to_tensor(image)

    def __str__(self):
        parts = []
        if self.resize is not None:
            parts.append(f"shorter side resized to {self.resize} pixels ({self.interpolation})")
        if self.crop is not None:
            parts.append(f"central {self.crop} × {self.crop} cut out")
        parts = parts or ["size as it is"]
        return ", ".join(parts + ["made grey"] * (self.channels == 1))


def read_image(path):
    """Read an image file as an RGB image of PIL, 8 bits a channel.

    Images of 16 bits are scaled to 8 by their depth, 65535 → 255. An alpha channel is dropped and
    nothing is turned, as torchvision's ImageFolder reads images.

    Args:
        path: the file, or a file object such as ``io.BytesIO``; a film's first frame is taken.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged or no image, or its numbers have no known range (32-bit integers,
            integers with a sign, and floats).
    """
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # the readers of the many formats raise many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no image: {reason}") from None


def as_rgb(image):
    """An image of PIL of any mode as RGB, 8 bits a channel; 16 bits are scaled to 8.

    Pillow alone would make everything above 255 of 65535 white.

    Raises:
        ValueError: its numbers have no known range.

    Example:
        >>> as_rgb(Image.fromarray(np.full((1, 1), 65535 // 5, np.uint16))).getpixel((0, 0))
        (51, 51, 51)
    """
    return _as_bytes(image).convert("RGB")


def _as_bytes(image):
    """The same image with 8 bits a channel."""
    if _tag(image, SAMPLE_FORMAT, 1) == SIGNED:  # heights, or the densities of a CT scan
        raise ValueError(
            "its pixels are numbers with a sign, without a known range; save it with 8 or 16 bits "
            "a channel, from 0 upwards"
        )
    if image.mode.startswith("I;16") or (image.mode == "I" and _bits(image) == 16):
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray((deep // 257).clip(max=255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its {image.mode} pixels are 32-bit numbers without a known range; save it with "
            "8 or 16 bits a channel"
        )
    if image.mode in ("LAB", "La", "RGBa"):  # which Pillow converts to RGB by a detour only
        return image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, "RGB"))
    return image


def _bits(image):
    """Bits of a grey image that Pillow holds in 32: a PNG or PGM of those has 16."""
    if image.format in ("PNG", "PPM", "JPEG2000"):
        return 16
    return _tag(image, BITS_PER_SAMPLE, 32)


def _tag(image, number, default):
    """The value of a tag of a TIFF file, of the first channel."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return value[0] if isinstance(value, tuple) else value


@functools.cache
def image_suffixes():
    """The suffixes of image files that Pillow reads here, in lower case.

    Example:
        >>> {".png", ".jpg", ".tif", ".gif", ".ppm", ".webp"} <= image_suffixes()
        True
    """
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in NO_PICTURES
    )


def is_hidden(name):
    """Whether a file or folder is nobody's image: hidden, or made by an operating system.

    Example:
        >>> [is_hidden(name) for name in ("._x.png", "__MACOSX", ".ipynb_checkpoints", "x.png")]
        [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def common_size(paths):
    """Width and height of image files, if all have the same.

    Args:
        paths: sequence of paths; of more than 200, as many are looked at, spread over all.

    Returns:
        (width, height), or None where they differ.

    Raises:
        ValueError: a file is damaged or no image.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 3)).save(Path(folder, "a.png"))
        ...     common_size([Path(folder, "a.png")])
        (4, 3)
    """
    some = paths[:: max(1, len(paths) // SIZES_READ)]
    sizes = set()
    for path in some:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except Exception as error:  # as in read_image
            raise ValueError(f"{path} is damaged or no image: {error}") from None
        if len(sizes) > 1:
            return None
    return sizes.pop() if sizes else None
