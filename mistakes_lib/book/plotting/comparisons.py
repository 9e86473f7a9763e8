"""Methods, settings and failures side by side."""

import numpy as np
import seaborn as sns
from matplotlib.ticker import PercentFormatter

from mistakes_lib.book.plotting.style import (
    PALETTE,
    method_looks,
    method_name,
)
from mistakes_lib.support.signs import typeset

__all__ = [
    "dots_with_intervals",
    "purification_heatmap",
    "shares_heatmap",
    "subspace_dots",
]


def dots_with_intervals(ax, table, *, value="AUROC", low="low", high="high", chance=0.5):
    """One dot a method with its confidence interval, the best on top.

    Density is a filled blue dot, confidence an open orange one, the best other green,
    and the rest grey.

    Args:
        ax: Axes to draw on.
        table: DataFrame indexed by method, with the columns named by the other arguments.
        value: column of the dot's place, and axis label.
        low: column of the interval's lower end.
        high: column of the interval's upper end.
        chance: where a useless method would stand.

    Returns:
        The Axes; its horizontal axis holds all intervals and the chance, and no more.
    """
    table = table.sort_values(value)
    looks = method_looks(table[value].to_dict())
    for place, (name, row) in enumerate(table.iterrows()):
        colour = looks[name][1]["color"] if looks[name][0] else "0.5"
        face = "white" if looks[name][0] == "confidence" else colour
        spread = [[row[value] - row[low]], [row[high] - row[value]]]
        style = {"fmt": "o", "color": colour, "markerfacecolor": face, "capsize": 3}
        ax.errorbar(row[value], place, xerr=spread, **style)
    ax.set_yticks(range(len(table)), [method_name(name) for name in table.index])
    ax.axvline(chance, color="0.4", linewidth=0.8, linestyle="--")
    ax.text(chance, 1.01, "chance", transform=ax.get_xaxis_transform(), ha="center", fontsize=8)
    ends = min(chance, table[low].min()), max(chance, table[high].max())
    room = 0.05 * (ends[1] - ends[0])
    ax.set(xlabel=value, xlim=(ends[0] - room, ends[1] + room))
    return ax


def purification_heatmap(ax, table, *, label="accuracy gain (percentage points)"):
    """A table as colours around zero, each cell annotated (Table 4).

    Args:
        ax: Axes to draw on.
        table: DataFrame of changes; rows and columns are the settings; NaN cells are void, and say
            so. Levels of a row's name are separated by commas.
        label: of the colour bar.

    Returns:
        The Axes.
    """
    values = table.to_numpy(dtype=float)
    limit = max(np.nanmax(np.abs(values)), 0.05)
    sns.heatmap(
        table.astype(float),
        ax=ax,
        annot=np.vectorize(_change)(values),
        fmt="",
        yticklabels=[_joined(name) for name in table.index],
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        cbar_kws={"label": label},
    )
    for row, column in np.argwhere(np.isnan(values)):  # which seaborn's annotation skips
        ax.text(column + 0.5, row + 0.5, "void", ha="center", va="center", color="0.4")
    return ax


def _change(value):
    """A change with its sign; without one where nothing of it is left."""
    text = f"{value:+.2f}"
    return text[1:] if float(text) == 0 else typeset(text)


def _joined(name):
    return ", ".join(map(str, name)) if isinstance(name, tuple) else name


def shares_heatmap(ax, table, *, label="share flagged"):
    """Shares of inputs flagged by each detector (rows), of each kind (columns), annotated.

    Args:
        ax: Axes to draw on.
        table: DataFrame that :func:`~mistakes_lib.evaluation.one_detector.shares_caught` returned.
        label: of the colour bar.

    Returns:
        The Axes.
    """
    sns.heatmap(
        table,
        ax=ax,
        annot=True,
        fmt=".0%",
        cmap="Blues",
        vmin=0,
        vmax=1,
        cbar_kws={"label": label, "format": PercentFormatter(1)},
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", rotation=45)
    return ax


def subspace_dots(ax, table, failure):
    """AUROC of a mixture on each subspace of the features, with intervals, one row a subspace.

    Args:
        ax: Axes to draw on.
        table: DataFrame that
            :func:`~mistakes_lib.evaluation.subspaces.information_by_subspace` returned.
        failure: which failure of it to draw.

    Returns:
        The Axes.
    """
    rows = table.xs(failure, level="failure")[::-1]
    places = np.arange(len(rows))
    spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["AUROC"].to_numpy())
    ax.errorbar(rows["AUROC"], places, xerr=spread, fmt="o", color=PALETTE[0], capsize=3)
    ax.axvline(0.5, color="0.6", linewidth=0.8)
    labels = [f"{name} ({row.dimensions:.0f})" for name, row in rows.iterrows()]
    ax.set_yticks(places, labels)
    ax.set_xlabel(f"AUROC for {failure}")
    return ax
