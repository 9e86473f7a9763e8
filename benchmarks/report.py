"""`mistakes report` on a folder of images: where its seconds go, and its memory.

    python -m benchmarks.report [--images 70000] [--fewer 10000] [--workers 0 1 2]

A ResNet-20 on images of 32 × 32: CIFAR-10's own if $MISTAKES_DATA has them, as class folders, else
noise. Of seven images five are for training, one for testing, and one is strange: noise. All images
with the greatest number of workers; fewer with each number, beside a plain loop that makes the
features alone. Every report is a process of its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.measuring import as_table, limit_threads, machine, new_parser, peak_memory, start
from benchmarks.results import headline, named, write_section
from book.reports.resnet20.network import resnet20

# In the order of the network's outputs.
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
CLASSES = ("airplane", "automobile", *ANIMALS, "ship", "truck")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHECKPOINT = "resnet20-12fca82f.th"
# Phase → the functions of mistakes_lib.report.model that it consists of.
PHASES = {
    "features": ("features_of_folders",),
    "trials of other inputs": ("try_other_inputs",),
    "fits and tables": ("make_report",),
    "page": ("report_html", "thumbnails"),
}
WANTED_SECONDS = 65  # for 70,000 images on two cores


def data_folder():
    """Where the real images are, or None."""
    root = Path(os.environ.get("MISTAKES_DATA", ""), "cifar10")
    whole = all((root / part / name).is_dir() for part in ("train", "test") for name in CLASSES)
    return root if whole else None


def checkpoint():
    """The published weights, or None."""
    path = Path(os.environ.get("MISTAKES_DATA", ""), "foreign", CHECKPOINT)
    return path if path.is_file() else None


def noise(folder, n, rng):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )


def make_images(folder, n, real):
    """About n images: FOLDER/images/{train,test}/CLASS and FOLDER/strange.

    ``real``: where the images of the classes are, or None for noise.

    Returns:
        int, their number.
    """
    rng, of_class = np.random.default_rng(0), n // 70
    for part, count in (("train", 5 * of_class), ("test", of_class)):
        for name in CLASSES:
            own = folder / "images" / part / name
            if real is None:
                noise(own, count, rng)
                continue
            own.mkdir(parents=True)
            for path in sorted((real / part / name).iterdir())[:count]:
                (own / path.name).symlink_to(path.resolve())
    noise(folder / "strange", 10 * of_class, rng)
    return sum(1 for _ in folder.rglob("*.png"))


@contextmanager
def stopwatch(owner, name, seconds):
    """Add the seconds of every call of ``owner.name`` to ``seconds[name]``."""
    plain = getattr(owner, name)

    def measured(*args, **kwargs):
        started = perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + perf_counter() - started

    with mock.patch.object(owner, name, measured):
        yield


def profile(arguments, threads):
    """Run the command in this process, and return what :func:`measure` does, but the whole time."""
    from mistakes_lib.classifiers import FeatureClassifier
    from mistakes_lib.cli.app import app
    from mistakes_lib.report import model

    limit_threads(threads)
    seconds, inside, plain = {}, {}, model.features_of_folders

    def with_the_network_watched(*args, **kwargs):  # there only: trials of inputs run it as well
        with stopwatch(FeatureClassifier, "features", inside):
            return plain(*args, **kwargs)

    with ExitStack() as watches:
        watches.enter_context(
            mock.patch.object(model, "features_of_folders", with_the_network_watched)
        )
        for name in (name for names in PHASES.values() for name in names):
            watches.enter_context(stopwatch(model, name, seconds))
        app(["report", *arguments], standalone_mode=False)
    found = {phase: sum(seconds.get(name, 0) for name in own) for phase, own in PHASES.items()}
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "network": inside["features"],
        "waiting for images": found.pop("features") - inside["features"],
        **found,
        "peak": peak_memory(),
        "peak of a worker": children,
    }


def measure(folder, workers, weights, threads):
    """Seconds of each phase and in all, and MB: a dict."""
    command = ["--model", f"{resnet20.__module__}:resnet20", "--images", str(folder / "images")]
    command += ["--ood", f"strange={folder / 'strange'}", "--workers", str(workers)]
    command += ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]
    command += ["--out", str(folder / "report"), "--device", "cpu"]
    command += ["--weights", str(weights)] if weights else []
    code = "import json, sys; from benchmarks.report import profile\n"
    code += "open(sys.argv[1], 'w').write(json.dumps(profile(sys.argv[3:], int(sys.argv[2]))))"
    out = folder / "profile.json"
    started = perf_counter()
    call = [sys.executable, "-c", code, str(out), str(threads), *command]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    whole = perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"mistakes report failed: {done.stderr[-2000:]}")
    found = json.loads(out.read_text(encoding="utf-8"))
    named_seconds = sum(value for name, value in found.items() if not name.startswith("peak"))
    return {"all": whole, **found, "start and rest": whole - named_seconds}


def plain_loop(folder, workers):
    """Seconds of a plain loop that makes the features of the same images, and nothing else."""
    net = resnet20().eval()
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    sets = [folder / "images" / "train", folder / "images" / "test"]
    started = perf_counter()
    with torch.no_grad():
        for images in [*(ImageFolder(path, change) for path in sets), Strange(folder, change)]:
            for batch, _ in torch.utils.data.DataLoader(images, 64, num_workers=workers):
                net(batch)
    return perf_counter() - started


class Strange(torch.utils.data.Dataset):
    """The images of one folder without classes."""

    def __init__(self, folder, change):
        self.paths, self.change = sorted((folder / "strange").iterdir()), change

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        with Image.open(self.paths[row]) as image:
            return self.change(image.convert("RGB")), 0


def row_of(n, workers, found, plain):
    """A row of the table."""
    phases = ["waiting for images", "network", *list(PHASES)[1:], "start and rest"]
    peaks = [found["peak"], found["peak of a worker"] if workers else None]
    return [n, workers, found["all"], *(found[name] for name in phases), plain, *peaks]


def main(argv=None):
    parser = new_parser(__doc__, repeats=1)
    parser.add_argument("--images", type=int, default=70_000)
    parser.add_argument("--fewer", type=int, default=10_000, help="images for each of --workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    arguments = start(parser, argv)
    real, weights = data_folder(), checkpoint()
    whole = arguments.images, max(arguments.workers)
    cases = dict.fromkeys([*((arguments.fewer, workers) for workers in arguments.workers), whole])
    rows, lines = [], []
    for n, workers in cases:
        theirs, own = [], []
        for _ in range(arguments.repeats):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                count = make_images(folder, n, real)
                found = measure(folder, workers, weights, arguments.threads)
                own.append(found["all"])
                theirs.append(plain_loop(folder, workers))
            rows.append(row_of(count, workers, found, theirs[-1]))
            print(rows[-1], flush=True)
        if (n, workers) == whole:
            lines = [summary(count, workers, found, theirs, own)]
    write_section("report", "`mistakes report`", page(arguments, rows, real, weights), lines)


def summary(n, workers, found, theirs, own):
    """The headline; ``found`` of the last run."""
    limit = f"{found['all']:.0f} s in all (of 70,000 images {WANTED_SECONDS} are wanted)"
    limit += f", the network alone {found['network']:.0f} s"
    peer = f"a plain loop that makes the features alone, {named('torchvision')}"
    return headline(
        f"`mistakes report`, {n:,} images, {workers} workers", peer, theirs, own, limit=limit
    )


def page(arguments, rows, real, weights):
    """The section's text."""
    images = "CIFAR-10's own and, as strange ones, noise" if real else "noise"
    weights = "published" if weights else "random"
    head = ["images", "workers", "in all, s", "waiting for images", "network"]
    head += [*list(PHASES)[1:], "start and rest", "plain loop, s", "peak MB", "of a worker"]
    return f"""{machine("torchvision", "pillow")}. A ResNet-20 with {weights} weights; images of
32 × 32 pixels: {images}. The plain loop is a DataLoader on torchvision's ImageFolder with as many
workers: it makes the features, but fits nothing and writes no page.

{as_table(head, rows)}

*start and rest*: Python, imports (this benchmark's own among them), weights, and the files of the
report. A worker shares part of its memory with the process that started it."""


if __name__ == "__main__":
    main()
