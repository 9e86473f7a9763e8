"""Two reports on a network that nobody here trained, which a chapter reads and a reader opens.

They need real images and the network's public weights, so `make book` does not make them:
``python book/build.py reports WEIGHTS`` does, with ``MISTAKES_DATA`` set. Kept are the numbers, the
page without plotly's library, and how both were made.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from plotly.offline import get_plotlyjs

from book.building.places import ROOT, BuildError
from mistakes_lib.attacks import fgsm
from mistakes_lib.classifiers.loading import load_network
from mistakes_lib.data.named import load_dataset
from mistakes_lib.runs.provenance import environment
from mistakes_lib.support.locations import REPORTS

__all__ = ["make_reports", "publish_reports", "with_library_beside"]

NETWORK = "resnet20"
LIBRARY = "plotly.min.js"  # one file for all pages, where the book is published
STRANGE = {"SVHN": "svhn", "Fashion-MNIST": "fashion_mnist", "noise": "gaussian_noise"}
ATTACKED = "FGSM"
EPS = 8 / 255  # of the attack, L∞ in [0, 1]
SOME = 1000  # images that are attacked, and images of noise
NORMALISATION = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CASES = {"seen": [], "held_out": ["--validation-from-test"]}


def make_reports(weights):
    """Make both reports with the command that the chapter shows, and keep them in book/reports.

    Args:
        weights: path of the network's public weights.

    Raises:
        BuildError: ``mistakes report`` failed; the message holds what it said.
        FileNotFoundError: no such weights, or images that are not at hand.
    """
    weights, own = Path(weights), REPORTS / NETWORK
    with tempfile.TemporaryDirectory() as folder:
        workshop = Path(folder)
        for file in (weights, own / "network.py"):
            shutil.copy(file, workshop)
        lay_out_images(workshop)
        attack_images(workshop, weights.name)
        for case, options in CASES.items():
            command = report_command(weights.name, case, options)
            said = run_command(command, workshop)
            keep_report(workshop / case, own / case, command, said)


def lay_out_images(workshop):
    """Write CIFAR-10, divided as its makers did, and the strange images as folders of PNG files."""
    for part in ("train", "validation", "test"):
        images = load_dataset("cifar10", part, download=False)
        split = "test" if part == "test" else "train"
        for i, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
            name = f"{images.classes[label]}/{part}-{i:05d}.png"
            write_image(image, workshop / "cifar10" / split / name)
    for name, data_set in STRANGE.items():
        images = load_dataset(data_set, "test", download=False).images
        for i, image in enumerate(images[:SOME] if name == "noise" else images):
            write_image(image, workshop / name / f"{i:05d}.png")


def attack_images(workshop, weights):
    """Write test images that FGSM has changed, as PNG files: with whole grey levels."""
    test = load_dataset("cifar10", "test", download=False)
    sys.path.insert(0, str(workshop))
    try:
        network = load_network(
            f"network:{NETWORK}",
            test.classes,
            weights=workshop / weights,
            image_size=(32, 32),
            **NORMALISATION,
        )
    finally:
        sys.path.remove(str(workshop))
    attacked = fgsm(network.classifier, test.images[:SOME], test.labels[:SOME], EPS)
    for i, image in enumerate(np.round(255 * attacked).astype(np.uint8)):
        write_image(image, workshop / ATTACKED / f"{i:05d}.png")


def write_image(image, path):
    """Write uint8 (3, h, w) as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.transpose(1, 2, 0)).save(path)


def report_command(weights, case, options):
    """The command line, as a list that begins with ``mistakes``."""
    command = ["mistakes", "report", "--model", f"network:{NETWORK}", "--weights", weights]
    command += ["--images", "cifar10", "--size", "32"]
    for name, values in NORMALISATION.items():
        command += [f"--{name}", ",".join(map(str, values))]
    for name in STRANGE:
        command += ["--ood", f"{name}={name}"]
    return [*command, "--adversarial", f"{ATTACKED}={ATTACKED}", *options, "--out", case]


def run_command(command, folder):
    """Run ``mistakes …`` in a folder and return what it says on the console."""
    module = [sys.executable, "-m", "mistakes_lib", *command[1:]]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        module, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    if done.returncode:
        raise BuildError(f"{shlex.join(command)}\nfailed:\n{done.stderr}")
    return done.stdout


def keep_report(made, kept, command, said):
    """Keep of a report's folder what is small, and how it was made; not the detector."""
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(made / "report.json", kept)
    page = (made / "report.html").read_text(encoding="utf-8")
    (kept / "report.html").write_text(with_library_beside(page), encoding="utf-8")
    made_with = {"command": shlex.join(command), "versions": environment(), "console": said}
    text = json.dumps(made_with, indent=1, ensure_ascii=False) + "\n"
    (kept / "made.json").write_text(text, encoding="utf-8")


def with_library_beside(page):
    """A report's page that loads plotly's library from a file instead of holding 5 MB of it.

    Args:
        page: str, the HTML that ``mistakes report`` writes.

    Returns:
        str: the page; the file is ``plotly.min.js``, two folders up.

    Raises:
        BuildError: the page does not hold the library once.
    """
    script = re.compile(r"<script[^>]*>/\*\*\n\* plotly\.js.*?</script>", re.DOTALL)
    beside, count = script.subn(f'<script src="../../{LIBRARY}"></script>', page)
    if count != 1:
        raise BuildError(f"a report's page must hold plotly's library once, holds it {count} times")
    return beside


def publish_reports(html):
    """Copy the reports' pages, and the one library that they load, to the published pages.

    Args:
        html: folder of the published pages; the reports get the place that they have in the clone.
    """
    published = html / REPORTS.relative_to(ROOT)
    for page in REPORTS.glob("*/*/report.html"):
        target = published / page.relative_to(REPORTS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, target)
    (published / LIBRARY).write_text(get_plotlyjs(), encoding="utf-8")
