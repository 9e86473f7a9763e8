"""What made a run: network, hardware, versions, revision."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

from mistakes_lib.classifiers.building import title_of as architecture_title
from mistakes_lib.support.locations import ROOT

__all__ = ["environment", "hardware_of", "title_of"]

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")


def title_of(experiment):
    """The field's name of a classifier: DenseNet-BC-40-12, WRN-28-10, TE-WRN-28-10.

    Trained supervised on few labels: WRN-28-10 (100 labels per class).
    """
    title = architecture_title(experiment.architecture)
    if experiment.labels_per_class is None:
        return title
    if experiment.ensembling:
        return f"TE-{title}"
    return f"{title} ({experiment.labels_per_class} labels per class)"


def hardware_of(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    threads = torch.get_num_threads()
    return f"{model}, {threads} thread{'s' if threads > 1 else ''}"


def environment():
    """Versions and source revision, enough to know what made a run."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **versions, "revision": revision()}


def revision():
    source = ROOT
    git = ["git", "-C", str(source), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"mistakes {importlib.metadata.version('mistakes')}"
