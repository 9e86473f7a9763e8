"""Anybody's trained network by name: torchvision's, timm's, or what a function of yours makes."""

import importlib
import inspect
import sys
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from mistakes_lib.classifiers.feature_classifier import FeatureClassifier, input_channels
from mistakes_lib.classifiers.weights import load_weights, unwrap
from mistakes_lib.data.files import natural_order
from mistakes_lib.data.reading import Preprocessing
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["Network", "load_network", "load_weights"]

PRETRAINED = "pretrained"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")  # used in training only
USUAL = Preprocessing(256, 224)  # for images of many sizes, where nothing better is known


@dataclass(frozen=True)
class Network:
    """A trained network with what it needs to know of images.

    Attributes:
        classifier: :class:`~mistakes_lib.classifiers.FeatureClassifier`.
        preprocessing: what makes pixels of an image.
        classes: names of its outputs, in their order.
        description: which network it is, for the reader.
        layer: name of its last linear layer.

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
    layer: str = "head"


def load_network(
    name,
    folder_classes,
    *,
    weights=None,
    classes=None,
    size=None,
    mean=None,
    std=None,
    head=None,
    image_size=None,
):
    """Make a network by its name and load its weights, without running code from their file.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, or ``package.module:function``, a function that
            returns an ``nn.Module`` (or a FeatureClassifier) and is given ``num_classes`` if it
            has an argument of that name.
        folder_classes: names of the image folder's classes; the outputs are taken to be these,
            unless others are known: sorted as text, as torchvision's ImageFolder numbers them, or
            in natural order for timm's networks, as timm numbers them.
        weights: file of a state dict (safetensors, or what torch.save wrote), or "pretrained" for
            the weights that torchvision or timm offer. A function may do without.
        classes: names of the network's outputs, in their order.
        size: edge of the network's images in pixels: the shorter side is resized to it and the
            central square cut out. By default as torchvision's weights or timm's configuration of
            that network say; for a function the images' own size, ``image_size``, and where that
            is unknown 256 and 224 pixels.
        mean: what the network subtracts of each channel, pixels in [0, 1]; the same defaults, for a
            function ImageNet's. One number for a network of grey images.
        std: what it divides each channel by.
        head: name of the last linear layer, if it is not the last one in the network's own order.
        image_size: (width, height) of the images, if all have the same.

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
    in_order = natural_order(folder_classes) if make is _timm else folder_classes
    classes = tuple(classes or _of_folder(known, folder_classes) or in_order)
    if weights not in (None, PRETRAINED):
        load_weights(net, weights)
    classifier, layer = _classifier(net, name, usual, mean, std, head)
    if classifier.num_classes != len(classes):
        raise ValueError(
            f"{name} has {classifier.num_classes} outputs, but there are {len(classes)} classes: "
            "name all outputs in their order, one a line, in a file for --classes"
        )
    preprocessing = usual["preprocessing"] or _as_large_as(image_size)
    if size:
        preprocessing = Preprocessing(size, size)
    preprocessing = replace(preprocessing, channels=classifier.channels)
    description = name if weights is None else f"{name} with weights {weights}"
    return Network(classifier, preprocessing, classes, description, layer)


def _as_large_as(image_size):
    """Images stay as they are, and others, such as suspects, become as large as they."""
    if image_size is None:
        return USUAL
    width, height = image_size
    return Preprocessing(width, width) if width == height else Preprocessing()


def _classifier(net, name, usual, mean, std, head):
    """The network by its last linear layer, and that layer's name."""
    net = unwrap(net)
    if isinstance(net, FeatureClassifier):
        if mean or std or head:
            raise ValueError(f"{name} is a FeatureClassifier: it has mean, std and head already")
        return net, "head"
    mean, std = mean or usual["mean"], std or usual["std"]
    channels = input_channels(net)
    if (
        channels == 1
        and len(mean) == len(std) == 3
        and (mean, std) == (usual["mean"], usual["std"])
    ):
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    if channels in (1, 3) and not len(mean) == len(std) == channels:
        raise ValueError(
            f"{name} takes images of {channels} channel{'s' * (channels > 1)}, but mean has "
            f"{len(mean)} and std {len(std)} numbers"
        )
    classifier = FeatureClassifier.from_module(net, head=head, mean=mean, std=std)
    return classifier, classifier.body.layer


def _of_folder(known, folder_classes):
    """Of the lists of names that the outputs are known by, the one that the folder uses."""
    if not known:
        return None
    return max(known, key=lambda names: len(set(names) & set(folder_classes)))


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
        return net, usual, [offered.meta["categories"], *_imagenet(len(offered.meta["categories"]))]
    options = {"aux_logits": False, "init_weights": False} if own in WITH_AUXILIARY_HEADS else {}
    return models.get_model(own, weights=None, num_classes=num_classes, **options), usual, None


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
    known = None
    if weights == PRETRAINED:
        net = _download(partial(make, pretrained=True), name)
        known = _imagenet(getattr(net, "num_classes", 0))
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
    return net, usual, known


def _imagenet(num_classes):
    """The names of ImageNet's 1000 classes, as folders have them: WordNet's, or words."""
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return []
    info = ImageNetInfo()
    if num_classes != info.num_classes():
        return []
    described = info.label_descriptions()
    return [info.label_names(), described, [text.split(",")[0] for text in described]]


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
    return net, {"preprocessing": None, **IMAGENET}, None


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
