"""A network from its description, as runs keep it."""

from mistakes_lib.classifiers.densenet import densenet_bc
from mistakes_lib.classifiers.wide_resnet import wide_resnet

__all__ = ["ARCHITECTURES", "build_classifier"]

ARCHITECTURES = {"densenet_bc": densenet_bc, "wide_resnet": wide_resnet}


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
