"""Make a run: all its stages in order, for one process at a time."""

import fcntl
from contextlib import contextmanager, nullcontext

from mistakes_lib.data.named import SPLITS
from mistakes_lib.runs.reading import Run
from mistakes_lib.runs.stages import (
    Journal,
    adaptive_attack,
    attacks,
    check_images,
    classifier,
    deep_densities,
    examples,
    features,
    finish,
    forget_training,
    is_finished,
    mixtures,
    out_of_distribution,
    pictures,
    pixel_cnn,
    scorers,
    strange_pictures,
)
from mistakes_lib.support.locations import runs_root
from mistakes_lib.training import distributed as processes

__all__ = ["make_run", "train_run"]

AFTER_TRAINING = (  # in this order
    attacks,
    out_of_distribution,
    mixtures,
    deep_densities,
    pixel_cnn,
    scorers,
    adaptive_attack,
    examples,
    pictures,
    strange_pictures,
    finish,
)


def make_run(experiment, *, root=None, data=None, device="auto", progress=True):
    """Train, extract, attack and fit: everything the chapters read, stage by stage.

    A stage whose inputs are unchanged is skipped, so a killed run goes on where it was; training
    goes on at its last epoch. Two processes on one folder take turns.

    Args:
        experiment: :class:`~mistakes_lib.runs.experiment.Experiment`.
        root: folder of runs; by default $MISTAKES_RUNS, else ``runs`` in the working directory.
        data: folder of images; see :func:`~mistakes_lib.data.named.data_root`.
        device: "auto", "cpu", "cuda", …
        progress: print stages and show progress bars.

    Returns:
        Run.

    Example:
        >>> import tempfile
        >>> from mistakes_lib.runs.experiment import Experiment
        >>> from mistakes_lib.training.recipe import Recipe
        >>> network = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
        >>> recipe = Recipe(epochs=1, batch_size=128, lr=0.05)
        >>> experiment = Experiment(
        ...     "digits", "tiny", network, recipe, mixtures=[1], ood={"photo_patches": 5},
        ...     attacks=["fgsm"], eps_levels=[8], attack_images=5,
        ... )
        >>> with tempfile.TemporaryDirectory() as root:
        ...     run = make_run(experiment, root=root, device="cpu", progress=False)
        ...     run.name, len(run.attack("fgsm", 8 / 255)), len(run.ood("photo_patches"))
        ('digits/tiny/seed0', 5, 5)
    """
    with _open(experiment, root, data, device, progress) as journal:
        check_images(journal)
        _classify(journal)
        if processes.is_main():
            for stage in AFTER_TRAINING:
                stage(journal)
    return Run(journal.folder)


def train_run(experiment, *, root=None, data=None, device="auto", progress=True, restart=False):
    """Train, and extract the features of all splits: the part of :func:`make_run` it begins with.

    The run has neither attacks nor out-of-distribution sets then; ``make_run`` adds them.

    Args:
        experiment: :class:`~mistakes_lib.runs.experiment.Experiment`.
        root: folder of runs; by default $MISTAKES_RUNS, else ``runs`` in the working directory.
        data: folder of images; see :func:`~mistakes_lib.data.named.data_root`.
        device: "auto", "cpu", "cuda", …
        progress: print stages and show progress bars.
        restart: begin anew, whatever an earlier call has left.

    Returns:
        Run.

    Example:
        >>> import tempfile
        >>> from mistakes_lib.runs.experiment import Experiment
        >>> from mistakes_lib.training.recipe import Recipe
        >>> network = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
        >>> recipe = Recipe(epochs=1, batch_size=128, lr=0.05)
        >>> experiment = Experiment("digits", "tiny", network, recipe)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     run = train_run(experiment, root=root, device="cpu", progress=False)
        ...     run.name, len(run.features("test")), run.ood_sets
        ('digits/tiny/seed0', 360, {})
    """
    with _open(experiment, root, data, device, progress) as journal:
        if restart:
            forget_training(journal)
        _classify(journal)
        if processes.is_main() and not is_finished(journal):  # make_run may have been here before
            finish(journal)
    return Run(journal.folder)


def _classify(journal):
    """Train, in all processes, and extract the features of all splits, in the main one."""
    classifier(journal)
    if processes.is_main():
        for split in SPLITS:
            features(journal, split)


@contextmanager
def _open(experiment, root, data, device, progress):
    """The journal of a run, for all processes of one training and for no others meanwhile."""
    device = processes.connect(device)
    folder = runs_root(root) / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder) if processes.is_main() else nullcontext():
        if processes.is_main():
            _remove_leftovers(folder)
        processes.wait()
        yield Journal(folder, experiment, root=data, device=device, progress=progress)


@contextmanager
def _exclusive(folder):
    """Let one process at a time work on a run folder."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder):
    """Delete the temporary files of killed writers; only the lock's holder may."""
    for leftover in folder.rglob(".*.????????"):  # as atomic_write names them
        if leftover.is_file():
            leftover.unlink()
