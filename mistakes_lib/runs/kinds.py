"""Of which kind the settings of an experiment are, and what they are checked against."""

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WrapValidator

from mistakes_lib.classifiers import check_architecture
from mistakes_lib.data.named import DATASETS
from mistakes_lib.density import FeatureMAF, FeatureVAE, PixelCNN
from mistakes_lib.support.settings import FLAG, kept, number, settings, several, whole
from mistakes_lib.support.suggestions import did_you_mean

__all__ = [
    "ARCHITECTURE",
    "DATA_SET",
    "DEEP_DENSITIES",
    "FOLDER",
    "PIXEL_CNN",
    "AdaptiveAttack",
    "DeepDensities",
    "off_or",
]

DEEP_DENSITIES = {"vae": FeatureVAE, "maf": FeatureMAF}


def _known_data_set(name):
    if name in DATASETS or name.startswith("imagefolder:"):
        return name
    end = did_you_mean(name, DATASETS) or f"; known: {', '.join(DATASETS)}"
    raise ValueError(f"must be a data set, got {name!r}{end}")


def _folder_name(name):
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"must be the name of a folder, got {name!r}")
    return name


def _proved(architecture):
    try:
        description = json.dumps(architecture)
    except TypeError:
        raise ValueError(f"must hold texts and numbers, got {architecture!r}") from None
    _prove(description)
    return architecture


@lru_cache(100)
def _prove(description):
    """Build the network once, not for each of the experiments that have it."""
    check_architecture(json.loads(description))


def off_or(kind):
    """A kind of settings, or False or None where there are none."""

    def check(value, handler):
        return value if value is None or value is False else handler(value)

    return Annotated[kind, WrapValidator(check)]


TEXT = Annotated[str, Field(strict=True)]
DATA_SET = Annotated[TEXT, AfterValidator(_known_data_set)]
FOLDER = Annotated[TEXT, AfterValidator(_folder_name)]
ARCHITECTURE = Annotated[dict[str, Any], AfterValidator(_proved)]
PIXEL_CNN = kept(PixelCNN.arguments)


@settings("deep_densities")
class DeepDensities:
    """Arguments of the densities of features that are networks.

    Args:
        vae: of :class:`~mistakes_lib.density.FeatureVAE`.
        maf: of :class:`~mistakes_lib.density.FeatureMAF`.
    """

    vae: FeatureVAE.arguments = None
    maf: FeatureMAF.arguments = None


@settings("adaptive")
class AdaptiveAttack:
    """The attacker who knows the detector, by each of :mod:`mistakes_lib.attacks.adaptive`.

    Args:
        eps_level: L∞ radius in units of 1/255.
        n_components: of the mixture that is climbed, one of the run's ``mixtures``.
        weights: of its log-likelihood beside the loss, for ``adaptive_bim``; 0 is BIM.
        hinge_weights: of what it lacks to the detector's threshold, for ``hinge_attack``; the
            threshold flags 5 % of the validation images.
        match: attack by ``feature_match`` as well; the features to be matched are those of
            validation images.
        images: how many of the run's attacked images, the first ones.
        iterations: gradient steps of ``adaptive_bim``.
        more_iterations: gradient steps of ``hinge_attack`` and ``feature_match``.

    Raises:
        ValueError: a value of a wrong type or outside its range, or an unknown name.

    Example:
        >>> AdaptiveAttack(weights=[0, 1], hinge_weights=[0.3], match=True).names
        (0, 1, 'hinge-0.3', 'match')
    """

    eps_level: number(gt=0, le=255) = 8
    n_components: whole(1) = 1000
    weights: several(number(ge=0)) = (0, 0.1, 1, 10)
    hinge_weights: several(number(ge=0)) = ()
    match: FLAG = False
    images: whole(1) = 300
    iterations: whole(1) = 30
    more_iterations: whole(1) = 100

    @property
    def names(self):
        """Tuple with each weight, then names such as "hinge-0.3", then "match"."""
        hinges = tuple(f"hinge-{weight:g}" for weight in self.hinge_weights)
        return (*self.weights, *hinges, *(["match"] if self.match else []))
