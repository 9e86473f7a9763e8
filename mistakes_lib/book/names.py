"""How the book calls methods, sets of images and numbers that there are not."""

import re
from functools import partial

import numpy as np

from mistakes_lib.support.signs import typeset

__all__ = ["call_by_name", "in_words", "method_name", "set_name", "with_dashes"]

NAMES = {"Calibrated": "confidence", "Max softmax": "raw confidence"}
NAMES |= {"likelihood": "density", "mixture": "density", "calibrated": "confidence"}
SETS = {"svhn": "SVHN", "fashion_mnist": "Fashion-MNIST", "gaussian_noise": "Gaussian noise"}
SETS |= {"tiny_imagenet": "Tiny ImageNet", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
SETS |= {"mistakes": "own mistakes", "test": "test images", "validation": "validation images"}
ATTACK = re.compile(r"(?:attack\.)?(fgsm|bim)[_-](\d+(?:\.\d+|_\d)?)(?:_255)?")


def method_name(name, *, sizes=True):
    """How the book calls a method.

    Args:
        name: as the library calls it, such as "GMM-100", "GMM-100 †" or "Calibrated".
        sizes: name the number of Gaussians.

    Example:
        >>> method_name("GMM-100 †"), method_name("Calibrated"), method_name("Energy")
        ('density (GMM-100) †', 'confidence', 'Energy')
        >>> method_name("GMM-100", sizes=False)
        'density'
    """
    found = re.fullmatch(r"(GMM-\d+)( †)?", str(name))
    if found:
        return f"density ({found[1]}){found[2] or ''}" if sizes else "density"
    return NAMES.get(name, name)


def set_name(name):
    """How the book calls a set of images or a test on it: "gaussian_noise" → "Gaussian noise".

    Example:
        >>> set_name("gaussian_noise"), set_name("attack.bim_8_255"), set_name("cats")
        ('Gaussian noise', 'BIM, ε = 8/255', 'cats')
    """
    name = str(name)
    attack = ATTACK.fullmatch(name)
    if attack:
        return f"{attack[1].upper()}, ε = {attack[2].replace('_', '.')}/255"
    return SETS.get(name, name.replace("_", " "))


def call_by_name(table):
    """A table whose methods, sets of images and attacks have the names that the book gives them.

    Args:
        table: DataFrame; rows and columns may be methods or sets, on any level.

    Returns:
        A DataFrame that differs in its labels only.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"gaussian_noise": [0.9]}, index=["Calibrated"])
        >>> call_by_name(table).loc["confidence", "Gaussian noise"].item()
        0.9
    """

    def named(label):
        if not isinstance(label, str):
            return label
        return method_name(label) if method_name(label) != label else _known_set(label)

    return table.rename(index=named, columns=named)


def _known_set(label):
    return set_name(label) if label in SETS or ATTACK.fullmatch(label) else label


def in_words(text):
    """A sentence in which sets of images and attacks have the names that the book gives them.

    Args:
        text: str in which an identifier stands for itself, such as "… of bim_2_255 and svhn".

    Example:
        >>> in_words("10% of fgsm_1, 95% of gaussian_noise and 9% of svhn, no mistakes")
        '10% of FGSM, ε = 1/255, 95% of Gaussian noise and 9% of SVHN, no mistakes'
    """

    def named(found):
        plain_word = found[0] in SETS and found[0] in SETS[found[0]]  # "mistakes", "test"
        return found[0] if plain_word else _known_set(found[0])

    return re.sub(r"[\w.]*\w", named, text)


def with_dashes(table, *, digits=2):
    """A table for readers: numbers as text of so many decimals, a dash where there is none.

    Args:
        table: DataFrame of numbers, NaN where one is missing.
        digits: decimals of each number, trailing zeros among them; or a dict of them by column.
            A column of integers has none.

    Returns:
        DataFrame of str with the same labels. What is above 0 but would read 0.00 is "< 0.01".

    Example:
        >>> import pandas as pd
        >>> with_dashes(pd.DataFrame({"AUROC": [0.9, float("nan")], "gap": [-0.25, 0.1]}))
          AUROC    gap
        0  0.90  −0.25
        1     –   0.10
        >>> with_dashes(pd.DataFrame({"broken": [8], "p": [1e-9]}), digits={"broken": 0, "p": 3})
          broken        p
        0      8  < 0.001
    """

    def written(column):
        decimals = digits[column.name] if isinstance(digits, dict) else digits
        whole = np.issubdtype(column.dtype, np.integer)
        return column.map(partial(_written, decimals=0 if whole else decimals))

    return table.apply(written)


def _written(number, decimals):
    text = f"{number:.{decimals}f}"
    if np.isnan(number):
        return "–"
    if number > 0 and not float(text):
        return f"< {10**-decimals:.{decimals}f}"
    return typeset(text) if float(text) else text.removeprefix("-")
