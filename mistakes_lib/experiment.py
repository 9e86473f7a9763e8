"""What a run is to compute, read from a parameters file and checked before anything starts."""

import difflib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from mistakes_lib.training import Recipe

__all__ = ["Experiment", "load_experiment"]

ATTACKS = ("fgsm", "bim")


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run's results, apart from the images.

    Args:
        data_set: name for :func:`~mistakes_lib.data.load_dataset`.
        classifier: name of the run's folder, such as "densenet_bc_40_12".
        architecture: arguments of :func:`~mistakes_lib.classifiers.build_classifier` without
            ``num_classes``, ``mean`` and ``std``, which come from the data.
        recipe: :class:`~mistakes_lib.training.Recipe`.
        seed: seed of initial weights, training, subsets and mixtures.
        attacks: "fgsm", "bim" or both.
        eps_levels: L∞ radii in units of 1/255.
        attack_images: how many test images are attacked.
        ood: name of each out-of-distribution set → how many of its images are used at most.
        mixtures: numbers of mixture components K to fit and keep.
    """

    data_set: str
    classifier: str
    architecture: dict
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    attacks: tuple = ATTACKS
    eps_levels: tuple = (1, 2, 4, 8)
    attack_images: int = 2000
    ood: dict = field(default_factory=dict)
    mixtures: tuple = (100,)

    def __post_init__(self):
        for name in ("attacks", "eps_levels", "mixtures"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        unknown = set(self.attacks) - set(ATTACKS)
        if unknown:
            raise ValueError(f"unknown attack {sorted(unknown)[0]!r}: choose from {ATTACKS}")
        if any(level <= 0 or level > 255 for level in self.eps_levels):
            raise ValueError(f"eps_levels must lie in (0, 255], got {self.eps_levels}")

    @property
    def name(self):
        """Where the run lies below the folder of runs: "<data set>/<classifier>/seed<k>"."""
        return f"{self.data_set}/{self.classifier}/seed{self.seed}"

    def to_dict(self):
        """JSON-serialisable copy."""
        return asdict(self)


def load_experiment(path):
    """Read the experiment that a parameters file describes.

    Args:
        path: YAML file with ``data_set``, ``classifier``, ``seed`` and a section ``experiment``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a key is missing or unknown (the nearest known one is named).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no parameters file {path}")
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(parameters, dict) or "experiment" not in parameters:
        raise ValueError(f"{path} has no section 'experiment', so there is nothing to run")
    section = dict(parameters["experiment"])
    section.update(
        {k: parameters[k] for k in ("data_set", "classifier", "seed") if k in parameters}
    )
    recipe = section.pop("recipe", {})
    _check_keys(recipe, Recipe, f"{path}: experiment.recipe")
    _check_keys(section, Experiment, f"{path}: experiment")
    missing = {"data_set", "classifier", "architecture"} - set(section)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    return Experiment(recipe=Recipe(**recipe), **section)


def _check_keys(mapping, dataclass_type, where):
    known = [f.name for f in fields(dataclass_type)]
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f": did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ValueError(f"{where} has an unknown key {key!r}{hint}")
