"""The book's figures: each function takes data and returns a matplotlib Axes or Figure."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Ellipse
from matplotlib.ticker import PercentFormatter, SymmetricalLogLocator
from sklearn.metrics import precision_recall_curve, roc_curve

__all__ = [
    "bars_with_intervals",
    "likelihood_histograms",
    "mixture_in_plane",
    "new_figure",
    "precision_recall_curves",
    "purification_heatmap",
    "purification_path_lines",
    "risk_coverage_curves",
    "rivals",
    "roc_curves",
    "shares_heatmap",
    "subspace_dots",
    "training_curves",
]

PALETTE = sns.color_palette("colorblind")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # a legend that hides no curve
FEW = 6  # curves whose legend finds room among them


def new_figure(columns=1, rows=1, *, width=4.6, height=3.4, **kwargs):
    """A figure in the book's style and its Axes; a notebook shows it when its cell ends.

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


def likelihood_histograms(ax, groups, *, clip=0.005, unit="nats per dimension", scale="linear"):
    """Overlaid densities of log-likelihoods, one a group (Fig. 2 and the top of Fig. 4).

    Args:
        ax: Axes to draw on.
        groups: dict of legend label → log-likelihoods (n,).
        clip: share of each tail, in [0, 0.5), that the axis leaves out and a note counts.
        unit: of the values, for the axis label.
        scale: "linear", or "asinh" where groups spread over powers of ten: linear near 0,
            logarithmic far from it. Areas are 1 on the scale that one sees.

    Returns:
        The Axes.
    """
    everything = np.concatenate([np.asarray(values) for values in groups.values()])
    low = min(np.quantile(values, clip) for values in groups.values())
    high = np.quantile(everything, 1 - clip / 5)
    there, back = {"linear": (np.asarray, np.asarray), "asinh": (np.arcsinh, np.sinh)}[scale]
    steps = np.linspace(there(low), there(high), 61)
    bins = back(steps)
    for (label, values), colour, line in zip(groups.items(), PALETTE, LINES, strict=False):
        weights = np.full(len(values), 1 / (len(values) * (steps[1] - steps[0])))
        style = {"color": colour, "bins": bins, "weights": weights}
        ax.hist(values, alpha=0.25, **style)
        ax.hist(values, histtype="step", linewidth=1.6, linestyle=line, label=label, **style)
    outside = np.mean((everything < low) | (everything > high))
    ax.set_xscale(scale)
    if scale == "asinh":  # whose own ticks crowd around 0
        ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
    ax.set_xlim(low, high)
    ax.set_xlabel(f"log-likelihood ({unit}); {outside:.1%} lie outside")
    ax.set_ylabel("density")
    ax.legend(frameon=False)
    return ax


def roc_curves(ax, groups, *, order=None):
    """ROC curves for detecting failures, AUROC in the legend (Fig. 3 left, 4 bottom, 5).

    Args:
        ax: Axes to draw on.
        groups: dict of legend label → (trusted scores (n,), suspect scores (m,)), higher = more
            trusted; the failure is the positive class.
        order: labels in the order of their colours, so that a method looks alike in panels that
            have different ones; None: as in ``groups``.

    Returns:
        The Axes.
    """
    order = list(groups if order is None else order)
    for label, (trusted, suspect) in groups.items():
        i, (positive, score) = order.index(label), _failures(trusted, suspect)
        false_positive, true_positive, _ = roc_curve(positive, score)
        auroc = np.trapezoid(true_positive, false_positive)
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": LINES[i % len(LINES)]}
        ax.plot(false_positive, true_positive, label=f"{label} ({auroc:.3f})", **style)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="chance (0.500)")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    place = {"loc": "best"} if len(groups) <= FEW else BESIDE
    ax.legend(title="method (AUROC)", frameon=False, fontsize="small", **place)
    return ax


def precision_recall_curves(ax, groups):
    """Precision–recall curves for detecting failures, average precision in the legend (Fig. 3).

    Args:
        ax: Axes to draw on.
        groups: as for :func:`roc_curves`.

    Returns:
        The Axes.
    """
    for i, (label, (trusted, suspect)) in enumerate(groups.items()):
        positive, score = _failures(trusted, suspect)
        precision, recall, _ = precision_recall_curve(positive, score)
        average = -np.sum(np.diff(recall) * precision[:-1])
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": LINES[i % len(LINES)]}
        ax.plot(recall, precision, label=f"{label} ({average:.3f})", **style)
    share = positive.mean()
    ax.axhline(share, color="0.6", linewidth=0.8, label=f"chance ({share:.3f})")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(title="method (AUPR)", frameon=False, fontsize="small", **BESIDE)
    return ax


def risk_coverage_curves(ax, curves):
    """Error rate among the inputs kept against the share kept, AURC in the legend.

    Args:
        ax: Axes to draw on.
        curves: dict of legend label → what
            :func:`~mistakes_lib.evaluation.risk.risk_coverage` returns.

    Returns:
        The Axes.
    """
    for i, (label, curve) in enumerate(curves.items()):
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": LINES[i % len(LINES)]}
        ax.plot(curve.coverage, curve.risk, label=f"{label} ({curve.aurc:.4f})", **style)
    ax.set(xlabel="coverage", ylabel="risk (error rate among kept)", xlim=(0, 1), ylim=(0, None))
    ax.legend(title="method (AURC)", frameon=False, fontsize="small", **BESIDE)
    return ax


def _failures(trusted, suspect):
    """Labels (1 = failure) and scores (higher = more suspect) of both groups, as scikit-learn's."""
    positive = np.r_[np.zeros(len(trusted)), np.ones(len(suspect))]
    return positive, -np.r_[np.asarray(trusted), np.asarray(suspect)]


def bars_with_intervals(ax, table, *, value="AUROC", low="low", high="high", chance=0.5):
    """Horizontal bars with confidence intervals, the best on top.

    Args:
        ax: Axes to draw on.
        table: DataFrame indexed by name, with the columns named by the other arguments.
        value: column of the bar's length, and axis label.
        low: column of the interval's lower end.
        high: column of the interval's upper end.
        chance: where a useless method would end.

    Returns:
        The Axes.
    """
    table = table.sort_values(value)
    errors = [table[value] - table[low], table[high] - table[value]]
    ax.barh(table.index, table[value], xerr=errors, color=PALETTE[0], alpha=0.8, capsize=3)
    ax.axvline(chance, color="0.4", linewidth=0.8, linestyle="--")
    ax.text(chance, 1.01, "chance", transform=ax.get_xaxis_transform(), ha="center", fontsize=8)
    ax.set(xlabel=value, xlim=(0, 1))
    return ax


def mixture_in_plane(ax, groups, means, variances):
    """Points in the plane, and the components of a diagonal mixture as ellipses of two deviations.

    Args:
        ax: Axes to draw on.
        groups: dict of legend label → points (n, 2).
        means: of the components, (k, 2).
        variances: of the components, (k, 2).

    Returns:
        The Axes.
    """
    for colour, marker, (label, points) in zip(PALETTE, "osv^DPX*<>", groups.items(), strict=False):
        style = {"color": colour, "marker": marker, "alpha": 0.6, "linewidth": 0}
        ax.scatter(*np.transpose(points), s=14, label=label, **style)
    for number, (mean, variance) in enumerate(zip(means, variances, strict=True), start=1):
        width, height = 4 * np.sqrt(variance)
        ax.add_patch(Ellipse(mean, width, height, fill=False, linewidth=1.6))
        ax.annotate(str(number), mean, ha="center", va="center", fontweight="bold")
    ax.legend(frameon=False, **BESIDE)
    return ax


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
            ax.plot(epochs, values, LINES[i], color=PALETTE[i], label=label)
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
        ax.plot(mean.index, mean, LINES[i % len(LINES)], marker="o", color=color, label=name)
        ax.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.25)
    values = sorted(table[x].unique())
    ax.set(xscale="log", xlabel=x, ylabel=y)
    ax.set_xticks(values, labels=values)
    ax.minorticks_off()
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # lines may lie anywhere
    return ax


def purification_heatmap(ax, table, *, label="accuracy gain (percentage points)"):
    """A table as colours around zero, each cell annotated (Table 4).

    Args:
        ax: Axes to draw on.
        table: DataFrame of changes; rows and columns are the settings; NaN cells are void, and say
            so.
        label: of the colour bar.

    Returns:
        The Axes.
    """
    values = table.to_numpy(dtype=float)
    limit = max(np.nanmax(np.abs(values)), 0.05)
    sns.heatmap(
        table.astype(float),
        ax=ax,
        annot=True,
        fmt="+.2f",
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        cbar_kws={"label": label},
    )
    for row, column in np.argwhere(np.isnan(values)):  # which seaborn's annotation skips
        ax.text(column + 0.5, row + 0.5, "void", ha="center", va="center", color="0.4")
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


def rivals(results):
    """One panel a kind of failure: AUROCs of density (filled) and confidence (open), joined.

    Args:
        results: DataFrame indexed by (kind of failure, name of the test), with the columns
            "density" and "confidence", each an AUROC in [0, 1].

    Returns:
        Figure.

    Raises:
        ValueError: there is no row, or a column is missing.
    """
    missing = {"density", "confidence"} - set(results.columns)
    if missing or results.empty:
        raise ValueError(f"results needs rows, density and confidence; missing: {sorted(missing)}")
    kinds = [part for _, part in results.groupby(level=0, sort=False)]
    heights = [len(part) + 1 for part in kinds]
    figure, axes = plt.subplots(
        len(kinds),
        figsize=(7, 0.3 * sum(heights) + 0.6),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for ax, part in zip(axes[:, 0], kinds, strict=True):
        rows = range(len(part))
        ax.axvline(0.5, color="0.5", linestyle="--", linewidth=0.8)
        ax.hlines(rows, part["density"], part["confidence"], color="0.7", linewidth=3, zorder=1)
        ax.scatter(part["density"], rows, color=PALETTE[0], s=60, label="density", zorder=2)
        style = {"facecolors": "white", "edgecolors": PALETTE[1], "linewidths": 2, "zorder": 2}
        ax.scatter(part["confidence"], rows, s=50, label="confidence", **style)
        ax.set_yticks(rows, part.index.get_level_values(1))
        ax.set_ylim(len(part) - 0.5, -0.5)
        ax.set_title(part.index[0][0], loc="left", fontsize=10, fontweight="bold")
    axes[0, 0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    axes[-1, 0].set(xlabel="AUROC (dashed: coin toss)", xlim=(0, 1.02))
    return figure
