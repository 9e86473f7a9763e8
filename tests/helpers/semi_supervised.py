"""Digits of which few have labels, and plain settings."""

import torch

from mistakes_lib.training.ensembles import (
    choose_labelled,
)
from tests.helpers.training import (
    digit_images,
)

__all__ = ["NO_RAMPS", "PLAIN", "assert_close", "labelled_digits", "without_times"]

PLAIN = {"max_shift": 0, "flip": False, "schedule": "step", "milestones": ()}
NO_RAMPS = {"ramp_up": 0, "ramp_down": 0}


def labelled_digits(n=100):
    """Digits, their labels, and 3 labelled of each class."""
    images, labels = digit_images(n)
    return images, labels, choose_labelled(labels, 3)


def assert_close(ours, expected, tolerance=1e-6):
    for name, value in expected.state_dict().items():
        mine = ours.state_dict()[name]
        torch.testing.assert_close(mine, value, rtol=tolerance, atol=tolerance)


def without_times(history):
    return [record | {"seconds": 0} for record in history]
