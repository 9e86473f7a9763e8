"""Is everything there that training, runs and the book need? Each check says what to do if not."""

import importlib
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from mistakes_lib.cli.images import advise, describe
from mistakes_lib.data.inventory import take_stock
from mistakes_lib.data.named import data_root
from mistakes_lib.support.locations import runs_root

__all__ = ["Check", "examine"]

GIGABYTE = 10**9
NEEDED_DISK = 1 * GIGABYTE  # a run at paper scale, with the checkpoint of its training
BOOK_COMMANDS = ("jupyter-book", "papermill", "jupytext")


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        name: what was looked at.
        status: "ok", "note" (works, but know it) or "problem".
        found: what is there.
        advice: what to do, where there is something to do.
    """

    name: str
    status: str
    found: str
    advice: str = ""


def examine(*, data=None, runs=None):
    """Look at Python, packages, GPU, images, disk and the book's tools.

    Args:
        data: folder of images; see :func:`~mistakes_lib.data.named.data_root`.
        runs: folder of runs; by default $MISTAKES_RUNS, else ``runs`` in the working directory.

    Returns:
        list of :class:`Check`.
    """
    return [
        Check("Python", "ok", platform.python_version()),
        *_packages(),
        _torchvision(),
        _gpu(),
        *_images(data_root(data)),
        _disk(runs_root(runs)),
        _book(),
    ]


def _packages(distribution="mistakes"):
    """Installed versions against what the package asks for; only what is wrong is listed."""
    requirements = [Requirement(line) for line in metadata.requires(distribution) or []]
    wanted = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    problems = []
    for requirement in wanted:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not requirement.specifier.contains(version, prereleases=True):
            advice = f'pip install "{requirement}"'
            problems.append(Check(requirement.name, "problem", version, advice))
    return problems or [Check("packages", "ok", f"all {len(wanted)} in the versions asked for")]


def _torchvision():
    """The two must be built for each other, which their version numbers alone do not ensure."""
    try:
        torch, torchvision = map(importlib.import_module, ("torch", "torchvision"))
    except (ImportError, RuntimeError) as error:
        advice = "install torch and torchvision together, from one index"
        return Check("torchvision", "problem", f"cannot be imported: {error}", advice)
    return Check("torchvision", "ok", f"{torchvision.__version__} with torch {torch.__version__}")


def _gpu():
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        threads = torch.get_num_threads()
        advice = "the book and quick runs need none; paper-scale training takes days without"
        return Check("GPU", "note", f"none; {threads} CPU threads", advice)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("GPU", "ok", ", ".join(names))


def _images(folder):
    """One check for all sets if none is there, else one for each; only test parts are read."""
    held = [h for h in take_stock(folder, parts=("test",)) if h.status != "made here"]
    if all(holding.status == "missing" for holding in held):
        advice = "the book needs none; for runs, set MISTAKES_DATA to the folder with images"
        return [Check("images", "note", f"none of the named data sets in {folder}", advice)]
    status = {"original": "ok", "unreadable": "problem"}
    return [
        Check(f"images of {h.name}", status.get(h.status, "note"), describe(h), advise(h))
        for h in held
    ]


def _disk(folder):
    existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIGABYTE:.0f} GB free for runs in {folder}"
    if free < NEEDED_DISK:
        return Check("disk", "problem", found, "make room, or set MISTAKES_RUNS to another disk")
    return Check("disk", "ok", found)


def _book():
    folder = Path(sys.executable).parent
    missing = [name for name in BOOK_COMMANDS if not shutil.which(name, path=str(folder))]
    if missing:
        advice = 'to build the book, `make book` or pip install -e ".[book]"'
        return Check("book", "note", f"without {', '.join(missing)}", advice)
    return Check("book", "ok", f"{', '.join(BOOK_COMMANDS)} are installed")
