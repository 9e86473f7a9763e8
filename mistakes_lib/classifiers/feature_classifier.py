"""A classifier as the paper sees it: a feature extractor f_θ and a linear head (§3.1, eq. 1)."""

import torch
from torch import nn

__all__ = ["FeatureClassifier"]


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
        return self.body((images - self.mean) / self.std)

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

    @classmethod
    def from_module(cls, net, *, head=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
        """Wrap anybody's network by its last linear layer, without changing it.

        The features are what enters that layer. The first batch checks that the layer really
        produces the network's output, and fails with the other candidates' names if not.

        Args:
            net: an ``nn.Module`` from standardised images (n, 3, h, w) to logits (n, c), or to an
                object that has them as ``logits``: torchvision's, timm's and Hugging Face's image
                classifiers.
            head: name of the last linear layer, such as ``"fc"``; by default the last
                ``nn.Linear`` in the network's own order.
            mean: per-channel mean that the network expects to be subtracted.
            std: per-channel standard deviation that it expects to be divided by.

        Raises:
            ValueError: no linear layer, or none of that name.

        Example:
            >>> net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 10))
            >>> classifier = FeatureClassifier.from_module(net)
            >>> classifier.num_features, classifier.num_classes
            (5, 10)
        """
        candidates = {n: m for n, m in net.named_modules() if isinstance(m, nn.Linear)}
        if not candidates:
            raise ValueError(
                f"{type(net).__name__} has no nn.Linear layer, so it has no features to model: "
                "wrap it in FeatureClassifier(body, head) yourself"
            )
        head = head if head is not None else list(candidates)[-1]
        if head not in candidates:
            raise ValueError(f"no linear layer {head!r}; candidates: {', '.join(candidates)}")
        body = _HeadInput(net, candidates[head], head, tuple(candidates))
        return cls(body, candidates[head], mean=mean, std=std)


class _HeadInput(nn.Module):
    """Run a whole network and return what entered its head."""

    def __init__(self, net, head, name, candidates):
        super().__init__()
        self.net = net
        self._heads = (head, name, candidates)  # a tuple: the head is already a part of net
        self._verified = False

    def forward(self, images):
        head, name, candidates = self._heads
        seen = []
        hook = head.register_forward_hook(
            lambda _, inputs, output: seen.append((inputs[0], output))
        )
        try:
            output = self.net(images)
            logits = getattr(output, "logits", output)  # as Hugging Face's models have them
        finally:
            hook.remove()
        if not self._verified:
            self._verify(seen, logits, name, candidates)
        return seen[0][0]

    def _verify(self, seen, logits, name, candidates):
        is_head = (
            len(seen) == 1
            and torch.is_tensor(logits)
            and seen[0][1].shape == logits.shape
            and torch.equal(seen[0][1], logits)
        )
        if not is_head:
            others = ", ".join(c for c in candidates if c != name) or "none"
            raise ValueError(
                f"the output of layer {name!r} is not the network's output: pass "
                f"head=… with the name of the last linear layer (other candidates: {others})"
            )
        self._verified = True
