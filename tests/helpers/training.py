"""Small networks, digits to train them on, and trainings that are killed."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from mistakes_lib.classifiers.densenet import densenet_bc
from mistakes_lib.classifiers.feature_classifier import FeatureClassifier
from mistakes_lib.training.recipe import Recipe

__all__ = [
    "QUIET",
    "RECIPE",
    "Killed",
    "assert_same_bits",
    "digit_images",
    "red_or_blue_images",
    "small_densenet",
    "stop_at_batch",
    "tiny_net",
]

RECIPE = Recipe(epochs=3, batch_size=32, lr=0.05, schedule="one_cycle")
QUIET = {"device": "cpu", "progress": False}


def small_densenet(dropout=0.2, seed=0):
    torch.manual_seed(seed)
    return densenet_bc(10, depth=10, growth_rate=4, dropout=dropout, mean=(0.3,) * 3)


def tiny_net(norm=True):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6) if norm else nn.Identity()
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm, nn.Tanh(), nn.AvgPool2d(2))
    return FeatureClassifier(body.append(nn.Flatten()), nn.Linear(96, 10), mean=(0.3,) * 3)


def digit_images(n=200):
    """scikit-learn's digits as uint8 (n, 3, 8, 8), and their labels."""
    digits = load_digits()
    grey = np.round(digits.images[:n] * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[:, None], 3, axis=1), digits.target[:n]


def red_or_blue_images(n=300, seed=0):
    """Two classes that one hyperplane separates: the brighter channel."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    images = rng.integers(150, size=(n, 3, 6, 6), dtype=np.uint8)
    images[np.arange(n), 2 * labels] += 100
    return images, labels


def assert_same_bits(ours, expected):
    ours, expected = ours.state_dict(), expected.state_dict()
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name


class Killed(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


def stop_at_batch(monkeypatch, module, number):
    """Raise in ``module``'s training at the given batch, counted from 0 over all epochs."""
    batches = iter(range(10**6))

    def augment(*args, **options):
        if next(batches) == number:
            raise Killed
        return original(*args, **options)

    original = module.augment
    monkeypatch.setattr(module, "augment", augment)
