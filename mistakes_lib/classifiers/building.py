"""A network from its description, as runs keep it."""

import inspect

import torch
from torch.overrides import TorchFunctionMode

from mistakes_lib.classifiers.densenet import densenet_bc
from mistakes_lib.classifiers.wide_resnet import wide_resnet
from mistakes_lib.support.settings import SettingsError
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["ARCHITECTURES", "arguments_of", "build_classifier", "check_architecture", "title_of"]

ARCHITECTURES = {"densenet_bc": densenet_bc, "wide_resnet": wide_resnet}
TITLES = {
    "densenet_bc": "DenseNet-BC-{depth}-{growth_rate}",
    "wide_resnet": "WRN-{depth}-{widen_factor}",
}
FROM_THE_DATA = ("num_classes", "mean", "std")


def build_classifier(architecture):
    """Make an untrained network from its description.

    Args:
        architecture: dict with ``name`` ("densenet_bc" or "wide_resnet") and that function's
            arguments, as ``FeatureClassifier.architecture`` holds them.

    Raises:
        ValueError: unknown name, or no ``num_classes``.

    Example:
        >>> build_classifier({"name": "wide_resnet", "num_classes": 10, "depth": 10}).num_features
        640
    """
    arguments = dict(architecture)
    name = arguments.pop("name", None)
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown classifier {name!r}: choose one of {sorted(ARCHITECTURES)}")
    if "num_classes" not in arguments:
        raise ValueError(f"the description of {name} lacks num_classes")
    return ARCHITECTURES[name](arguments.pop("num_classes"), **arguments)


def check_architecture(architecture):
    """Prove that a network can be made from its description, without its weights.

    It is built once on torch's device "meta", which takes neither memory nor time.

    Args:
        architecture: dict as for :func:`build_classifier`, without ``num_classes``, ``mean`` and
            ``std``, which come from the data.

    Raises:
        ValueError: an unknown name or argument, or a value that the network cannot have.

    Example:
        >>> check_architecture({"name": "wide_resnet", "depht": 10})
        Traceback (most recent call last):
            ...
        mistakes_lib.support.settings.SettingsError: has an unknown key 'depht': did you mean \
'depth'?
    """
    arguments = dict(architecture)
    if "name" not in arguments:
        raise SettingsError([((), "lacks name")])
    name = arguments.pop("name")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        end = did_you_mean(name, ARCHITECTURES) or f"; known: {', '.join(ARCHITECTURES)}"
        raise SettingsError([(("name",), f"must be a known network, got {name!r}{end}")])
    given = [each for each in FROM_THE_DATA if each in arguments]
    if given:
        raise SettingsError([((given[0],), "comes from the data: leave it out")])
    with torch.device("meta"), _WithoutDraws():
        ARCHITECTURES[name](2, **arguments)


class _WithoutDraws(TorchFunctionMode):
    """No random values for tensors without memory: torch would load its compiler for them."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return function(*args, **(kwargs or {}))


def arguments_of(architecture):
    """Name → value of a network's arguments: those given, and the defaults of the others.

    Example:
        >>> arguments_of({"name": "wide_resnet", "depth": 10})["widen_factor"]
        10
    """
    parameters = inspect.signature(ARCHITECTURES[architecture["name"]]).parameters
    known = {name: each.default for name, each in parameters.items() if name not in FROM_THE_DATA}
    return known | {name: value for name, value in architecture.items() if name in known}


def title_of(architecture):
    """The field's name of a network, and its last activation where that is not the usual one.

    Example:
        >>> title_of({"name": "densenet_bc", "depth": 40}), title_of({"name": "wide_resnet"})
        ('DenseNet-BC-40-12', 'WRN-28-10')
        >>> title_of({"name": "wide_resnet", "last_activation": "tanh"})
        'WRN-28-10, tanh features'
    """
    given, usual = (arguments_of(each) for each in (architecture, {"name": architecture["name"]}))
    title = TITLES[architecture["name"]].format_map(given)
    last = given["last_activation"]
    return title if last == usual["last_activation"] else f"{title}, {last} features"
