"""The one place that knows where the book's own files lie."""

import os
from pathlib import Path

__all__ = ["BOOK", "CHAPTERS", "PARAMETERS", "PUBLISHED_RUNS", "PUBLISHED_SWEEPS", "runs_root"]

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
CHAPTERS = ROOT / "notebooks"
PARAMETERS = CHAPTERS / "parameters"
PUBLISHED_RUNS = BOOK / "runs"
PUBLISHED_SWEEPS = BOOK / "sweeps"


def runs_root(root=None):
    """Where new runs go: ``root``, else $MISTAKES_RUNS, else ``runs`` in the working directory."""
    return Path(root or os.environ.get("MISTAKES_RUNS") or "runs")
