"""Anybody's trained network by name: torchvision's, timm's, or what a function of yours makes."""

import importlib
import inspect
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.data.files import Preprocessing
from mistakes_lib.support.storage import read_safetensors
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["Network", "load_network", "load_weights"]

PRETRAINED = "pretrained"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the weights
PARALLEL = "module."  # what torch's DataParallel puts before every name


@dataclass(frozen=True)
class Network:
    """A trained network with what it needs to know of images.

    Attributes:
        classifier: :class:`~mistakes_lib.classifiers.FeatureClassifier`.
        preprocessing: what makes pixels of an image.
        classes: names of its outputs, in their order.
        description: which network it is, for the reader.

    Example:
        >>> net = FeatureClassifier(nn.Flatten(), nn.Linear(48, 2))
        >>> network = Network(net, Preprocessing(4, 4), ("cat", "dog"), "a toy")
        >>> len(network.classes) == network.classifier.num_classes
        True
    """

    classifier: FeatureClassifier
    preprocessing: Preprocessing
    classes: tuple
    description: str


def load_network(
    name, folder_classes, *, weights=None, classes=None, size=None, mean=None, std=None, head=None
):
    """Make a network by its name and load its weights, without running code from their file.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, or ``package.module:function``, a function that
            returns an ``nn.Module`` (or a FeatureClassifier) and is given ``num_classes`` if it
            has an argument of that name.
        folder_classes: names of the image folder's classes; the outputs are taken to be these, in
            this order, as torchvision's ImageFolder numbers them, unless others are known.
        weights: file of a state dict (safetensors, or what torch.save wrote), or "pretrained" for
            the weights that torchvision or timm offer. A function may do without.
        classes: names of the network's outputs, in their order.
        size: edge of the network's images in pixels: the shorter side is resized to it and the
            central square cut out. By default as torchvision's weights or timm's configuration of
            that network say; for a function 256 and 224 pixels.
        mean: what the network subtracts of each channel, pixels in [0, 1]; the same defaults, for a
            function ImageNet's.
        std: what it divides each channel by.
        head: name of the last linear layer, if it is not the last one in the network's own order.

    Returns:
        Network.

    Raises:
        ValueError: an unknown name, weights that are damaged, do not fit or hold more than
            tensors, no weights, or another number of outputs than classes.
        FileNotFoundError: no such file of weights.
        ImportError: the library or the module is not there.
        RuntimeError: the function failed.
        TypeError: it returns no network.

    Example:
        >>> network = load_network("mistakes_lib.classifiers:densenet_bc", ["cat", "dog"], size=32)
        >>> network.classes, network.classifier.num_classes
        (('cat', 'dog'), 2)
    """
    kind, _, own = name.partition(":")
    if not (kind and own):
        raise ValueError(f"{name!r} must be torchvision:NAME, timm:NAME or package.module:function")
    make = {"torchvision": _torchvision, "timm": _timm}.get(kind, _function)
    num_classes = len(classes or folder_classes)
    net, usual, known = make(name, num_classes, weights)
    classes = tuple(classes or known or folder_classes)
    if weights not in (None, PRETRAINED):
        load_weights(net, weights)
    if isinstance(net, FeatureClassifier):
        if mean or std or head:
            raise ValueError(f"{name} is a FeatureClassifier: it has mean, std and head already")
        classifier = net
    else:
        standard = {"mean": mean or usual["mean"], "std": std or usual["std"]}
        classifier = FeatureClassifier.from_module(net, head=head, **standard)
    if classifier.num_classes != len(classes):
        raise ValueError(
            f"{name} has {classifier.num_classes} outputs, but there are {len(classes)} classes: "
            "name all outputs in their order, one a line, in a file for --classes"
        )
    preprocessing = Preprocessing(size, size) if size else usual["preprocessing"]
    description = name if weights is None else f"{name} with weights {weights}"
    return Network(classifier, preprocessing, classes, description)


def load_weights(net, path):
    """Load a state dict into a network; nothing in the file is executed.

    Args:
        net: ``nn.Module``.
        path: safetensors file, or one that torch.save wrote of a state dict or of a dict that
            holds one as "state_dict", "model_state_dict" or "model".

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, holds more than tensors, or is of another network.

    Example:
        >>> import tempfile
        >>> trained, fresh = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.pt"
        ...     torch.save(trained.state_dict(), path)
        ...     load_weights(fresh, path)
        >>> torch.equal(fresh.weight, trained.weight)
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights {path}")
    if path.suffix == ".safetensors":
        state, _ = read_safetensors(path, framework="pt")
    else:
        state = _read_torch(path)
    state = next((state[key] for key in NESTED if isinstance(state.get(key), dict)), state)
    state = {str(key).removeprefix(PARALLEL): value for key, value in state.items()}
    expected = net.state_dict()
    lacking = [key for key in expected if key not in state]
    more = [key for key in state if key not in expected]
    if lacking or more:
        which = f"has no {lacking[0]}" if lacking else f"has {more[0]}, which the network lacks"
        raise ValueError(f"{path} is of another network: it {which}")
    for key, value in expected.items():
        found = tuple(getattr(state[key], "shape", ()))
        if found != tuple(value.shape):
            raise ValueError(
                f"{path} is of another network: {key} has shape {found}, not {tuple(value.shape)}; "
                "if it has other classes than the folder, name them in a file for --classes"
            )
    net.load_state_dict(state)


def _read_torch(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip have many kinds, and torch's messages many lines
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} is damaged or holds more than tensors, which could run code: it was not "
            f"loaded; save net.state_dict() with safetensors ({reason})"
        ) from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no state dict but a {type(state).__name__}")
    return state


def _torchvision(name, num_classes, weights):
    """A network of torchvision, its usual preprocessing, and the classes of its own weights."""
    from torchvision import models  # takes seconds to import

    own = name.partition(":")[2]
    known = models.list_models(module=models)
    if own not in known:
        raise ValueError(f"torchvision has no classifier {own!r}{did_you_mean(own, known)}")
    _needs(weights, name)
    offered = models.get_model_weights(own).DEFAULT
    preset = offered.transforms()
    usual = {
        "preprocessing": Preprocessing(
            preset.resize_size[0], preset.crop_size[0], preset.interpolation.value
        ),
        "mean": preset.mean,
        "std": preset.std,
    }
    if weights == PRETRAINED:
        net = _download(partial(models.get_model, own, weights=offered), name)
        return net, usual, offered.meta["categories"]
    return models.get_model(own, weights=None, num_classes=num_classes), usual, None


def _timm(name, num_classes, weights):
    """A network of timm and its usual preprocessing."""
    try:
        import timm
    except ImportError:
        raise ImportError(f"{name} needs timm: install it with pip install timm") from None
    own = name.partition(":")[2]
    known = own.partition(".")[0]  # resnet50.a1_in1k: certain weights of a resnet50
    if not (timm.is_model(known) or ":" in own):  # hf-hub:owner/name is one, too
        raise ValueError(f"timm has no model {known!r}{did_you_mean(known, timm.list_models())}")
    _needs(weights, name)
    make = partial(timm.create_model, own)
    if weights == PRETRAINED:
        net = _download(partial(make, pretrained=True), name)
    else:
        net = make(num_classes=num_classes)
    config = timm.data.resolve_model_data_config(net)
    crop = config["input_size"][-1]
    resize = int(crop / config["crop_pct"])
    usual = {
        "preprocessing": Preprocessing(resize, crop, config["interpolation"]),
        "mean": config["mean"],
        "std": config["std"],
    }
    return net, usual, None


def _function(name, num_classes, weights):
    """What a function of the user's makes; their module may lie in the current folder."""
    if weights == PRETRAINED:
        raise ValueError(f"{name} decides itself what it loads: give no weights, or a file")
    module, _, own = name.partition(":")
    sys.path.insert(0, "")
    try:
        make = getattr(importlib.import_module(module), own, None)
        if not callable(make):
            raise ValueError(f"there is no function {own!r} in it")
        takes = "num_classes" in inspect.signature(make).parameters
        net = make(num_classes=num_classes) if takes else make()
    except ModuleNotFoundError as error:
        raise ImportError(f"{name}: {error} (looked in the current folder, too)") from error
    except Exception as error:  # whatever the user's own code raises
        raise RuntimeError(f"{name} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    if not isinstance(net, nn.Module):
        raise TypeError(f"{name} must return an nn.Module, got {type(net).__name__}")
    return net, {"preprocessing": Preprocessing(256, 224), **IMAGENET}, None


def _download(make, name):
    try:
        return make()
    except Exception as error:  # each library's downloads have kinds of their own
        reason = " ".join(str(error).split())
        raise ValueError(
            f"weights of {name} could not be had ({reason}): give --weights FILE"
        ) from error


def _needs(weights, name):
    if weights is None:
        raise ValueError(
            f"{name} without weights is not trained: give --weights FILE, "
            f"or --weights {PRETRAINED} for what the library offers"
        )
