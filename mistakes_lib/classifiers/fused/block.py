"""A dense block, and the transition behind it, as one autograd function."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from mistakes_lib.classifiers.fused.loader import kernels
from mistakes_lib.support.dropout import Dropout

__all__ = ["dense_block", "is_fusible"]

BF16 = torch.bfloat16
LAYER = (nn.BatchNorm2d, nn.ReLU, nn.Conv2d, Dropout, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, Dropout)
TRANSITION = (nn.BatchNorm2d, nn.ReLU, nn.Conv2d, Dropout, nn.AvgPool2d)


def is_fusible(layers, x, transition=None):
    """Whether :func:`dense_block` may stand for these bottleneck layers, one after the other.

    It may in training on a CPU under autocast to bfloat16, without dropout, where every part
    is just what it was built as.

    Args:
        layers: for each bottleneck, its BN, ReLU, conv 1×1, dropout, BN, ReLU, conv 3×3, dropout.
        x: the block's input (n, c, h, w).
        transition: BN, ReLU, conv 1×1, dropout, mean of 2 × 2 pixels; or None.
    """
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == BF16
        and x.shape[0] * x.shape[2] * x.shape[3] > 1
        and all(tuple(map(type, layer)) == LAYER for layer in layers)
        and (transition is None or tuple(map(type, transition)) == TRANSITION)
        and (transition is None or min(x.shape[2:]) > 1)
        and all(_as_built(part) for layer in _groups(layers, transition) for part in layer)
        and len({(norm.momentum, norm.eps) for norm in _norms(layers, transition)}) == 1
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


def _groups(layers, transition):
    return [*layers, transition] if transition is not None else layers


def _norms(layers, transition):
    parts = [part for group in _groups(layers, transition) for part in group]
    return [part for part in parts if isinstance(part, nn.BatchNorm2d)]


def dense_block(layers, x, transition=None):
    """What the bottleneck layers give, each concatenated to its input; then the transition.

    Running statistics are updated as torch does.

    Args:
        layers: as for :func:`is_fusible`, which must hold.
        x: (n, c, h, w).
        transition: as for :func:`is_fusible`.

    Returns:
        bfloat16 (n, c + layers · growth rate, h, w), channels last; behind a transition,
        as many channels as it leaves and (h // 2, w // 2).
    """
    norms = _norms(layers, transition)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
    running = [each for norm in norms for each in (norm.running_mean, norm.running_var)]
    groups = _groups(layers, transition)
    parameters = [p for group in groups for part in group for p in part.parameters()]
    x = x.to(BF16).contiguous(memory_format=torch.channels_last)
    return _DenseBlock.apply(x, running, norms[0].momentum, norms[0].eps, *parameters)


class _DenseBlock(torch.autograd.Function):
    """Six parameters a layer, and three of a transition if there is one."""

    @staticmethod
    def forward(ctx, x, running, momentum, eps, *parameters):
        last = len(parameters) // 6 * 6
        made = kernels().block_forward(x, parameters[:last], running, momentum, eps)
        channels, *_, moments = made
        ctx.save_for_backward(*made, *parameters)
        if last == len(parameters):
            return channels
        return kernels().transition_forward(channels, moments, *parameters[last:])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        channels, z, inner, moments, *parameters = ctx.saved_tensors
        last = len(parameters) // 6 * 6
        gradient = gradient.to(BF16)
        if last == len(parameters):
            gradient = gradient.clone(memory_format=torch.channels_last)  # is overwritten
            known = gradient, *torch.zeros(2, channels.shape[1], dtype=torch.float64)
            of_transition = ()
        else:
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            *known, gamma, beta, weight = kernels().transition_backward(
                gradient, channels, moments, *parameters[last:]
            )
            of_transition = gamma, beta, weight
        of_x, *others = kernels().block_backward(
            *known, channels, z, inner, moments, parameters[:last]
        )
        return of_x, None, None, None, *others, *of_transition
