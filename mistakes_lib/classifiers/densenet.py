"""DenseNet-BC for 32 × 32 images (Huang et al. 2016), with the paper's tanh features."""

from itertools import takewhile

import torch
from torch import nn

from mistakes_lib.classifiers import fused
from mistakes_lib.classifiers.feature_classifier import LAST_ACTIVATIONS, FeatureClassifier
from mistakes_lib.support.dropout import Dropout
from mistakes_lib.support.settings import (
    SettingsError,
    checked_arguments,
    number,
    one_of,
    six_n_plus_4,
    whole,
)

__all__ = ["densenet_bc"]


class _Bottleneck(nn.Module):
    """BN-ReLU-conv 1×1 to 4k channels, BN-ReLU-conv 3×3 to k, appended to the input."""

    def __init__(self, channels, growth_rate, dropout):
        super().__init__()
        width = 4 * growth_rate
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, width, 1, bias=False),
            Dropout(dropout),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, growth_rate, 3, padding=1, bias=False),
            Dropout(dropout),
        )

    def forward(self, x):
        return torch.cat([x, self.layers(x)], dim=1)  # (n, c, h, w) → (n, c + k, h, w)


class _Transition(nn.Sequential):
    """Compress the channels by θ and halve height and width."""

    def __init__(self, channels, compressed, dropout):
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, compressed, 1, bias=False),
            Dropout(dropout),
            nn.AvgPool2d(2),
        )


class _Body(nn.Sequential):
    """The network up to its features; dense blocks run fused where that may be (fused/)."""

    def forward(self, x):
        if torch.compiler.is_compiling():
            return super().forward(x)  # one graph: the search for blocks below would break it
        modules = list(self)
        while modules:
            block = list(takewhile(lambda module: isinstance(module, _Bottleneck), modules))
            after = modules[len(block)] if len(block) < len(modules) else None
            transition = after if isinstance(after, _Transition) else None
            layers = [module.layers for module in block]
            if block and fused.is_fusible(layers, x, transition):
                x = fused.dense_block(layers, x, transition)
                modules = modules[len(block) + (transition is not None) :]
            else:
                for module in modules[: len(block) or 1]:
                    x = module(x)
                modules = modules[len(block) or 1 :]
        return x


@checked_arguments(
    num_classes=whole(2),
    depth=six_n_plus_4(),
    growth_rate=whole(1, 1000),
    compression=number(gt=0, le=1),
    dropout=number(ge=0, lt=1),
    last_activation=one_of(*LAST_ACTIVATIONS),
)
def densenet_bc(
    num_classes,
    *,
    depth=100,
    growth_rate=12,
    compression=0.5,
    dropout=0.2,
    last_activation="tanh",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
):
    """DenseNet-BC of three dense blocks (Huang et al. 2016; Appendix C).

    Appendix C replaces the last non-linearity by tanh, "to ensure the extracted features are
    bounded": it acts after the last batch normalisation, before the global average.

    Args:
        num_classes: number of classes c.
        depth: L = 6 n + 4, with n bottleneck layers a block.
        growth_rate: k, feature maps added by each bottleneck layer.
        compression: θ in (0, 1], share of feature maps kept by a transition.
        dropout: probability of dropping an activation after each convolution but the first.
        last_activation: "tanh" or "relu".
        mean: per-channel mean of the training pixels in [0, 1].
        std: per-channel standard deviation of the training pixels.

    Returns:
        FeatureClassifier; for L = 100, k = 12, θ = 0.5 it has 342 features.

    Raises:
        ValueError: an unknown argument, or a value of a wrong type or outside the ranges above.

    Example:
        >>> densenet_bc(10, depth=10, growth_rate=4).num_features
        9
    """
    channels = 2 * growth_rate
    body = _Body(nn.Conv2d(3, channels, 3, padding=1, bias=False))
    for block in range(3):
        for _ in range((depth - 4) // 6):
            body.append(_Bottleneck(channels, growth_rate, dropout))
            channels += growth_rate
        if block < 2:
            compressed = int(channels * compression)
            if compressed < 1:
                text = (
                    f"must leave a channel, got {compression}: none of {channels} channels is left"
                )
                raise SettingsError([(("compression",), text)])
            body.append(_Transition(channels, compressed, dropout))
            channels = compressed
    body.extend(
        [
            nn.BatchNorm2d(channels),
            LAST_ACTIVATIONS[last_activation](),
            nn.AdaptiveAvgPool2d(1),  # (n, d, h, w) → (n, d, 1, 1)
            nn.Flatten(),
        ]
    )
    architecture = {
        "name": "densenet_bc",
        "num_classes": num_classes,
        "depth": depth,
        "growth_rate": growth_rate,
        "compression": compression,
        "dropout": dropout,
        "last_activation": last_activation,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }
    head = nn.Linear(channels, num_classes)
    classifier = FeatureClassifier(body, head, mean=mean, std=std, architecture=architecture)
    return _initialise(classifier)


def _initialise(classifier):
    """He et al. (2015) for convolutions; batch normalisation starts as the identity."""
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return classifier
