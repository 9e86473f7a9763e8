"""What all figures share: size, colours, and the names of methods and of sets of images."""

import re

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

__all__ = [
    "BESIDE",
    "CHANCE",
    "CONFIDENCE",
    "DENSITY",
    "LINES",
    "PALETTE",
    "call_by_name",
    "method_looks",
    "method_name",
    "new_figure",
    "set_name",
    "with_dashes",
]

PALETTE = sns.color_palette("colorblind")
DENSITY, CONFIDENCE, BEST_OTHER = PALETTE[:3]
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # a legend that hides no curve
CHANCE = {"color": "0.6", "linewidth": 0.8}
FEW = 5  # curves that a reader can tell apart

NAMES = {"Calibrated": "confidence", "Max softmax": "raw confidence"}
NAMES |= {"likelihood": "density", "mixture": "density", "calibrated": "confidence"}
SETS = {"svhn": "SVHN", "fashion_mnist": "Fashion-MNIST", "gaussian_noise": "Gaussian noise"}
SETS |= {"tiny_imagenet": "Tiny ImageNet", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
SETS |= {"mistakes": "own mistakes", "test": "test images", "validation": "validation images"}


def new_figure(columns=1, rows=1, *, width=4.6, height=3.4, **kwargs):
    """A figure in the book's style and its Axes; :class:`Figures` shows it with a caption.

    Args:
        columns: panels side by side.
        rows: panels one above the other.
        width: of a panel, in inches.
        height: of a panel, in inches.
        **kwargs: passed to ``matplotlib.pyplot.subplots``.

    Returns:
        (Figure, Axes or array of Axes).

    Example:
        >>> figure, axes = new_figure(columns=2)
        >>> len(axes)
        2
    """
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **kwargs)
    for ax in np.atleast_1d(axes).ravel():
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


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
    attack = re.fullmatch(r"(?:attack\.)?(fgsm|bim)[_-](\d+(?:\.\d+|_\d)?)(?:_255)?", name)
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
    return (
        set_name(label) if label in SETS or re.match(r"(attack\.)?(fgsm|bim)[_-]", label) else label
    )


def with_dashes(table, *, digits=2):
    """A table for readers: numbers as text of so many decimals, a dash where there is none.

    Args:
        table: DataFrame of numbers, NaN where one is missing.
        digits: decimals of each number, trailing zeros among them.

    Returns:
        DataFrame of str with the same labels.

    Example:
        >>> import pandas as pd
        >>> with_dashes(pd.DataFrame({"AUROC": [0.9, float("nan")], "gap": [-0.25, 0.1]}))
          AUROC    gap
        0  0.90  −0.25
        1     –   0.10
    """

    def written(number):
        return "–" if np.isnan(number) else f"{number:.{digits}f}".replace("-", "−")

    return table.map(written)


def method_looks(areas):
    """Label and line of each method's curve: at most five are named.

    Density is thick and blue, confidence orange. Of more than five methods the best other one is
    green, and the rest is thin and grey under one label.

    Args:
        areas: dict of method → its area, higher = better.

    Returns:
        dict of method → (name or None, dict of matplotlib's options for the line); of more than
        five methods, those with a name come first.
    """
    known = {"density": DENSITY, "confidence": CONFIDENCE}
    fixed = {}
    for name in areas:
        short = method_name(name, sizes=False)
        if short in known and short not in fixed.values():
            fixed[name] = short
    looks = {}
    for name, short in sorted(fixed.items(), key=lambda item: list(known).index(item[1])):
        thick, above = (2.6, 4) if short == "density" else (1.8, 3)
        looks[name] = (short, {"color": known[short], "linewidth": thick, "zorder": above})
    others = [name for name in areas if name not in fixed]
    if len(areas) <= FEW:
        for i, name in enumerate(others):
            colour = (PALETTE[2:] if fixed else PALETTE)[i]
            looks[name] = (method_name(name), {"color": colour, "linestyle": LINES[i]})
        return {name: looks[name] for name in areas}
    # Raw confidence orders inputs nearly as confidence does: it is no other method.
    rivals = [n for n in others if n != "Max softmax" or "confidence" not in fixed.values()]
    best = max(rivals, key=areas.get)
    style = {"color": BEST_OTHER, "linestyle": "-.", "zorder": 2.5}
    looks[best] = (f"best other: {method_name(best)}", style)
    grey = {"color": "0.7", "linewidth": 0.7, "zorder": 1}
    return looks | {name: (None, grey) for name in others if name != best}
