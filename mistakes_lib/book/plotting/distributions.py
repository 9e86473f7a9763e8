"""How scores and features are spread."""

import numpy as np
from matplotlib.patches import Ellipse
from matplotlib.ticker import SymmetricalLogLocator

from mistakes_lib.book.plotting.style import BESIDE, LINES, PALETTE

__all__ = ["likelihood_histograms", "mixture_in_plane"]


def likelihood_histograms(ax, groups, *, clip=0.005, unit="nats per dimension", scale="linear"):
    """Overlaid densities of log-likelihoods, one a group (the paper's Fig. 2).

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
    bins[[0, -1]] = low, high  # rounded there and back, they may leave out the extreme values
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
