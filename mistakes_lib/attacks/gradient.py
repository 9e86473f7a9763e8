"""Small changes of the images that make a classifier fail: FGSM and BIM (§4)."""

import warnings
from functools import partial
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar
from torch.nn.functional import cross_entropy

from mistakes_lib.classifiers.heads import logits_of
from mistakes_lib.support.checks import (
    as_array,
    as_labels,
    channels_axis,
    check_pixels,
    check_positive,
)
from mistakes_lib.support.devices import channels_last, eval_mode, resolve_device
from mistakes_lib.support.progress import progress_bar

__all__ = ["bim", "fgsm", "kurakin_steps"]


def fgsm(classifier, images, labels, eps, *, batch_size=None, device="auto", progress=False):
    """Move every pixel by ``eps`` in the direction that raises the loss: FGSM (§4).

    x' = clip(x + ε · sign ∇ₓ L(x, y)) to [0, 1], with the cross-entropy L; Goodfellow et al.,
    *Explaining and Harnessing Adversarial Examples*, 2014, https://arxiv.org/abs/1412.6572.

    Args:
        classifier: any ``nn.Module`` from images in [0, 1] to logits (n, c), or to a tuple, dict or
            object that holds them; it is attacked in eval mode, moved to ``device``, and otherwise
            left as it was.
        images: (n, 3, h, w) or (n, h, w, 3), float in [0, 1] or uint8 in 0…255, NumPy or torch.
        labels: true classes, int (n,).
        eps: radius of the L∞ ball, in [0, 1] pixel units such as 8/255.
        batch_size: images a step; by default 32 on a CPU, whose cache holds what a network keeps of
            so many small images for the way back, else 256. It changes results by rounding only.
        device: "auto", "cpu", "cuda", …
        progress: show a progress bar.

    Returns:
        float32 in [0, 1], of the images' shape, within ``eps`` of them up to float32 rounding; a
        torch tensor on the images' device, or a NumPy array if the images were one.

    Warns:
        UserWarning: the gradient of some images is exactly zero, as where a very confident
            network's softmax is 1 in float32; these come back as they were.

    Raises:
        ValueError: images outside [0, 1] or not four-dimensional, labels of another length or out
            of range, ``eps`` outside [0, 1], or a network that returns no logits.

    Example:
        >>> from torch import nn
        >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> images = torch.full((5, 3, 1, 1), 0.5)
        >>> attacked = fgsm(classifier, images, torch.zeros(5), 8 / 255, device="cpu")
        >>> attacked.shape, round((attacked - images).abs().max().item() * 255, 3)
        (torch.Size([5, 3, 1, 1]), 8.0)
    """
    return _ascend(
        classifier,
        images,
        labels,
        eps=eps,
        step=None,
        iterations=1,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )


def bim(
    classifier,
    images,
    labels,
    eps,
    *,
    step=None,
    iterations=10,
    batch_size=None,
    device="auto",
    progress=False,
):
    """Take several small FGSM steps, each clipped to the ball: the Basic Iterative Method (§4).

    xₜ₊₁ = clip(xₜ + α · sign ∇ₓ L(xₜ, y)) to the ε-ball around x and to [0, 1], from x₀ = x;
    Kurakin et al., *Adversarial Examples in the Physical World*, 2016,
    https://arxiv.org/abs/1607.02533.

    Args:
        classifier, images, labels, eps, batch_size, device, progress: see :func:`fgsm`.
        step: step size α in pixel units. None takes 2.5 ε / ``iterations`` (at most ε), so that the
            steps can reach any point of the ball and turn round at its border (Madry et al. 2017):
            2/255 for ten steps at ε = 8/255. One iteration is then FGSM.
        iterations: number of steps.

    Returns:
        float32 (n, 3, h, w), see :func:`fgsm`.

    Raises:
        ValueError: as :func:`fgsm`; or ``step`` is not above 0, or ``iterations`` below 1.

    Example:
        >>> from torch import nn
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> classifier = FeatureClassifier(nn.Flatten(), nn.Linear(3, 2))
        >>> attacked = bim(classifier, np.full((5, 3, 1, 1), 0.5), np.zeros(5), 0.1, device="cpu")
        >>> attacked.shape, round(float(np.abs(attacked - 0.5).max()), 6)
        ((5, 3, 1, 1), 0.1)
    """
    return _ascend(
        classifier,
        images,
        labels,
        eps=eps,
        step=step,
        iterations=iterations,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )


def kurakin_steps(eps):
    """The steps that Kurakin et al. (2016, §2.2) take themselves: arguments of :func:`bim`.

    Theirs are steps of one pixel level, α = 1/255, and min(ε + 4, 1.25 ε) of them, ε in levels.

    Args:
        eps: L∞ radius in [0, 1] pixel units.

    Returns:
        dict with ``step`` and ``iterations``, at least one.

    Raises:
        ValueError: ``eps`` is not in [0, 1].

    Example:
        >>> steps = kurakin_steps(8 / 255)
        >>> round(steps["step"] * 255, 6), steps["iterations"]
        (1.0, 10)
    """
    _check_eps(eps)
    level = eps * 255
    return {"step": 1 / 255, "iterations": max(1, int(min(level + 4, 1.25 * level) + 1e-9))}


def _usual_batch_size(device):
    return 32 if device.type == "cpu" else 256


def _ascend(
    classifier,
    images,
    labels,
    *,
    eps,
    step,
    iterations,
    batch_size,
    device,
    progress,
    objective=None,
    has_goal=False,
):
    """Signed gradient ascent inside the ball, batch by batch; on the cross-entropy by default.

    ``objective(x, y, rows)`` gets a batch, its labels, and which rows of all images they are. If it
    has a goal, an image whose gradient is zero has reached it.
    """
    _check_eps(eps)
    check_scalar(iterations, "iterations", Integral, min_val=1)
    step = min(eps, 2.5 * eps / iterations) if step is None else check_positive(step, "step")
    objective = objective or partial(_summed_loss, classifier)
    device = resolve_device(device)
    batch_size = _usual_batch_size(device) if batch_size is None else batch_size
    check_scalar(batch_size, "batch_size", Integral, min_val=1)
    clean, channels = _as_images(images)  # float32 (n, 3, h, w)
    classifier.to(device)
    with eval_mode(classifier), torch.inference_mode(False):  # which would allow no gradients
        attacked, flat = torch.empty_like(clean), 0
        with torch.no_grad():
            num_classes = logits_of(classifier, clean[:1].to(device)).shape[1]
        labels = torch.from_numpy(
            as_labels(labels, "labels", length=len(clean), num_classes=num_classes)
        )
        for start in progress_bar(range(0, len(clean), batch_size), desc="attack", shown=progress):
            rows = slice(start, start + batch_size)
            x, y = channels_last(clean[rows].to(device)), labels[rows].to(device)
            # The two faces of the ball, computed once: no drift over the iterations.
            low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
            adversarial = x
            for number in range(iterations):
                gradient = _input_gradient(objective, adversarial, y, rows)
                if number == 0 and not has_goal:
                    flat += int((gradient.flatten(1).abs().amax(dim=1) == 0).sum())
                adversarial = (adversarial + step * gradient.sign()).clamp(low, high)
            attacked[rows] = adversarial.cpu()
    if flat:
        warnings.warn(
            f"the gradient of {flat} of {len(clean)} images is exactly zero, so the attack begins "
            "nowhere there: if the network's softmax is saturated, attack its logits divided by a "
            "temperature (TemperatureScaling finds one)",
            stacklevel=3,
        )
    attacked = attacked.movedim(1, channels)
    if isinstance(images, torch.Tensor):
        return attacked.to(images.device)
    return attacked.numpy()


def _summed_loss(classifier, x, y, rows):
    """Cross-entropy, summed: a mean would scale an image's gradient with the batch size."""
    return cross_entropy(logits_of(classifier, x).float(), y, reduction="sum")


def _input_gradient(objective, x, y, rows):
    """∇ₓ of the objective; asking for the input's alone leaves none on the parameters."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(objective(x, y, rows), x)[0]


def _as_images(images):
    """Images in [0, 1], float32 (n, 3, h, w) on the CPU, and the axis where their channels were."""
    first = images[0] if isinstance(images, list | tuple) and len(images) else images
    is_bytes = getattr(first, "dtype", None) in (torch.uint8, np.uint8)
    array = as_array(images, "images", dtype=np.float32)
    if array.ndim != 4:
        raise ValueError(f"images must have shape (n, 3, h, w), got shape {array.shape}")
    channels = channels_axis(array.shape)
    array = np.moveaxis(array, channels, 1)
    if is_bytes:
        array = array / np.float32(255)
    check_pixels(
        float(array.min()),
        float(array.max()),
        is_bytes=False,
        advice="give pixels, and let the network standardise them by itself "
        "(FeatureClassifier.from_module(net, mean=…, std=…))",
    )
    with torch.inference_mode(False):
        copy = torch.tensor(np.ascontiguousarray(array))  # the input is never written to
    return copy, channels


def _check_eps(eps):
    if not np.isscalar(eps) or not 0 <= eps <= 1:
        raise ValueError(
            f"eps must be a number in [0, 1], in pixel units (8/255, not 8), got {eps!r}"
        )
