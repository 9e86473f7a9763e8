"""What a run is to compute, read from a parameters file and checked before anything starts."""

import inspect
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from mistakes_lib.classifiers import ARCHITECTURES
from mistakes_lib.data.named import DATASETS
from mistakes_lib.density import FeatureMAF, FeatureVAE, PixelCNN
from mistakes_lib.support.checks import check_ranges
from mistakes_lib.support.locations import PARAMETERS
from mistakes_lib.support.storage import read_yaml
from mistakes_lib.support.suggestions import did_you_mean
from mistakes_lib.training.supervised import Recipe
from mistakes_lib.training.temporal_ensembling import TemporalEnsembling

__all__ = [
    "AdaptiveAttack",
    "Experiment",
    "compare_settings",
    "load_experiment",
    "load_experiments",
]

ATTACKS = ("fgsm", "bim")
DEEP_DENSITIES = {"vae": FeatureVAE, "maf": FeatureMAF}

NETWORK_SETTINGS = {
    "depth": "depth L",
    "growth_rate": "growth rate k",
    "widen_factor": "widening factor k",
    "compression": "compression θ",
    "dropout": "dropout",
    "last_activation": "last activation",
}


@dataclass(frozen=True)
class AdaptiveAttack:
    """The attacker who knows the detector: :func:`~mistakes_lib.attacks.adaptive_bim`.

    Args:
        eps_level: L∞ radius in units of 1/255.
        n_components: of the mixture that is climbed, one of the run's ``mixtures``.
        weights: of its log-likelihood beside the loss; 0 is BIM.
        images: how many of the run's attacked images, the first ones.
        iterations: gradient steps.

    Raises:
        ValueError: a number out of its range.
    """

    eps_level: float = 8
    n_components: int = 1000
    weights: tuple = (0, 0.1, 1, 10)
    images: int = 300
    iterations: int = 30

    def __post_init__(self):
        object.__setattr__(self, "weights", tuple(self.weights))
        conditions = {
            "eps_level": 0 < self.eps_level <= 255,
            "weights": all(weight >= 0 for weight in self.weights),
            "images": self.images >= 1,
            "iterations": self.iterations >= 1,
        }
        check_ranges(self, "adaptive", conditions)


PARTS = {
    "recipe": Recipe,
    "ensembling": TemporalEnsembling,
    "adaptive": AdaptiveAttack,
}


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run's results, apart from the images.

    Args:
        data_set: name for :func:`~mistakes_lib.data.named.load_dataset`.
        classifier: name of the run's folder, such as "densenet_bc_40_12".
        architecture: arguments of :func:`~mistakes_lib.classifiers.build_classifier` without
            ``num_classes``, ``mean`` and ``std``, which come from the data.
        recipe: :class:`~mistakes_lib.training.supervised.Recipe`.
        then: further recipes, each of which goes on from the weights that the one before ended
            with, and draws from the next seed.
        labels_per_class: train by Temporal Ensembling with so many labels of each class; None
            trains with all labels.
        ensembling: :class:`~mistakes_lib.training.temporal_ensembling.TemporalEnsembling`,
            by default with its defaults where there is ``labels_per_class``, else None.
        seed: seed of initial weights, training, subsets and mixtures.
        attacks: "fgsm", "bim" or both.
        eps_levels: L∞ radii in units of 1/255.
        attack_images: how many test images are attacked.
        ood: name of each out-of-distribution set → how many of its images are used at most.
        mixtures: numbers of mixture components K to fit and keep.
        deep_densities: "vae", "maf" → arguments of :class:`~mistakes_lib.density.FeatureVAE` and
            :class:`~mistakes_lib.density.FeatureMAF`, to fit and keep.
        pixel_cnn: arguments of :class:`~mistakes_lib.density.PixelCNN`, to train on the images
            themselves; empty trains none.
        adaptive: :class:`AdaptiveAttack`, or None.

    Raises:
        ValueError: an unknown data set, attack or density, or a number out of its range.

    Example:
        >>> network = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
        >>> experiment = Experiment("digits", "wrn_10_1", network, labels_per_class=10, seed=3)
        >>> experiment.name, experiment.settings()["labels per class"]
        ('digits/wrn_10_1/seed3', 10)
    """

    data_set: str
    classifier: str
    architecture: dict
    recipe: Recipe = field(default_factory=Recipe)
    then: tuple = ()
    labels_per_class: int | None = None
    ensembling: TemporalEnsembling | None = None
    seed: int = 0
    attacks: tuple = ATTACKS
    eps_levels: tuple = (1, 2, 4, 8)
    attack_images: int = 2000
    ood: dict = field(default_factory=dict)
    mixtures: tuple = (100,)
    deep_densities: dict = field(default_factory=dict)
    pixel_cnn: dict = field(default_factory=dict)
    adaptive: AdaptiveAttack | None = None

    def __post_init__(self):
        for name in ("then", "attacks", "eps_levels", "mixtures"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.labels_per_class is None and self.ensembling is not None:
            raise ValueError("ensembling needs labels_per_class: how many labels of each class")
        if self.labels_per_class is not None and self.then:
            raise ValueError("then goes on from training with all labels, not labels_per_class")
        if self.labels_per_class is not None and self.ensembling is None:
            object.__setattr__(self, "ensembling", TemporalEnsembling())
        for name in ("architecture", "ood", "deep_densities", "pixel_cnn"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be a mapping, got {getattr(self, name)!r}")
        for data_set in (self.data_set, *self.ood):
            if data_set not in DATASETS and not str(data_set).startswith("imagefolder:"):
                raise ValueError(f"unknown data set {data_set!r}{_nearest(data_set, DATASETS)}")
        unknown = set(self.attacks) - set(ATTACKS)
        if unknown:
            raise ValueError(f"unknown attack {sorted(unknown)[0]!r}: choose from {ATTACKS}")
        for name, arguments in self.deep_densities.items():
            if name not in DEEP_DENSITIES:
                raise ValueError(f"unknown density {name!r}{_nearest(name, DEEP_DENSITIES)}")
            _check_arguments(DEEP_DENSITIES[name], arguments, f"deep_densities.{name}")
        _check_arguments(PixelCNN, self.pixel_cnn, "pixel_cnn")
        if self.adaptive is not None and self.adaptive.n_components not in self.mixtures:
            raise ValueError(
                f"adaptive: n_components must be one of the mixtures {self.mixtures}, "
                f"got {self.adaptive.n_components}"
            )
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
    def recipes(self):
        """The recipes in the order in which they train."""
        return (self.recipe, *self.then)

    @property
    def name(self):
        """Where the run lies below the folder of runs, "<data set>/<classifier>/seed<k>"."""
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
        for name, kind in PARTS.items():
            if values.get(name) is not None:
                values[name] = kind(**values[name])
        values["then"] = [Recipe(**recipe) for recipe in values.get("then", ())]
        return cls(**values)

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
        training = self.recipe.settings()
        for name in training:
            values = [recipe.settings()[name] for recipe in self.recipes]
            if len(set(values)) > 1:
                training[name] = ", then ".join(map(str, values))
        return parts | labels | training | (semi or {})

    def shortened(self, epochs):
        """The same experiment with so many epochs: each recipe keeps its share of them.

        Raises:
            ValueError: fewer epochs than recipes.
        """
        count = len(self.recipes)
        if epochs < count > 1:
            raise ValueError(f"{count} recipes need at least {count} epochs, got {epochs}")
        total, passed, done = sum(recipe.epochs for recipe in self.recipes), 0, 0
        recipes = []
        for left, recipe in zip(reversed(range(count)), self.recipes, strict=True):
            passed += recipe.epochs
            end = min(max(round(epochs * passed / total), done + 1), epochs - left)
            recipes.append(recipe.shortened(end - done))
            done = end
        return replace(self, recipe=recipes[0], then=recipes[1:])


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
        epochs: instead of the file's, see :meth:`Experiment.shortened`; milestones move in
            proportion.
        precision: instead of the recipe's, "float32" or "bfloat16".

    Returns:
        Experiment.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no YAML, a key or preset is missing or unknown (the nearest known
            one is named), or a value is out of range.

    Example:
        >>> load_experiment("quick", preset="wrn_10_1", seed=1).name
        'digits/wrn_10_1/seed1'
        >>> load_experiment("quick", preset="wrn_10_2")
        Traceback (most recent call last):
            ...
        ValueError: ... has no preset 'wrn_10_2': did you mean 'wrn_10_1'?
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
    _check_keys(section, Experiment, where)
    missing = {"data_set", "classifier", "architecture"} - set(section)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    own_precision = {} if precision is None else {"precision": precision}
    try:
        for name, kind in PARTS.items():
            part = _mapping(section, name, where)
            _check_keys(part, kind, f"{where}.{name}")
            if kind is Recipe:
                part |= own_precision
            section[name] = kind(**part) if part or kind is Recipe else None
        section["then"] = [
            Recipe(**_recipe(then, f"{where}.then") | own_precision)
            for then in section.get("then") or ()
        ]
        experiment = Experiment(**section)
    except TypeError as error:
        raise ValueError(f"{path}: a value of experiment has the wrong type: {error}") from None
    return experiment if epochs is None else experiment.shortened(epochs)


def load_experiments(path):
    """Read all experiments of a parameters file: its own, then those of its other presets.

    If the file has further ``data_sets``, each of the classifiers is wanted on each of them.

    Args:
        path: as for :func:`load_experiment`.

    Returns:
        list of Experiment.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_experiment`.

    Example:
        >>> [experiment.classifier for experiment in load_experiments("quick")]
        ['densenet_bc_16_8', 'wrn_10_1', 'te_wrn_10_1']
    """
    own, parameters = load_experiment(path), _read_yaml(_parameters_file(path))
    presets, data_sets = (_mapping(parameters, name, path) for name in ("presets", "data_sets"))
    others = [name for name in presets if name != own.classifier]
    return [
        load_experiment(path, preset=preset, data_set=data_set)
        for data_set in dict.fromkeys([own.data_set, *data_sets])
        for preset in (None, *others)
    ]


def compare_settings(experiments):
    """One column an experiment: how its classifier is made and trained (Appendix C).

    Args:
        experiments: dict of name → :class:`Experiment`.

    Returns:
        DataFrame indexed by setting, "–" where an experiment has no such setting.

    Raises:
        ValueError: no experiment.

    Example:
        >>> printed = load_experiment("paper", preset="wrn_28_10")
        >>> table = compare_settings({"paper": printed, "quick": load_experiment("quick")})
        >>> table.loc[["epochs", "widening factor k"]].T.to_dict()
        {'epochs': {'paper': 200, 'quick': 4}, 'widening factor k': {'paper': 10, 'quick': '–'}}
    """
    import pandas as pd

    if not experiments:
        raise ValueError("there is no experiment to compare")
    columns = {name: experiment.settings() for name, experiment in experiments.items()}
    names = dict.fromkeys(name for settings in columns.values() for name in settings)
    return pd.DataFrame(columns, index=list(names)).astype(object).fillna("–")


def _parameters_file(path):
    """The path itself, or the book's own file of that name."""
    own_file = PARAMETERS / f"{path}.yml"
    return own_file if not Path(path).exists() and own_file.is_file() else Path(path)


def _read_yaml(path):
    """The contents of a parameters file that has a section "experiment"."""
    parameters = read_yaml(path, "parameters file")
    if not isinstance(parameters, dict) or not isinstance(parameters.get("experiment"), dict):
        raise ValueError(f"{path} has no section 'experiment', so there is nothing to run")
    return parameters


def _mapping(parent, name, where):
    """A copy of the mapping that a mapping has under a name; empty where it has none."""
    value = parent.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{where}.{name} must be a mapping, got {value!r}")
    return dict(value or {})


def _recipe(values, where):
    """The values of one of the further recipes, with no unknown key."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a list of mappings, got {values!r}")
    _check_keys(values, Recipe, where)
    return values


def _check_keys(mapping, dataclass_type, where):
    _check_names(mapping, [f.name for f in fields(dataclass_type)], where)


def _check_arguments(density, arguments, where):
    """Refuse arguments that a density does not take."""
    if not isinstance(arguments, dict):
        raise ValueError(f"{where} must be a mapping, got {arguments!r}")
    known = set(density().get_params()) - {"random_state", "device", "verbose"}
    _check_names(arguments, sorted(known), where)


def _check_names(mapping, known, where):
    for key in mapping:
        if key not in known:
            raise ValueError(f"{where} has an unknown key {key!r}{_nearest(key, known)}")


def _nearest(name, known):
    """The end of a message about an unknown name: the nearest known one, or all."""
    return did_you_mean(name, known) or f"; known: {', '.join(known)}"
