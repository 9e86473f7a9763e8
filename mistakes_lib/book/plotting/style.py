"""What all figures share: size, colours and lines."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from mistakes_lib.book.names import method_name

__all__ = [
    "BESIDE",
    "CHANCE",
    "CONFIDENCE",
    "DENSITY",
    "LINES",
    "PALETTE",
    "method_looks",
    "new_figure",
]

PALETTE = sns.color_palette("colorblind")
DENSITY, CONFIDENCE, BEST_OTHER = PALETTE[:3]
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # a legend that hides no curve
CHANCE = {"color": "0.6", "linewidth": 0.8}
FEW = 5  # curves that a reader can tell apart


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
