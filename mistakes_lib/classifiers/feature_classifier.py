"""A classifier as the paper sees it: a feature extractor f_θ and a linear head (§3.1, eq. 1)."""

import torch
from torch import nn

from mistakes_lib.classifiers.heads import HeadInput, as_linear, find_head, input_channels
from mistakes_lib.classifiers.weights import unwrap

__all__ = ["LAST_ACTIVATIONS", "FeatureClassifier", "input_channels"]

# What makes the features, after the last batch normalisation of a network that we build.
LAST_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class FeatureClassifier(nn.Module):
    """A network split into features F = f_θ(X) and logits W F + b (§3.1, equation 1).

    Images come in as pixels in [0, 1]; the per-channel standardisation of Appendix C happens
    inside, so an attack's radius is in pixel units whatever the network was trained on.

    Args:
        body: maps standardised images (n, 3, h, w) to features (n, d).
        head: the last fully-connected layer, ``nn.Linear(d, c)``.
        mean: per-channel mean of the training pixels in [0, 1].
        std: per-channel standard deviation of the training pixels.
        architecture: JSON-serialisable description from which
            :func:`~mistakes_lib.classifiers.build_classifier` makes the network again.

    Example:
        >>> body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.Tanh())
        >>> classifier = FeatureClassifier(body, nn.Linear(5, 10))
        >>> images = torch.rand(2, 3, 4, 4)
        >>> classifier.features(images).shape, classifier(images).shape
        (torch.Size([2, 5]), torch.Size([2, 10]))
    """

    def __init__(self, body, head, *, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), architecture=None):
        super().__init__()
        if not isinstance(head, nn.Linear):
            raise TypeError(f"head must be an nn.Linear, got {type(head).__name__}")
        mean, std = [float(value) for value in mean], [float(value) for value in std]
        if not all(value > 0 for value in std):
            raise ValueError(f"std must be positive in every channel, got {tuple(std)}")
        self.body = body
        self.head = head
        self.architecture = architecture
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def features(self, images):
        """Features (n, d) of images (n, 3, h, w) with pixels in [0, 1]."""
        if images.ndim != 4:
            raise ValueError(f"images must have shape (n, 3, h, w), got {tuple(images.shape)}")
        if self.channels > 1 and images.shape[1] not in (1, self.channels):
            raise ValueError(
                f"images have {images.shape[1]} channels, but the network's mean and std "
                f"{self.channels}: pass images of shape (n, {self.channels}, h, w)"
            )
        standardised = (images - self.mean) / self.std
        return self.body(standardised.to(self.head.weight.dtype))  # half, bfloat16, double, too

    def forward(self, images):
        """Logits (n, c) of images (n, 3, h, w) with pixels in [0, 1]."""
        return self.head(self.features(images))

    @property
    def num_features(self):
        """Dimension d of the feature space."""
        return self.head.in_features

    @property
    def num_classes(self):
        """Number of classes c."""
        return self.head.out_features

    @property
    def channels(self):
        """How many channels mean and std have, 3 or (for grey images) 1."""
        return self.mean.shape[1]

    @classmethod
    def from_module(cls, net, *, head=None, mean=None, std=None):
        """Wrap anybody's network by its last linear layer, without changing it.

        The features are what enters that layer. The first batch checks that the layer really
        produces the network's output, or that only a softmax or a temperature follows it, and fails
        with the true reason if not. A last layer of 1×1 convolutions is a linear layer. A network
        with one logit z has the two logits (0, z).

        Args:
            net: an ``nn.Module`` from standardised images (n, 3, h, w) to logits (n, c), to a
                tuple or dict that holds them, or to an object that has them as ``logits``:
                torchvision's, timm's and Hugging Face's image classifiers, also in DataParallel or
                ``torch.compile``.
            head: name of the last linear layer, such as ``"fc"``; by default the last
                ``nn.Linear`` (or else the last 1×1 convolution) in the network's own order.
            mean: per-channel mean that the network expects to be subtracted; by default 0.
            std: per-channel standard deviation that it expects to be divided by; by default 1.

        Raises:
            ValueError: no linear layer, or none of that name, or TorchScript.

        Example:
            >>> net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 10))
            >>> classifier = FeatureClassifier.from_module(net)
            >>> classifier.num_features, classifier.num_classes
            (5, 10)
        """
        net = unwrap(net)
        name, candidates = find_head(net, head)
        linear = as_linear(candidates[name])
        channels = 3 if input_channels(net) in (3, None) else 1  # one number fits any
        mean = (0.0,) * channels if mean is None else mean
        std = (1.0,) * channels if std is None else std
        classifier = cls(HeadInput(net, name, tuple(candidates)), linear, mean=mean, std=std)
        classifier.body.watch(candidates[name], linear)
        return classifier
