"""The network of PixelCNN++: what it says of a pixel depends on the pixels before it alone.

Salimans, Karpathy, Chen & Kingma (2017), PixelCNN++, §2.3–2.5, https://arxiv.org/abs/1701.05517.

Two streams run through the network. In the *down* stream a position sees all rows above it; in the
*down-right* stream also the pixels to its left. Pixels come in raster order. The streams are halved
in size twice and brought back, with short-cuts between layers of equal size.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mistakes_lib.support.dropout import Dropout

__all__ = ["PixelCNNNetwork"]


class PixelCNNNetwork(nn.Module):
    """Images (n, 3, h, w) in [−1, 1] → parameters (n, n_outputs, h, w) of each pixel.

    Args:
        n_filters: channels of both streams.
        n_resnets: gated residual layers at each size.
        n_scales: sizes; h and w must be multiples of 2^(n_scales − 1).
        n_outputs: numbers for each pixel.
        dropout: probability in [0, 1).
    """

    def __init__(self, n_filters, n_resnets, n_scales, n_outputs, dropout):
        super().__init__()
        self.above = _down(4, n_filters, (2, 3))
        self.row_above = _down(4, n_filters, (1, 3))
        self.left = _down_right(4, n_filters, (2, 1))
        layer = (n_filters, dropout)
        self.encoder = nn.ModuleList(_Scale(n_resnets, *layer) for _ in range(n_scales))
        self.smaller = nn.ModuleList(_Smaller(n_filters) for _ in range(n_scales - 1))
        self.decoder = nn.ModuleList(
            _Scale(n_resnets + (scale > 0), *layer, shortcut=True) for scale in range(n_scales)
        )
        self.larger = nn.ModuleList(_Larger(n_filters) for _ in range(n_scales - 1))
        self.head = _pointwise(n_filters, n_outputs)

    def forward(self, images):
        ones = torch.ones_like(images[:, :1])
        x = torch.cat([images, ones], dim=1)  # (n, 4, h, w): the ones tell padding from black
        down = _shift_down(self.above(x))
        right = _shift_down(self.row_above(x)) + _shift_right(self.left(x))
        seen = [(down, right)]
        for scale, layers in enumerate(self.encoder):
            for layer in layers:
                down, right = layer(down, right)
                seen.append((down, right))
            if scale < len(self.smaller):
                down, right = self.smaller[scale](down, right)
                seen.append((down, right))
        down, right = seen.pop()
        for scale, layers in enumerate(self.decoder):
            for layer in layers:
                down, right = layer(down, right, *seen.pop())
            if scale < len(self.larger):
                down, right = self.larger[scale](down, right)
        return self.head(F.elu(right))


class _Scale(nn.ModuleList):
    """The layers of one size."""

    def __init__(self, n_layers, n_filters, dropout, shortcut=False):
        super().__init__(_Layer(n_filters, dropout, shortcut) for _ in range(n_layers))


class _Layer(nn.Module):
    """A gated residual layer of each stream; down-right also looks at down."""

    def __init__(self, n_filters, dropout, shortcut):
        super().__init__()
        self.down = _Gated(_down, (2, 3), n_filters, n_filters * shortcut, dropout)
        self.right = _Gated(_down_right, (2, 2), n_filters, n_filters * (1 + shortcut), dropout)

    def forward(self, down, right, seen_down=None, seen_right=None):
        down = self.down(down, seen_down)
        beside = down if seen_right is None else torch.cat([down, seen_right], dim=1)
        return down, self.right(right, beside)


class _Gated(nn.Module):
    """x + a ⊙ σ(b), where a and b are convolutions of x and of what lies beside it."""

    def __init__(self, convolution, kernel, n_filters, n_beside, dropout):
        super().__init__()
        self.first = convolution(2 * n_filters, n_filters, kernel)
        self.beside = _pointwise(2 * n_beside, n_filters) if n_beside else None
        self.dropout = Dropout(dropout)
        self.second = convolution(2 * n_filters, 2 * n_filters, kernel)

    def forward(self, x, beside=None):
        inner = self.first(_concat_elu(x))
        if self.beside is not None:
            inner = inner + self.beside(_concat_elu(beside))
        value, gate = self.second(self.dropout(_concat_elu(inner))).chunk(2, dim=1)
        return x + value * torch.sigmoid(gate)


class _Smaller(nn.Module):
    """Both streams at half the height and width."""

    def __init__(self, n_filters):
        super().__init__()
        self.down = _down(n_filters, n_filters, (2, 3), stride=2)
        self.right = _down_right(n_filters, n_filters, (2, 2), stride=2)

    def forward(self, down, right):
        return self.down(down), self.right(right)


class _Larger(nn.Module):
    """Both streams at twice the height and width, seeing no more than before."""

    def __init__(self, n_filters):
        super().__init__()
        self.down = weight_norm(nn.ConvTranspose2d(n_filters, n_filters, (2, 3), stride=2))
        self.right = weight_norm(nn.ConvTranspose2d(n_filters, n_filters, (2, 2), stride=2))

    def forward(self, down, right):
        height, width = 2 * down.shape[2], 2 * down.shape[3]
        return (
            self.down(down)[:, :, :height, 1 : width + 1],  # the kernel's middle column
            self.right(right)[:, :, :height, :width],
        )


class _Padded(nn.Sequential):
    """A convolution after zeros on the left, right and top, as large as its input over stride."""


def _down(n_in, n_out, kernel, stride=1):
    """Sees its row, the kernel's rows above, and as far to the right as to the left."""
    height, width = kernel
    pad = nn.ZeroPad2d(((width - 1) // 2, (width - 1) // 2, height - 1, 0))
    return _Padded(pad, weight_norm(nn.Conv2d(n_in, n_out, kernel, stride)))


def _down_right(n_in, n_out, kernel, stride=1):
    """Sees itself, what is to its left, and the rows above as far."""
    height, width = kernel
    pad = nn.ZeroPad2d((width - 1, 0, height - 1, 0))
    return _Padded(pad, weight_norm(nn.Conv2d(n_in, n_out, kernel, stride)))


def _pointwise(n_in, n_out):
    return weight_norm(nn.Conv2d(n_in, n_out, 1))


def _concat_elu(x):
    return F.elu(torch.cat([x, -x], dim=1))


def _shift_down(x):
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def _shift_right(x):
    return F.pad(x, (1, 0, 0, 0))[:, :, :, :-1]
