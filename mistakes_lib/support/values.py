"""A value that somebody types: what YAML reads, and numbers as Python writes them."""

import re

import yaml

__all__ = ["read_value"]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def read_value(text):
    """Read a value: as YAML does, but 1e-2 is a number, and so is a fraction such as 8 / 255,
    also inside lists and dicts.

    Args:
        text: what was typed.

    Returns:
        bool, int, float, str, list, dict or None.

    Raises:
        ValueError: no value that YAML can read, or a division by zero.

    Example:
        >>> [read_value(text) for text in ("8", "1e-2", "8 / 256", "cifar10", "[1, 2]", "true")]
        [8, 0.01, 0.03125, 'cifar10', [1, 2], True]
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{text!r}: no value that YAML can read") from None
    return _numbers_in(value)


def _numbers_in(value):
    """A value with the numbers that YAML takes for text, also inside lists and dicts."""
    if isinstance(value, list):
        return [_numbers_in(each) for each in value]
    if isinstance(value, dict):
        return {key: _numbers_in(each) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    if re.fullmatch(NUMBER, value):
        return float(value)
    fraction = re.fullmatch(rf"({NUMBER})\s*/\s*({NUMBER})", value)
    if not fraction:
        return value
    if float(fraction[2]) == 0:
        raise ValueError(f"{value!r}: a division by zero")
    return float(fraction[1]) / float(fraction[2])
