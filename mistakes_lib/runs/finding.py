"""Find runs by name: one's own first, then the published ones."""

from pathlib import Path

from mistakes_lib.runs.reading import Run, runs_in
from mistakes_lib.support.locations import (
    PUBLISHED_RUNS,
    PUBLISHED_TWINS,
    runs_root,
    without_a_clone,
)

__all__ = ["load_run", "published_runs", "published_trainings", "published_twins"]


def load_run(path):
    """Open a run, published or your own.

    Args:
        path: a run folder, or a name such as "cifar100/densenet_bc_100_12/seed0", which is looked
            up in $MISTAKES_RUNS (or ``runs``), then among the published runs.

    Returns:
        Run.

    Raises:
        FileNotFoundError: no run there; the message lists the runs that exist.

    Example:
        >>> run = load_run("cifar100/densenet_bc_100_12/seed0")
        >>> run.name, run.classes[:3]
        ('cifar100/densenet_bc_100_12/seed0', ('apple', 'aquarium fish', 'baby'))
    """
    places = [Path(path), runs_root() / path, PUBLISHED_RUNS / path]
    for place in places:
        if (place / "run.json").is_file():
            return Run(place)
    known = sorted(
        {
            str(file.parent.relative_to(root))
            for root in (runs_root(), PUBLISHED_RUNS)
            for file in root.glob("*/*/*/run.json")
        }
    )
    raise FileNotFoundError(
        f"no run {path}: known runs are {', '.join(known) or 'none'}. "
        f"Make your own with `mistakes run PARAMETERS.yml`.{without_a_clone('the published runs')}"
    )


def published_runs():
    """The book's own runs, a list of Run in the order of their names.

    Example:
        >>> "cifar100/densenet_bc_100_12/seed0" in [run.name for run in published_runs()]
        True
    """
    return runs_in(PUBLISHED_RUNS, "*/*/*")


def published_trainings():
    """The trainings of the network that the book trained most often ("5 independent runs").

    Returns:
        list of Run that differ in their seed alone, in the order of the seeds; empty where every
        network was trained once.

    Example:
        >>> [run.name for run in published_trainings()][:2]
        ['cifar100/wrn_16_2/seed0', 'cifar100/wrn_16_2/seed1']
    """
    often = max((run.trainings() for run in published_runs()), key=len, default=[])
    return often if len(often) > 1 else []


def published_twins():
    """Small runs beside the published ones, which differ in the network's last activation alone.

    They are made to be compared with each other, not with the paper's networks: they hold features
    of test images and of strange images, and no attacks.

    Returns:
        list of Run in the order of their names; empty where the library stands without its clone.

    Example:
        >>> [run.info["title"] for run in published_twins()]
        ['WRN-10-2', 'WRN-10-2, tanh features']
    """
    return runs_in(PUBLISHED_TWINS, "*/*/*")
