"""Dropout at a quarter of its price on a CPU, where torch draws a random number for each entry."""

import torch
from torch import nn

__all__ = ["Dropout"]

LEVELS = 2**16  # probabilities are multiples of 1 / LEVELS: four random numbers in 64 random bits


class Dropout(nn.Dropout):
    """Zero each entry with probability ``p`` in training, and scale the others by 1 / (1 − p).

    On any device but the CPU it is :class:`torch.nn.Dropout`. On the CPU it draws 64 bits for four
    entries from torch's generator, so ``p`` is rounded to a multiple of 2⁻¹⁶, and the scale with
    it: the expectation stays that of the input.

    Args:
        p: probability in [0, 1].
        inplace: as in torch, for the other devices only.

    Example:
        >>> dropout = Dropout(0.25)
        >>> sorted(set(dropout(torch.full((1000,), 3.0)).tolist()))
        [0.0, 4.0]
        >>> dropout.eval()(torch.full((2,), 3.0))
        tensor([3., 3.])
    """

    def forward(self, x):
        dropped = round(self.p * LEVELS)
        if not self.training or not 0 < dropped < LEVELS or x.device.type != "cpu":
            return super().forward(x)
        return x * _mask(x.detach(), dropped)


@torch.library.custom_op(
    "mistakes::dropout_mask", mutates_args=(), tags=[torch.Tag.nondeterministic_seeded]
)
def _mask(x: torch.Tensor, dropped: int) -> torch.Tensor:
    """0 with probability ``dropped`` / LEVELS, else the scale: as x in shape, dtype and layout."""
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    strides = torch.empty_like(x, device="meta").stride()  # of x, without gaps
    levels = words.view(torch.int16)[: x.numel()].as_strided(x.shape, strides)
    kept = levels >= dropped - LEVELS // 2
    return kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


@_mask.register_fake
def _(x, dropped):
    return torch.empty_like(x)
