"""Curves of detectors. Their areas come from the functions that the tables use."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from mistakes_lib.book.plotting.style import CHANCE, method_looks

__all__ = ["precision_recall_curves", "risk_coverage_curves", "roc_curves"]


def roc_curves(ax, groups):
    """ROC curves for detecting failures, AUROC in the legend (the paper's Fig. 3 to 5).

    Args:
        ax: Axes to draw on.
        groups: dict of method → (trusted scores (n,), suspect scores (m,)), higher = more trusted;
            the failure is the positive class. Of more than five, density, confidence and the best
            other are named, and the rest is grey.

    Returns:
        The Axes.
    """
    areas = {name: _report(*pair).auroc for name, pair in groups.items()}
    curves = {}
    for name, pair in groups.items():
        false_positive, true_positive, _ = roc_curve(*_failures(*pair))
        curves[name] = false_positive, true_positive
    _draw(ax, curves, areas)
    ax.plot([0, 1], [0, 1], label="chance (0.500)", **CHANCE)
    ax.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(title="method (AUROC)", frameon=False, fontsize="small", loc="best")
    return ax


def precision_recall_curves(ax, groups):
    """Precision–recall curves for detecting failures, average precision in the legend.

    Args:
        ax: Axes to draw on.
        groups: as for :func:`roc_curves`.

    Returns:
        The Axes.
    """
    areas = {name: _report(*pair).aupr for name, pair in groups.items()}
    curves = {}
    for name, pair in groups.items():
        precision, recall, _ = precision_recall_curve(*_failures(*pair))
        curves[name] = recall, precision
    _draw(ax, curves, areas)
    trusted, suspect = next(iter(groups.values()))
    share = len(suspect) / (len(trusted) + len(suspect))
    ax.axhline(share, label=f"chance ({share:.3f})", **CHANCE)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(title="method (AUPR)", frameon=False, fontsize="small", loc="best")
    return ax


def risk_coverage_curves(ax, curves):
    """Error rate among the inputs kept against the share kept, AURC in the legend.

    Args:
        ax: Axes to draw on.
        curves: dict of method → what
            :func:`~mistakes_lib.evaluation.risk.risk_coverage` returns.

    Returns:
        The Axes; its vertical axis ends a little above the error rate of all inputs.
    """
    areas = {name: curve.aurc for name, curve in curves.items()}
    lines = {name: (curve.coverage, curve.risk) for name, curve in curves.items()}
    _draw(ax, lines, areas, lower_is_better=True, digits=4)
    everything = max(curve.risk[-1] for curve in curves.values())
    ax.set(xlabel="coverage (share kept)", ylabel="risk (error rate among kept)")
    ax.set(xlim=(0, 1), ylim=(0, 1.25 * everything or 1))
    ax.legend(title="method (AURC)", frameon=False, fontsize="small", loc="best")
    return ax


def _draw(ax, curves, areas, *, lower_is_better=False, digits=3):
    """Each curve in its method's look; the grey ones share one entry of the legend."""
    sign = -1 if lower_is_better else 1
    looks = method_looks({name: sign * area for name, area in areas.items()})
    unnamed = sum(label is None for label, _ in looks.values())
    for name, (label, style) in looks.items():
        text = f"{label} ({areas[name]:.{digits}f})" if label else "_"
        if label is None and unnamed:
            text, unnamed = f"{unnamed} other methods", 0
        ax.plot(*curves[name], label=text, **style)


def _report(trusted, suspect):
    from mistakes_lib.evaluation.detection import detection_report  # loads PyTorch

    return detection_report(trusted, suspect, resamples=1, random_state=0)


def _failures(trusted, suspect):
    """Labels (1 = failure) and scores (higher = more suspect) of both groups, as scikit-learn's."""
    positive = np.r_[np.zeros(len(trusted)), np.ones(len(suspect))]
    return positive, -np.r_[np.asarray(trusted), np.asarray(suspect)]
