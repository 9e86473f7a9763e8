"""A dense block as one autograd function."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from mistakes_lib.classifiers.fused.loader import kernels
from mistakes_lib.support.dropout import Dropout

__all__ = ["dense_block", "is_fusible"]

BF16 = torch.bfloat16
LAYER = (nn.BatchNorm2d, nn.ReLU, nn.Conv2d, Dropout, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, Dropout)


def is_fusible(layers, x):
    """Whether :func:`dense_block` may stand for these bottleneck layers, one after the other.

    It may in training on a CPU under autocast to bfloat16, without dropout and ``torch.compile``,
    where every part is just what it was built as.

    Args:
        layers: for each bottleneck, its BN, ReLU, conv 1×1, dropout, BN, ReLU, conv 3×3, dropout.
        x: the block's input (n, c, h, w).
    """
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == BF16
        and not torch.compiler.is_compiling()
        and x.shape[0] * x.shape[2] * x.shape[3] > 1
        and all(tuple(map(type, layer)) == LAYER for layer in layers)
        and all(_as_built(part) for layer in layers for part in layer)
        and len({(norm.momentum, norm.eps) for norm in _norms(layers)}) == 1
        and kernels() is not None
    )


def _as_built(part):
    if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks:
        return False
    if any(p.dtype != torch.float32 for p in part.parameters(recurse=False)):
        return False
    if isinstance(part, nn.BatchNorm2d):
        known = part.affine and part.track_running_stats and part.momentum is not None
        return part.training and known
    return not (isinstance(part, Dropout) and part.training and part.p > 0)


def _norms(layers):
    return [layer[i] for layer in layers for i in (0, 4)]


def dense_block(layers, x):
    """What the bottleneck layers give, each concatenated to its input.

    Running statistics are updated as torch does.

    Args:
        layers: as for :func:`is_fusible`, which must hold.
        x: (n, c, h, w).

    Returns:
        bfloat16 (n, c + layers · growth rate, h, w), channels last.
    """
    norms = _norms(layers)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
    running = [each for norm in norms for each in (norm.running_mean, norm.running_var)]
    parameters = [p for layer in layers for part in layer for p in part.parameters()]
    x = x.to(BF16).contiguous(memory_format=torch.channels_last)
    return _DenseBlock.apply(x, running, norms[0].momentum, norms[0].eps, *parameters)


class _DenseBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, running, momentum, eps, *parameters):
        made = kernels().block_forward(x, list(parameters), running, momentum, eps)
        channels, z, inner, moments = made
        ctx.save_for_backward(channels, z, inner, moments, *parameters)
        return channels

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        channels, z, inner, moments, *parameters = ctx.saved_tensors
        gradient = gradient.to(BF16).clone(memory_format=torch.channels_last)  # is overwritten
        known = torch.zeros(2, channels.shape[1], dtype=torch.float64)
        of_x, *others = kernels().block_backward(
            gradient, *known, channels, z, inner, moments, parameters
        )
        return of_x, None, None, None, *others
