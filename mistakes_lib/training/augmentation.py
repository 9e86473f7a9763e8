"""Random translations and flips of a batch, on whatever device the batch is (Appendix C)."""

import torch
from torch.nn import functional as F

__all__ = ["augment"]


def augment(images, *, max_shift=2, flip=True, generator=None):
    """Translate each image by up to ``max_shift`` pixels, and mirror half of them (Appendix C).

    Pixels that a translation uncovers are black.

    Args:
        images: (n, c, h, w), any dtype; not changed.
        max_shift: largest translation in pixels, along each axis.
        flip: mirror left and right with probability 1/2.
        generator: torch.Generator on the images' device, for reproducible draws.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: ``max_shift`` is negative, or the images are not four-dimensional.

    Example:
        >>> images = torch.arange(12).reshape(1, 1, 3, 4)
        >>> torch.equal(augment(images, max_shift=0, flip=False), images)
        True
    """
    if max_shift < 0:
        raise ValueError(f"max_shift must be at least 0, got {max_shift}")
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, c, h, w), got {tuple(images.shape)}")
    n, _, h, w = images.shape
    draw = {"generator": generator, "device": images.device}
    rows = torch.arange(h, device=images.device).expand(n, h)
    columns = torch.arange(w, device=images.device).expand(n, w)
    if flip:
        mirrored = torch.rand(n, 1, **draw) < 0.5
        columns = torch.where(mirrored, w - 1 - columns, columns)
    shifts = torch.randint(0, 2 * max_shift + 1, (2, n, 1), **draw)  # offsets into the padding
    padded = F.pad(images, (max_shift,) * 4)  # (n, c, h + 2 s, w + 2 s)
    index = torch.arange(n, device=images.device)
    picked = padded.permute(0, 2, 3, 1)[
        index[:, None, None], (rows + shifts[0])[:, :, None], (columns + shifts[1])[:, None, :]
    ]  # (n, h, w, c)
    return picked.permute(0, 3, 1, 2)
