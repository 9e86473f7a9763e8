"""Run folders: a trained classifier and all that was computed from it, with provenance.

``<data set>/<classifier>/seed<k>/`` holds ``run.json`` (parameters, versions, data fingerprints,
the SHA-256 of every file) and safetensors files. Nothing is pickled.
"""

from mistakes_lib.runs.making import make_run, train_run
from mistakes_lib.runs.publishing import publish_run
from mistakes_lib.runs.reading import Run, load_run, published_runs
from mistakes_lib.storage import runs_root

__all__ = [
    "Run",
    "load_run",
    "make_run",
    "publish_run",
    "published_runs",
    "runs_root",
    "train_run",
]
