"""Density against confidence on every kind of failure: the figure of the front page."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import blended_transform_factory

from mistakes_lib.book.plotting.style import CONFIDENCE, DENSITY

__all__ = ["rivals"]

# In inches. So narrow a figure needs no scrolling on a telephone, and its text is legible there.
WIDTH, LINE = 5.1, 0.3  # the figure, a line for a test
HEAD, THUMB, PITCH = 1.35, 0.62, 1.22  # a panel's head, an image, from an image to the next
FONT = 10  # of all text but the panels' titles
LETTERS = 15  # a line above an image


def rivals(results, *, sentences=None, pictures=None):
    """One panel a kind of failure: AUROCs of density (filled) and confidence (open), joined.

    Args:
        results: DataFrame indexed by (kind of failure, name of the test), with the columns
            "density" and "confidence", each an AUROC in [0, 1].
        sentences: kind of failure → what its panel shows, printed above the panel, right of its
            pictures.
        pictures: kind of failure → list of at most three (image, text), as for
            :func:`~mistakes_lib.book.plotting.gallery`, shown above the panel at the left.

    Returns:
        Figure.

    Raises:
        ValueError: there is no row, a column is missing, a panel has more than three pictures, or
            a sentence or picture is of no panel.
    """
    missing = {"density", "confidence"} - set(results.columns)
    if missing or results.empty:
        raise ValueError(f"results needs rows, density and confidence; missing: {sorted(missing)}")
    kinds = dict(iter(results.groupby(level=0, sort=False)))
    sentences, pictures = sentences or {}, pictures or {}
    strangers = ({*sentences} | {*pictures}) - {*kinds}
    if strangers or any(len(images) > 3 for images in pictures.values()):
        raise ValueError(
            f"pictures are at most three a panel, panels are {[*kinds]}; unknown: {[*strangers]}"
        )
    tall = HEAD if pictures else 0.75 if sentences else 0.35
    heights = [height for part in kinds.values() for height in (tall, LINE * len(part))]
    figure, axes = plt.subplots(
        len(heights),
        figsize=(WIDTH, sum(heights) + 0.6),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for (kind, part), head, ax in zip(kinds.items(), axes[::2], axes[1::2], strict=True):
        _head(head, kind, sentences.get(kind, ""), pictures.get(kind, ()), tall)
        _panel(ax, part)
        ax.sharex(axes[1])
        ax.tick_params(labelbottom=ax is axes[-1])
    axes[1].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), fontsize=FONT)
    axes[-1].set(xlabel="AUROC (dashed: coin toss)", xlim=(0, 1.02))
    return figure


def _panel(ax, part):
    """A line a test."""
    rows = range(len(part))
    ax.axvline(0.5, color="0.5", linestyle="--", linewidth=0.8)
    ax.hlines(rows, part["density"], part["confidence"], color="0.7", linewidth=3, zorder=1)
    ax.scatter(part["density"], rows, color=DENSITY, s=60, label="density", zorder=2)
    style = {"facecolors": "white", "edgecolors": CONFIDENCE, "linewidths": 2, "zorder": 2}
    ax.scatter(part["confidence"], rows, s=50, label="confidence", **style)
    ax.set_yticks(rows, part.index.get_level_values(1))
    ax.set_ylim(len(part) - 0.5, -0.5)


def _head(ax, kind, sentence, pictures, tall):
    """A panel's pictures from the figure's left edge on, its title and sentence right of them."""
    ax.set_axis_off()
    place = blended_transform_factory(ax.figure.transFigure, ax.transAxes)
    beside = 0.01 + PITCH * len(pictures) / WIDTH
    ax.text(beside, 0.97, kind, fontsize=11, fontweight="bold", va="top", transform=place)
    told = textwrap.fill(sentence, 18 if pictures else 68)  # letters a line
    below = 0.97 - 0.24 / tall
    ax.text(beside, below, told, fontsize=FONT, va="top", transform=place)
    for column, (image, text) in enumerate(pictures):
        left = (PITCH * column + (PITCH - THUMB) / 2) / WIDTH
        bounds = (left, 0.02, THUMB / WIDTH, THUMB / tall)
        inset = ax.inset_axes(bounds, transform=place)
        inset.imshow(np.transpose(image, (1, 2, 0)), interpolation="nearest")
        inset.set_axis_off()
        lines = [textwrap.fill(line, LETTERS) for line in text.split("\n")]
        inset.set_title("\n".join(lines), fontsize=FONT, pad=2, linespacing=1.0)
