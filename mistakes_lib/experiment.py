"""What a run is to compute, read from a parameters file and checked before anything starts."""

import difflib
import inspect
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from mistakes_lib.classifiers import ARCHITECTURES
from mistakes_lib.data import DATASETS
from mistakes_lib.temporal_ensembling import TemporalEnsembling
from mistakes_lib.training import Recipe

__all__ = ["Experiment", "load_experiment", "load_experiments"]

ATTACKS = ("fgsm", "bim")
PARAMETERS = Path(__file__).resolve().parents[1] / "notebooks" / "parameters"  # the book's own

NETWORK_SETTINGS = {
    "depth": "depth L",
    "growth_rate": "growth rate k",
    "widen_factor": "widening factor k",
    "compression": "compression θ",
    "dropout": "dropout",
    "last_activation": "last activation",
}


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run's results, apart from the images.

    Args:
        data_set: name for :func:`~mistakes_lib.data.load_dataset`.
        classifier: name of the run's folder, such as "densenet_bc_40_12".
        architecture: arguments of :func:`~mistakes_lib.classifiers.build_classifier` without
            ``num_classes``, ``mean`` and ``std``, which come from the data.
        recipe: :class:`~mistakes_lib.training.Recipe`.
        labels_per_class: train by Temporal Ensembling with so many labels of each class; None
            trains with all labels.
        ensembling: :class:`~mistakes_lib.temporal_ensembling.TemporalEnsembling`, by default with
            its defaults where there is ``labels_per_class``, else None.
        seed: seed of initial weights, training, subsets and mixtures.
        attacks: "fgsm", "bim" or both.
        eps_levels: L∞ radii in units of 1/255.
        attack_images: how many test images are attacked.
        ood: name of each out-of-distribution set → how many of its images are used at most.
        mixtures: numbers of mixture components K to fit and keep.

    Raises:
        ValueError: an unknown data set or attack, or a number out of its range.
    """

    data_set: str
    classifier: str
    architecture: dict
    recipe: Recipe = field(default_factory=Recipe)
    labels_per_class: int | None = None
    ensembling: TemporalEnsembling | None = None
    seed: int = 0
    attacks: tuple = ATTACKS
    eps_levels: tuple = (1, 2, 4, 8)
    attack_images: int = 2000
    ood: dict = field(default_factory=dict)
    mixtures: tuple = (100,)

    def __post_init__(self):
        for name in ("attacks", "eps_levels", "mixtures"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.labels_per_class is None and self.ensembling is not None:
            raise ValueError("ensembling needs labels_per_class: how many labels of each class")
        if self.labels_per_class is not None and self.ensembling is None:
            object.__setattr__(self, "ensembling", TemporalEnsembling())
        for name in ("architecture", "ood"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be a mapping, got {getattr(self, name)!r}")
        for data_set in (self.data_set, *self.ood):
            if data_set not in DATASETS and not str(data_set).startswith("imagefolder:"):
                raise ValueError(f"unknown data set {data_set!r}{_nearest(data_set, DATASETS)}")
        unknown = set(self.attacks) - set(ATTACKS)
        if unknown:
            raise ValueError(f"unknown attack {sorted(unknown)[0]!r}: choose from {ATTACKS}")
        if any(level <= 0 or level > 255 for level in self.eps_levels):
            raise ValueError(f"eps_levels must lie in (0, 255], got {self.eps_levels}")
        for name, counts in {
            "attack_images": [self.attack_images],
            "ood": self.ood.values(),
            "mixtures": self.mixtures,
            "labels_per_class": [1 if self.labels_per_class is None else self.labels_per_class],
        }.items():
            if any(count < 1 for count in counts):
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def name(self):
        """Where the run lies below the folder of runs: "<data set>/<classifier>/seed<k>"."""
        data_set = self.data_set
        if data_set.startswith("imagefolder:"):  # a path would make a folder for each of its parts
            data_set = f"imagefolder-{Path(data_set.removeprefix('imagefolder:')).name}"
        return f"{data_set}/{self.classifier}/seed{self.seed}"

    def to_dict(self):
        """JSON-serialisable copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The experiment of which ``to_dict`` made ``values``."""
        values = dict(values)
        recipe, ensembling = Recipe(**values.pop("recipe")), values.pop("ensembling", None)
        ensembling = ensembling and TemporalEnsembling(**ensembling)
        return cls(recipe=recipe, ensembling=ensembling, **values)

    def settings(self):
        """How the classifier is made and trained, name → value, as Appendix C's list has it."""
        arguments = inspect.signature(ARCHITECTURES[self.architecture["name"]]).parameters
        network = {name: argument.default for name, argument in arguments.items()}
        network |= self.architecture
        labels = {"labels per class": self.labels_per_class or "all"}
        semi = self.ensembling and {
            "maximum unsupervised weight": self.ensembling.max_weight,
            "ensemble momentum α": self.ensembling.momentum,
            "ramp-up, ramp-down (epochs)": self.ensembling.ramps(self.recipe.epochs),
        }
        parts = {name: network[key] for key, name in NETWORK_SETTINGS.items() if key in network}
        return parts | labels | self.recipe.settings() | (semi or {})


def load_experiment(path, *, preset=None, data_set=None, seed=None, epochs=None, precision=None):
    """Read the experiment that a parameters file describes.

    A file may hold several classifiers under ``presets``: name → what the section ``experiment``
    does not say already, such as ``architecture`` and ``recipe``. Likewise ``data_sets`` has what
    holds for one data set only, such as its ``ood``.

    Args:
        path: YAML file with ``data_set``, ``classifier``, ``seed``, a section ``experiment`` and
            perhaps ``presets`` and ``data_sets``; or the book's "quick", "published" or "paper".
        preset: name of a preset, instead of the one that ``classifier`` names.
        data_set: instead of the file's.
        seed: instead of the file's.
        epochs: instead of the recipe's, whose milestones are moved in proportion.
        precision: instead of the recipe's, "float32" or "bfloat16".

    Returns:
        Experiment.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no YAML, a key or preset is missing or unknown (the nearest known
            one is named), or a value is out of range.
    """
    path = _parameters_file(path)
    parameters = _read_yaml(path)
    own = {"data_set": data_set, "classifier": preset, "seed": seed}
    section = dict(parameters["experiment"])
    section |= {name: parameters[name] for name in own if name in parameters}
    section |= {name: value for name, value in own.items() if value is not None}
    data_sets = _mapping(parameters, "data_sets", path)
    section |= _mapping(data_sets, section.get("data_set"), f"{path}: data_sets")
    presets = _mapping(parameters, "presets", path)
    if preset is not None and preset not in presets:
        raise ValueError(f"{path} has no preset {preset!r}{_nearest(preset, presets)}")
    section |= _mapping(presets, section.get("classifier"), f"{path}: presets")
    where = f"{path}: experiment"
    recipe, ensembling = (_mapping(section, name, where) for name in ("recipe", "ensembling"))
    _check_keys(section, Experiment, where)
    _check_keys(recipe, Recipe, f"{where}.recipe")
    _check_keys(ensembling, TemporalEnsembling, f"{where}.ensembling")
    missing = {"data_set", "classifier", "architecture"} - set(section)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    try:
        recipe = Recipe(**recipe | ({} if precision is None else {"precision": precision}))
        section["recipe"] = recipe if epochs is None else recipe.shortened(epochs)
        section["ensembling"] = TemporalEnsembling(**ensembling) if ensembling else None
        return Experiment(**section)
    except TypeError as error:
        raise ValueError(f"{path}: a value of experiment has the wrong type: {error}") from None


def load_experiments(path):
    """Read all experiments of a parameters file: its own classifier's, then those of its presets.

    Args:
        path: as for :func:`load_experiment`.

    Returns:
        list of Experiment.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_experiment`.
    """
    own = load_experiment(path)
    presets = _mapping(_read_yaml(_parameters_file(path)), "presets", path)
    others = [name for name in presets if name != own.classifier]
    return [own, *(load_experiment(path, preset=name) for name in others)]


def _parameters_file(path):
    """The path itself, or the book's own file of that name."""
    own_file = PARAMETERS / f"{path}.yml"
    return own_file if not Path(path).exists() and own_file.is_file() else Path(path)


def _read_yaml(path):
    """The contents of a parameters file that has a section "experiment"."""
    if not path.is_file():
        raise FileNotFoundError(f"no parameters file {path}")
    try:
        parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(parameters, dict) or not isinstance(parameters.get("experiment"), dict):
        raise ValueError(f"{path} has no section 'experiment', so there is nothing to run")
    return parameters


def _mapping(parent, name, where):
    """A copy of the mapping that a mapping has under a name; empty where it has none."""
    value = parent.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{where}.{name} must be a mapping, got {value!r}")
    return dict(value or {})


def _check_keys(mapping, dataclass_type, where):
    known = [f.name for f in fields(dataclass_type)]
    for key in mapping:
        if key not in known:
            raise ValueError(f"{where} has an unknown key {key!r}{_nearest(key, known)}")


def _nearest(name, known):
    """The end of a message about an unknown name: the nearest known one, or all."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f": did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
