"""PixelCNN++, a density of the images themselves (§2.1)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "image_codes": ["histogram_bits", "webp_bits"],
        "pixel_cnn": ["PixelCNN"],
    },
)
