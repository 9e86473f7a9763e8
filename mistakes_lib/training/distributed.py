"""Several processes of one training, each with its share of every batch.

``accelerate launch`` (or torchrun) starts the same command in every process; Accelerate finds out
how many there are and connects them. A process that was started alone is the main one of one, and
nothing here costs it anything.
"""

import os
from functools import cache

import torch
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from mistakes_lib.support.devices import resolve_device

__all__ = ["connect", "count", "is_main", "parallel", "rank", "share", "total", "wait"]


def connect(device="auto"):
    """Meet the other processes, if there are any, and say where this one computes.

    Args:
        device: "auto", "cpu", "cuda", …

    Returns:
        torch.device; on a machine with several GPUs each process has its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return resolve_device(device)
    return _join(cpu=resolve_device(device).type == "cpu")


@cache
def _join(cpu):
    from accelerate import PartialState  # takes a second, and one process has no need of it

    return PartialState(cpu=cpu).device


def _connected():
    return distributed.is_available() and distributed.is_initialized()


def count():
    """Number of processes that train together."""
    return distributed.get_world_size() if _connected() else 1


def rank():
    """Which of them this one is, from 0."""
    return distributed.get_rank() if _connected() else 0


def is_main():
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


def wait():
    """Go on when all processes have come here."""
    if _connected():
        distributed.barrier()


def share(length):
    """This process's part of a batch of so many rows, as a slice.

    The parts are as equal as can be; together they are the batch.

    Example:
        >>> share(7)
        slice(0, 7, None)
    """
    return slice(length * rank() // count(), length * (rank() + 1) // count())


def total(tensor):
    """The sum of a tensor over all processes, in place."""
    if _connected():
        distributed.all_reduce(tensor)
    return tensor


def parallel(network):
    """Let a network's gradients be the mean over all processes, and its batches one batch.

    Batch normalisation then takes its statistics from the whole batch, so that a training does
    not depend on the number of processes.

    Args:
        network: on its device; its batch normalisations are replaced in place by others with
            the same parameters and buffers.

    Returns:
        What to call for a forward pass: the network itself if there is one process.
    """
    if not _connected():
        return network
    on_gpu = next(network.parameters()).is_cuda
    convert = nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else _share_statistics
    return DistributedDataParallel(convert(network))


def _share_statistics(module):
    """nn.SyncBatchNorm.convert_sync_batchnorm for the CPU, which it does not know."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = _SharedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            shared._parameters, shared._buffers = child._parameters, child._buffers
            setattr(module, name, shared)
        else:
            _share_statistics(child)
    return module


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of all processes' images."""

    def forward(self, images):
        if not self.training:
            return super().forward(images)
        values = images.float()  # (n, c, h, w); n differs between processes, and may be 0
        pixels = total(torch.tensor(float(values[:, 0].numel())))
        mean = all_reduce(values.sum((0, 2, 3))) / pixels  # (c,)
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / pixels
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * pixels / (pixels - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)
