"""Matrix products in float32 as fast as the processor can.

On a CPU torch leaves products to MKL, which on some processors (AMD's with AVX-512, for one)
reaches half the rate of oneDNN, torch's library for layers of networks. A layer without a network
around it is a product.
"""

import torch
from torch.nn import functional as F

__all__ = ["Affine"]


class Affine:
    """x ↦ x Wᵀ + c, in float32 on a CPU by oneDNN, else by torch's own product.

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
        self.by_layers = single and torch.backends.mkldnn.is_available()
        parts = weight.detach().contiguous(), constant.detach()
        self.weight, self.constant = (t.to_mkldnn() for t in parts) if self.by_layers else parts

    @torch.no_grad()
    def __call__(self, rows):
        """(n, d) with n ≥ 1 → (n, k), of the weight's dtype."""
        if not self.by_layers:
            return F.linear(rows, self.weight, self.constant)
        return F.linear(rows.to_mkldnn(), self.weight, self.constant).to_dense()
