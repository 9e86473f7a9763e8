"""Matrix products in float32 as fast as the processor can.

On a CPU torch leaves products to MKL, which on processors that are not Intel's (AMD's with AVX-512,
for one) reaches half the rate of oneDNN, torch's library for layers of networks. A layer without a
network around it is a product.
"""

from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

__all__ = ["Affine"]


class Affine:
    """x ↦ x Wᵀ + c, in float32 on a CPU that is not Intel's by oneDNN, else by torch.

    Results carry no gradients.

    Args:
        weight: W, (k, d).
        constant: c, (k,), of the same dtype.

    Example:
        >>> Affine(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]))(torch.tensor([[10.0, 20.0]]))
        tensor([[53.]])
    """

    def __init__(self, weight, constant):
        single = weight.dtype == torch.float32 and weight.device.type == "cpu"
        self.by_layers = single and torch.backends.mkldnn.is_available() and not _is_intel()
        parts = weight.detach().contiguous(), constant.detach()
        self.weight, self.constant = (t.to_mkldnn() for t in parts) if self.by_layers else parts

    @torch.no_grad()
    def __call__(self, rows):
        """(n, d) with n ≥ 1 → (n, k), of the weight's dtype."""
        if not self.by_layers:
            return F.linear(rows, self.weight, self.constant)
        return F.linear(rows.to_mkldnn(), self.weight, self.constant).to_dense()


@cache
def _is_intel():
    """Whether the processor is Intel's, as far as the system tells (Linux does)."""
    information = Path("/proc/cpuinfo")
    return information.is_file() and "GenuineIntel" in information.read_text(encoding="utf-8")
