"""The one place that knows where the book's own files lie, in a clone and in an installed wheel."""

import os
from pathlib import Path

__all__ = [
    "BOOK",
    "CHAPTERS",
    "IN_A_CLONE",
    "PARAMETERS",
    "PUBLISHED_RUNS",
    "PUBLISHED_SWEEPS",
    "PUBLISHED_TWINS",
    "REPORTS",
    "ROOT",
    "runs_root",
    "without_a_clone",
]

# A wheel holds copies of the small files, in the same places as a clone (setup.py puts them there).
_PACKAGED = Path(__file__).resolve().parents[1] / "packaged"
IN_A_CLONE = not _PACKAGED.is_dir()
ROOT = Path(__file__).resolve().parents[2] if IN_A_CLONE else _PACKAGED
BOOK = ROOT / "book"
CHAPTERS = ROOT / "notebooks"
PARAMETERS = CHAPTERS / "parameters"
PUBLISHED_RUNS = BOOK / "runs"
PUBLISHED_SWEEPS = BOOK / "sweeps"
PUBLISHED_TWINS = BOOK / "twins"
REPORTS = BOOK / "reports"


def runs_root(root=None):
    """Where new runs go: ``root``, else $MISTAKES_RUNS, else ``runs`` in the working directory."""
    return Path(root or os.environ.get("MISTAKES_RUNS") or "runs")


def without_a_clone(what):
    """What to add to an error where there is no clone: that a clone has this; "" in a clone.

    Args:
        what: such as "the published runs".
    """
    if IN_A_CLONE:
        return ""
    return f" This is the installed library alone; a clone of the repository has {what}."
