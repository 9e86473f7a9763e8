"""Where a computation runs, and the layout and mode in which a network computes fastest."""

from contextlib import contextmanager

import torch

__all__ = ["channels_last", "eval_mode", "resolve_device"]


def resolve_device(device="auto"):
    """``"auto"`` → the first CUDA device, else the CPU; anything else as torch reads it."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def channels_last(images):
    """The same images in the layout in which convolutions are fastest."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


@contextmanager
def eval_mode(classifier):
    """Put every module in eval mode, and each back into the mode that it had."""
    modes = {module: module.training for module in classifier.modules()}
    classifier.eval()
    try:
        yield
    finally:
        for module, training in modes.items():  # some may have been frozen in eval mode
            module.training = training
