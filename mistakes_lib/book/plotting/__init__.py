"""The book's figures: each function takes data and returns a matplotlib Axes or Figure.

A method has one colour and one name in the whole book: the density of features is blue, the
network's confidence orange.
"""

from mistakes_lib.book.names import call_by_name, method_name, set_name, with_dashes
from mistakes_lib.book.plotting.captions import Figures
from mistakes_lib.book.plotting.comparisons import (
    dots_with_intervals,
    purification_heatmap,
    shares_heatmap,
    subspace_dots,
)
from mistakes_lib.book.plotting.courses import (
    lines_with_spread,
    purification_path_lines,
    training_curves,
)
from mistakes_lib.book.plotting.curves import (
    precision_recall_curves,
    risk_coverage_curves,
    roc_curves,
)
from mistakes_lib.book.plotting.distributions import likelihood_histograms, mixture_in_plane
from mistakes_lib.book.plotting.galleries import gallery, judged_images, sheet_images
from mistakes_lib.book.plotting.rivals import rivals
from mistakes_lib.book.plotting.style import (
    CONFIDENCE,
    DENSITY,
    LINES,
    PALETTE,
    new_figure,
)

__all__ = [
    "CONFIDENCE",
    "DENSITY",
    "LINES",
    "PALETTE",
    "Figures",
    "call_by_name",
    "dots_with_intervals",
    "gallery",
    "judged_images",
    "likelihood_histograms",
    "lines_with_spread",
    "method_name",
    "mixture_in_plane",
    "new_figure",
    "precision_recall_curves",
    "purification_heatmap",
    "purification_path_lines",
    "risk_coverage_curves",
    "rivals",
    "roc_curves",
    "set_name",
    "shares_heatmap",
    "sheet_images",
    "subspace_dots",
    "training_curves",
    "with_dashes",
]
