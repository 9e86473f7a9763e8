"""A small parameters file, and changes to it."""

from pathlib import Path

__all__ = ["DENSENET", "PARAMETERS", "SMALL", "WITH_PRESETS", "changed", "without"]

PARAMETERS = sorted((Path(__file__).parents[2] / "notebooks" / "parameters").glob("*.yml"))
DENSENET = {"name": "densenet_bc", "depth": 10, "growth_rate": 4}
SMALL = {
    "data_set": "digits",
    "classifier": "tiny",
    "seed": 3,
    "n_components": 20,  # the chapters' own
    "experiment": {
        "architecture": DENSENET,
        "recipe": {"epochs": 2, "lr": 0.2},
        "attacks": ["bim"],
        "eps_levels": [8, 0.5],
        "attack_images": 10,
        "ood": {"photo_patches": 20},
        "mixtures": [2],
    },
}

WITH_PRESETS = {
    "data_set": "digits",
    "classifier": "first",
    "presets": {
        "first": {"architecture": DENSENET, "recipe": {"epochs": 2}},
        "second": {"architecture": DENSENET, "labels_per_class": 5, "ensembling": {"ramp_up": 3}},
    },
    "experiment": {"attack_images": 10},
}


def changed(section, **values):
    """SMALL with other values in the experiment, or in its recipe."""
    experiment = dict(SMALL["experiment"])
    if section == "recipe":
        experiment["recipe"] = experiment["recipe"] | values
    else:
        experiment |= values
    return SMALL | {"experiment": experiment}


def without(name):
    experiment = {k: v for k, v in SMALL["experiment"].items() if k != name}
    return {k: v for k, v in SMALL.items() if k != name} | {"experiment": experiment}
