"""What changes along an axis: epochs, numbers of Gaussians, strengths."""

import numpy as np
from matplotlib.ticker import PercentFormatter

from mistakes_lib.book.plotting.style import BESIDE, LINES, PALETTE

__all__ = ["lines_with_spread", "purification_path_lines", "training_curves"]


def training_curves(ax, history):
    """Training and validation accuracy over the epochs.

    Args:
        ax: Axes to draw on.
        history: list of dicts as :func:`~mistakes_lib.training.supervised.train` returns it.

    Returns:
        The Axes.
    """
    epochs = [record["epoch"] for record in history]
    for i, name in enumerate(("accuracy", "validation_accuracy")):
        if name in history[0]:
            label = {"accuracy": "train (augmented)"}.get(name, "validation")
            values = [record[name] for record in history]
            ax.plot(epochs, values, linestyle=LINES[i], color=PALETTE[i], label=label)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="epoch", ylabel="accuracy")
    ax.legend(frameon=False)
    return ax


def lines_with_spread(ax, table, *, x, y, line):
    """Mean of ``y`` against ``x`` on a logarithmic axis, with a band of one standard deviation.

    Args:
        ax: Axes to draw on.
        table: DataFrame with a row a run and the columns named by the other arguments.
        x: column of positive numbers.
        y: column of numbers, of which runs with the same ``x`` and ``line`` are averaged.
        line: column that tells the lines apart.

    Returns:
        The Axes.
    """
    for i, (name, rows) in enumerate(table.groupby(line, sort=False)):
        runs = rows.groupby(x)[y]
        mean, spread = runs.mean(), runs.std().fillna(0)
        color = PALETTE[i % len(PALETTE)]
        style = {"linestyle": LINES[i % len(LINES)], "color": color, "marker": "o"}
        ax.plot(mean.index, mean, label=name, **style)
        ax.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.25)
    values = sorted(table[x].unique())
    ax.set(xscale="log", xlabel=x, ylabel=y)
    ax.set_xticks(values, labels=values)
    ax.minorticks_off()
    ax.legend(frameon=False, **BESIDE)
    return ax


def purification_path_lines(axes, path, *, split="test"):
    """Likelihood and accuracy along a path over ν: the first rises while the second falls (App. B).

    Args:
        axes: two Axes, left for the bits gained, right for the predictions that change.
        path: DataFrame that :func:`~mistakes_lib.purification.effect.purification_path` returned.
        split: which of its splits to draw.

    Returns:
        The two Axes.
    """
    left, right = axes
    rows = path.loc[split].sort_index(ascending=False)
    places = np.arange(len(rows))  # ν = 0 has no place on a logarithmic axis
    left.plot(places, rows["bits gained"], marker="o", color=PALETTE[0])
    left.set_ylabel("likelihood gained (bits per dimension)")
    for name, marker, colour in (("broken", "v", PALETTE[3]), ("corrected", "^", PALETTE[2])):
        right.plot(places, rows[name], marker=marker, color=colour, label=name)
    right.set_ylabel("predictions")
    right.legend(frameon=False)
    for ax in axes:
        ax.set_xticks(places, [f"{nu:g}" for nu in rows.index])
        ax.set_xlabel("strength ν, from a tight hold to none")
    return axes
