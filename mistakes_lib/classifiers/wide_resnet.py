"""Wide residual network for 32 × 32 images (Zagoruyko & Komodakis 2016)."""

from torch import nn

from mistakes_lib.classifiers.feature_classifier import LAST_ACTIVATIONS, FeatureClassifier
from mistakes_lib.support.dropout import Dropout
from mistakes_lib.support.settings import checked_arguments, number, one_of, six_n_plus_4, whole

__all__ = ["wide_resnet"]


class _Block(nn.Module):
    """Pre-activation residual block: BN-ReLU-conv 3×3, dropout, BN-ReLU-conv 3×3, plus shortcut."""

    def __init__(self, channels_in, channels, stride, dropout):
        super().__init__()
        self.preactivation = nn.Sequential(nn.BatchNorm2d(channels_in), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        self.shortcut = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)

    def forward(self, x):
        if self.shortcut is None:
            return x + self.residual(self.preactivation(x))
        activated = self.preactivation(x)
        return self.shortcut(activated) + self.residual(activated)


@checked_arguments(
    num_classes=whole(2),
    depth=six_n_plus_4(),
    widen_factor=whole(1, 1000),
    dropout=number(ge=0, lt=1),
    last_activation=one_of(*LAST_ACTIVATIONS),
)
def wide_resnet(
    num_classes,
    *,
    depth=28,
    widen_factor=10,
    dropout=0.3,
    last_activation="relu",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
):
    """WRN-depth-widen_factor (Zagoruyko & Komodakis 2016; Appendix C, there "growth rate").

    Args:
        num_classes: number of classes c.
        depth: 6 n + 4, with n residual blocks in each of three groups.
        widen_factor: width of the groups over that of a plain ResNet (16, 32, 64).
        dropout: probability of dropping an activation between a block's two convolutions.
        last_activation: "relu" or "tanh", after the last batch normalisation; the paper has tanh
            in its DenseNet only.
        mean: per-channel mean of the training pixels in [0, 1].
        std: per-channel standard deviation of the training pixels.

    Returns:
        FeatureClassifier with 64 · widen_factor features, 640 for WRN-28-10.

    Raises:
        ValueError: an unknown argument, or a value of a wrong type or outside the ranges above.

    Example:
        >>> wide_resnet(10, depth=10, widen_factor=1).num_features
        64
    """
    body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False))
    channels_in = 16
    for group, channels in enumerate((16, 32, 64)):
        for block in range((depth - 4) // 6):
            stride = 2 if group > 0 and block == 0 else 1
            body.append(_Block(channels_in, channels * widen_factor, stride, dropout))
            channels_in = channels * widen_factor
    body.extend(
        [
            nn.BatchNorm2d(channels_in),
            LAST_ACTIVATIONS[last_activation](),
            nn.AdaptiveAvgPool2d(1),  # (n, d, h, w) → (n, d, 1, 1)
            nn.Flatten(),
        ]
    )
    architecture = {
        "name": "wide_resnet",
        "num_classes": num_classes,
        "depth": depth,
        "widen_factor": widen_factor,
        "dropout": dropout,
        "last_activation": last_activation,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }
    head = nn.Linear(channels_in, num_classes)
    classifier = FeatureClassifier(body, head, mean=mean, std=std, architecture=architecture)
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return classifier
