"""Copy a run to where others read it, perhaps without its largest file."""

import json
import shutil
import tempfile
from pathlib import Path

from mistakes_lib.runs.files import TRAINING_FEATURES
from mistakes_lib.runs.reading import PUBLISHED_RUNS, Run

__all__ = ["publish_run"]


def publish_run(run, root=None, *, training_features=True):
    """Copy a finished run, every file checked, without what only its making needs.

    Args:
        run: :class:`Run`.
        root: folder of runs to copy it to; by default the book's.
        training_features: copy these as well. Without them a run still scores by the densities and
            detectors that it holds, but no other can be fitted.

    Returns:
        Run: the copy.

    Raises:
        FileExistsError: the folder has such a run already.
        ValueError: a file is damaged.

    Example:
        >>> from mistakes_lib.runs.reading import load_run
        >>> run = load_run("cifar10/densenet_bc_40_12/seed0")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     copy = publish_run(run, folder, training_features=False)
        ...     copy.name == run.name, copy.has_training_features
        (True, False)
    """
    destination = Path(PUBLISHED_RUNS if root is None else root) / run.name
    if destination.exists():
        raise FileExistsError(f"{destination} is there already: remove it first")
    destination.parent.mkdir(parents=True, exist_ok=True)
    files = {
        name: checksum
        for name, checksum in run.info["files"].items()
        if training_features or name != TRAINING_FEATURES
    }
    with tempfile.TemporaryDirectory(dir=destination.parent) as temporary:
        copy = Path(temporary) / "run"
        for name in files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.file(name), copy / name)
        record = json.dumps(run.info | {"files": files}, indent=1)
        (copy / "run.json").write_text(record + "\n", encoding="utf-8")
        copy.rename(destination)  # all of it or nothing
    return Run(destination)
