"""What a run is to compute, read from a parameters file and checked before anything starts."""

from dataclasses import asdict, field, replace
from pathlib import Path

from mistakes_lib.classifiers import arguments_of
from mistakes_lib.runs.kinds import (
    ARCHITECTURE,
    DATA_SET,
    DEEP_DENSITIES,
    FOLDER,
    PIXEL_CNN,
    AdaptiveAttack,
    DeepDensities,
    off_or,
)
from mistakes_lib.support.locations import PARAMETERS
from mistakes_lib.support.settings import (
    SettingsError,
    kept,
    number,
    one_of,
    settings,
    several,
    whole,
)
from mistakes_lib.support.storage import read_yaml
from mistakes_lib.support.suggestions import did_you_mean
from mistakes_lib.training.ensembles import TemporalEnsembling
from mistakes_lib.training.recipe import Recipe

__all__ = [
    "Experiment",
    "compare_settings",
    "load_experiment",
    "load_experiments",
]

ATTACKS = ("fgsm", "bim")

NETWORK_SETTINGS = {
    "depth": "depth L",
    "growth_rate": "growth rate k",
    "widen_factor": "widening factor k",
    "compression": "compression θ",
    "dropout": "dropout",
    "last_activation": "last activation",
}

DENSITY_SETTINGS = {
    "hidden": "hidden units",
    "latent": "latent dimensions",
    "n_transforms": "MADE layers",
    "epochs": "epochs (at most)",
    "lr": "learning rate",
    "lr_decay": "factor on it after an epoch",
    "batch_size": "batch size",
    "noise": "sd of the noise in training",
    "validation_fraction": "share held out to stop early",
    "patience": "epochs without gain until then",
    "importance_samples": "importance samples of a score",
}


@settings("experiment")
class Experiment:
    """Everything that determines a run's results, apart from the images.

    Args:
        data_set: name for :func:`~mistakes_lib.data.named.load_dataset`.
        classifier: name of the run's folder, such as "densenet_bc_100_12".
        architecture: arguments of :func:`~mistakes_lib.classifiers.build_classifier` without
            ``num_classes``, ``mean`` and ``std``, which come from the data.
        recipe: :class:`~mistakes_lib.training.recipe.Recipe`.
        then: further recipes, each of which goes on from the weights that the one before ended
            with, and draws from the next seed.
        labels_per_class: train with so many labels of each class; None trains with all labels.
        ensembling: how to use the images without labels where there is ``labels_per_class``:
            :class:`~mistakes_lib.training.ensembles.TemporalEnsembling`, which is also what None
            says, with its defaults; False does not use them, so that the network is trained
            supervised on the labelled images alone, the twin to compare with. With ``then`` it is
            the last recipe that trains by Temporal Ensembling: those before it are supervised, and
            give it predictions to begin with.
        seed: seed of initial weights, training and mixtures. The images that are attacked or out of
            distribution are the same for every seed.
        attacks: "fgsm", "bim" or both.
        eps_levels: L∞ radii in units of 1/255, whole or not: 25.5 is a radius of 0.1.
        kurakin_levels: radii of BIM with the steps of its authors instead of ours, in units of
            1/255; see :func:`~mistakes_lib.attacks.gradient.kurakin_steps`.
        attack_images: how many test images are attacked.
        corrupted_images: how many test images are corrupted, by each family and at each strength of
            :func:`~mistakes_lib.data.corruptions.corrupt`; 0 for none.
        ood: name of each out-of-distribution set → how many of its images are used at most.
        mixtures: numbers of mixture components K to fit and keep.
        deep_densities: "vae", "maf" → arguments of :class:`~mistakes_lib.density.FeatureVAE` and
            :class:`~mistakes_lib.density.FeatureMAF`, to fit and keep.
        pixel_cnn: arguments of :class:`~mistakes_lib.density.PixelCNN`, to train on the images
            themselves; empty trains none.
        adaptive: :class:`~mistakes_lib.runs.kinds.AdaptiveAttack`, or None.

    Raises:
        ValueError: a value of a wrong type or outside its range, an unknown name, a network that
            cannot be built; each is said in a line of its own, with the field's path.

    Example:
        >>> network = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
        >>> experiment = Experiment("digits", "wrn_10_1", network, labels_per_class=10, seed=3)
        >>> experiment.name, experiment.settings()["labels per class"]
        ('digits/wrn_10_1/seed3', 10)
    """

    data_set: DATA_SET
    classifier: FOLDER
    architecture: ARCHITECTURE
    recipe: Recipe = field(default_factory=Recipe)
    then: several(Recipe) = ()
    labels_per_class: whole(1) | None = None
    ensembling: off_or(TemporalEnsembling) = None
    seed: whole(0) = 0
    attacks: several(one_of(*ATTACKS)) = ATTACKS
    eps_levels: several(number(gt=0, le=255)) = (1, 2, 4, 8)
    kurakin_levels: several(number(gt=0, le=255)) = ()
    attack_images: whole(1) = 2000
    corrupted_images: whole(0) = 0
    ood: dict[DATA_SET, whole(1)] = field(default_factory=dict)
    mixtures: several(whole(1)) = (100,)
    deep_densities: kept(DeepDensities) = field(default_factory=dict)
    pixel_cnn: PIXEL_CNN = field(default_factory=dict)
    adaptive: AdaptiveAttack | None = None

    def __post_init__(self):
        few, problems = self.labels_per_class is not None, []
        if few and self.ensembling is None:
            object.__setattr__(self, "ensembling", TemporalEnsembling())
        if not few and self.ensembling is not None:
            text = "needs labels_per_class: how many labels of each class"
            problems.append((("ensembling",), text))
        for name in ("attacks", "eps_levels", "kurakin_levels", "mixtures"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                problems.append(((name,), f"must hold each value once, got {values}"))
        if self.adaptive is not None and self.adaptive.n_components not in self.mixtures:
            given = self.adaptive.n_components
            text = f"must be one of the mixtures {self.mixtures}, got {given}"
            problems.append((("adaptive", "n_components"), text))
        if problems:
            raise SettingsError(problems)

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
        return cls(**values)

    def settings(self):
        """How the classifier is made and trained, name → value, as Appendix C's list has it."""
        network = arguments_of(self.architecture)
        labels = {"labels per class": self.labels_per_class or "all"}
        semi = self.ensembling and {
            "maximum unsupervised weight": self.ensembling.max_weight,
            "ensemble momentum α": self.ensembling.momentum,
            "ramp-up, ramp-down (epochs)": self.ensembling.ramps(self.recipes[-1].epochs),
            "labelled share of a batch": self.ensembling.labelled_share or "that of all images",
        }
        parts = {name: network[key] for key, name in NETWORK_SETTINGS.items() if key in network}
        training = self.recipe.settings()
        for name in training:
            values = [recipe.settings()[name] for recipe in self.recipes]
            if len(set(values)) > 1:
                training[name] = ", then ".join(map(str, values))
        return parts | labels | training | (semi or {})

    def density_settings(self):
        """How its VAE and its MAF are made and trained, name → value, as Appendix C's list has it.

        Returns:
            dict such as ``{"VAE: latent dimensions": 128}``, of the densities that it has.
        """
        found = {}
        for name, arguments in self.deep_densities.items():
            values = DEEP_DENSITIES[name](**arguments).get_params()
            if not values["validation_fraction"]:  # then all epochs are trained
                values["patience"] = None
            for key, title in DENSITY_SETTINGS.items():
                if key in values:
                    found[f"{name.upper()}: {title}"] = values[key]
        return found

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
    holds for one data set only, such as its ``ood``; a preset may have ``data_sets`` of its own.

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
    own_preset = _mapping(presets, section.get("classifier"), f"{path}: presets")
    section |= {key: value for key, value in own_preset.items() if key != "data_sets"}
    section |= _mapping(
        _mapping(own_preset, "data_sets", path), section.get("data_set"), f"{path}: data_sets"
    )
    for name in ("recipe", "ensembling", "adaptive"):
        if section.get(name) in (None, {}):
            section.pop(name, None)  # a preset says {} to have none of what the file has
    section["then"] = section.get("then") or []
    if precision is not None:
        section["recipe"] = _with(section.get("recipe", {}), precision=precision)
        if isinstance(section["then"], list):
            section["then"] = [_with(recipe, precision=precision) for recipe in section["then"]]
    nameless = [key for key in section if not isinstance(key, str)]
    if nameless:
        raise ValueError(f"{path}: experiment has an unknown key {nameless[0]!r}")
    try:
        experiment = Experiment(**section)
    except SettingsError as error:
        raise ValueError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None
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


def compare_settings(experiments, *, of="classifier"):
    """One column an experiment: how its classifier or its densities are trained (Appendix C).

    Args:
        experiments: dict of name → :class:`Experiment`.
        of: "classifier", or "densities" for the VAE and the MAF of its features.

    Returns:
        DataFrame indexed by setting, "–" where an experiment has no such setting.

    Raises:
        ValueError: no experiment, or an ``of`` that there is not.

    Example:
        >>> printed = load_experiment("paper", preset="wrn_28_10")
        >>> table = compare_settings({"paper": printed, "quick": load_experiment("quick")})
        >>> table.loc[["epochs", "widening factor k"]].T.to_dict()
        {'epochs': {'paper': 200, 'quick': 4}, 'widening factor k': {'paper': 10, 'quick': '–'}}
    """
    import pandas as pd

    if not experiments:
        raise ValueError("there is no experiment to compare")
    settings_of = {"classifier": Experiment.settings, "densities": Experiment.density_settings}
    if of not in settings_of:
        raise ValueError(f"of must be one of {', '.join(settings_of)}, got {of!r}")
    columns = {name: settings_of[of](experiment) for name, experiment in experiments.items()}
    names = dict.fromkeys(name for settings in columns.values() for name in settings)
    columns = {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    return pd.DataFrame(columns, index=list(names)).fillna("–")


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
    value = parent.get(name) if isinstance(name, str) else None
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{where}.{name} must be a mapping, got {value!r}")
    return dict(value or {})


def _with(recipe, **values):
    """A recipe's mapping with other values; what is no mapping is left to the checks."""
    return recipe | values if isinstance(recipe, dict) else recipe


def _nearest(name, known):
    """The end of a message about an unknown name: the nearest known one, or all."""
    return did_you_mean(name, known) or f"; known: {', '.join(known)}"
