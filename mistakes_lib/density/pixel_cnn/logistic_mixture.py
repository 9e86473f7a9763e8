"""Discretised mixture of logistics: the distribution of one RGB pixel in PixelCNN++ (§2.1–2.2).

Salimans, Karpathy, Chen & Kingma (2017), PixelCNN++, https://arxiv.org/abs/1701.05517.

A pixel's colour (r, g, b) has the probability Σ_k π_k P_k(r) P_k(g | r) P_k(b | r, g). Each factor
is a logistic distribution on the grid of 256 values, whose mean is linear in the channels before.
Channels are in [−1, 1], the values 0 … 255 in equal steps.
"""

import torch
from torch.nn import functional as F

__all__ = ["channel_log_prob", "n_parameters", "pixel_log_prob", "sample_pixels"]

HALF_STEP = 1 / 255  # of the grid of 256 values in [−1, 1]
MIN_LOG_SCALE = -7.0


def n_parameters(n_mixtures):
    """Numbers that describe the distribution of one pixel: 10 a component."""
    return 10 * n_mixtures


def pixel_log_prob(parameters, pixels):
    """Log-probability of each pixel's colour.

    Args:
        parameters: (n, 10 K, h, w), what the network says of each pixel.
        pixels: (n, 3, h, w) in [−1, 1] on the grid.

    Returns:
        tensor (n, h, w), nats, at most 0.
    """
    log_weights, channels = channel_log_prob(parameters, pixels)
    return torch.logsumexp(log_weights + channels.sum(1), dim=1)


def channel_log_prob(parameters, pixels):
    """Log-weights of the components, and what each says of each channel given those before.

    Args:
        parameters: (n, 10 K, h, w).
        pixels: (n, 3, h, w) in [−1, 1] on the grid.

    Returns:
        log π_k, (n, K, h, w), and log P_k of each channel, (n, 3, K, h, w), nats.
    """
    log_weights, means, log_scales, mixing = _split(parameters)
    pixels = pixels[:, :, None]  # (n, 3, 1, h, w)
    means = _conditional_means(means, mixing, pixels)
    inverse = torch.exp(-log_scales)
    below = inverse * (pixels - means - HALF_STEP)
    above = inverse * (pixels - means + HALF_STEP)
    # σ(above) − σ(below) = σ(above) σ(−below) (1 − exp(below − above)), whatever their size
    inside = F.logsigmoid(above) + F.logsigmoid(-below)
    inside = inside + torch.log(-torch.expm1(-2 * HALF_STEP * inverse))
    darkest, brightest = pixels < -1 + HALF_STEP, pixels > 1 - HALF_STEP  # with all beyond them
    channels = torch.where(
        darkest, F.logsigmoid(above), torch.where(brightest, F.logsigmoid(-below), inside)
    )
    return log_weights, channels


def sample_pixels(parameters):
    """Draw a colour for each pixel: (n, 10 K, h, w) → (n, 3, h, w) in [−1, 1] on the grid."""
    log_weights, means, log_scales, mixing = _split(parameters)
    uniform = torch.rand_like(log_weights).clamp_(1e-7, 1 - 1e-7)
    chosen = (log_weights - torch.log(-torch.log(uniform))).argmax(1)  # (n, h, w), Gumbel's maximum
    chosen = chosen[:, None, None].expand(-1, 3, -1, -1, -1)  # (n, 3, 1, h, w)
    means, log_scales, mixing = (v.gather(2, chosen)[:, :, 0] for v in (means, log_scales, mixing))
    noise = torch.exp(log_scales) * torch.logit(torch.rand_like(means), eps=1e-7)  # (n, 3, h, w)
    colours = []
    for channel in range(3):
        mean = means[:, channel]
        if channel == 1:
            mean = mean + mixing[:, 0] * colours[0]
        if channel == 2:
            mean = mean + mixing[:, 1] * colours[0] + mixing[:, 2] * colours[1]
        value = (mean + noise[:, channel]).clamp(-1, 1)
        colours.append(torch.round((value + 1) * 127.5) / 127.5 - 1)
    return torch.stack(colours, dim=1)


def _split(parameters):
    """log π (n, K, h, w); means, log-scales and mixing coefficients, each (n, 3, K, h, w)."""
    n, size, h, w = parameters.shape
    k = size // 10
    log_weights = F.log_softmax(parameters[:, :k], dim=1)
    means, log_scales, mixing = parameters[:, k:].view(n, 3, 3, k, h, w).unbind(1)
    return log_weights, means, log_scales.clamp(min=MIN_LOG_SCALE), torch.tanh(mixing)


def _conditional_means(means, mixing, pixels):
    """Means of g given r, and of b given r and g: linear in the channels before."""
    red, green = pixels[:, 0], pixels[:, 1]  # (n, 1, h, w)
    return torch.stack(
        [
            means[:, 0],
            means[:, 1] + mixing[:, 0] * red,
            means[:, 2] + mixing[:, 1] * red + mixing[:, 2] * green,
        ],
        dim=1,
    )
