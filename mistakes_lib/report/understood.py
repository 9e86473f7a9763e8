"""What a report understood of a network and a folder, and what the network may have expected."""

import numpy as np
from torch.utils.data import DataLoader

from mistakes_lib.classifiers.feature_classifier import FeatureClassifier
from mistakes_lib.data.reading import Preprocessing, common_size
from mistakes_lib.features.feature_set import extract_features

__all__ = ["summary", "try_other_inputs"]

TRIED = 300  # training images on which other sizes and normalisations are tried
CLEARLY = 0.05  # gain in accuracy from which on another one is proposed
DOUBTFUL = 0.98  # training accuracy below which others are tried
PIXELS = 64 * 64**2  # in a batch: a network without strides keeps all of them in every layer
SHOWN = 12  # class names
NORMALISATIONS = {  # channels → what networks are trained with, mean and deviation
    3: (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
        ((0.5,) * 3, (0.5,) * 3),
        ((0.0,) * 3, (1.0,) * 3),
        ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),  # CIFAR's
    ),
    1: (((0.1307,), (0.3081,)), ((0.5,), (0.5,)), ((0.0,), (1.0,))),  # MNIST's; one half; none
}
SIZES = (28, 32, 64, 224)


def summary(network, found, image_size):
    """What was understood, line by line.

    Args:
        network: :class:`~mistakes_lib.classifiers.loading.Network`.
        found: :class:`~mistakes_lib.features.folders.FolderFeatures`.
        image_size: (width, height) of all images, or None where they differ.

    Returns:
        list of dicts with the keys what and found, both str.
    """
    classifier = network.classifier
    own = f"{image_size[0]} × {image_size[1]}" if image_size else "of many sizes"
    means, deviations = (
        ", ".join(f"{value:.3g}" for value in part.flatten().tolist())
        for part in (classifier.mean, classifier.std)
    )
    preprocessing = network.preprocessing
    edges = {preprocessing.resize, preprocessing.crop}
    if image_size and edges == set(image_size):  # nothing changes, but for images from elsewhere
        preprocessing = Preprocessing(channels=preprocessing.channels)
    names = ", ".join(map(str, network.classes[:SHOWN]))
    if len(network.classes) > SHOWN:
        names += f", … ({len(network.classes)} in all)"
    lines = {
        "network": network.description,
        "last layer": f"{network.layer}, {classifier.num_features} features",
        "classes, in the order of the outputs": names,
        "images": f"{own}; {preprocessing}",
        "normalisation": f"less {means}, divided by {deviations}",
    }
    for name, files in found.files.items():
        lines[name] = (
            f"{len(files)} images, {files.origin}; accuracy {found.sets[name].accuracy:.1%}"
        )
        if files.passed_over:
            gone = "; ".join(f"{count} {reason}" for reason, count in files.passed_over.items())
            lines[f"{name}, passed over"] = gone
    for name, batch in found.suspects.items():
        lines[name] = f"{len(batch)} images"
        size = common_size(found.suspect_files[name].paths)
        if size != image_size:
            theirs = f"{size[0]} × {size[1]}" if size else "of many sizes"
            lines[name] += f", {theirs}; {network.preprocessing}"
    return [{"what": what, "found": text} for what, text in lines.items()]


def try_other_inputs(network, found, image_size, *, device="auto", seed=0):
    """Look for a size or a normalisation under which the network knows its training images.

    Args:
        network: :class:`~mistakes_lib.classifiers.loading.Network`.
        found: :class:`~mistakes_lib.features.folders.FolderFeatures`; its training images are
            tried.
        image_size: (width, height) of all images, or None where they differ.
        device: "auto", "cpu", "cuda", …
        seed: of the choice of the images.

    Returns:
        list of a dict with the keys alarm, cause and cure; empty where nothing is clearly better.
    """
    channels = network.classifier.channels
    if found.sets["train"].accuracy >= DOUBTFUL or channels not in NORMALISATIONS:
        return []
    rng = np.random.default_rng(seed)
    files = found.files["train"]
    rows = np.sort(rng.permutation(len(files))[:TRIED])
    some = files.take(rows, files.origin)

    def accuracy_of(preprocessing, mean, std):
        edge = preprocessing.crop or preprocessing.resize or max(image_size or (224,))
        loader = DataLoader(some.prepared(preprocessing), max(1, min(64, PIXELS // edge**2)))
        other = _standardising(network.classifier, mean, std)
        try:
            return extract_features(other, loader, device=device).accuracy
        except (RuntimeError, ValueError):  # a size that the network does not take
            return 0.0

    given = network.preprocessing
    mean, std = (
        tuple(part.flatten().tolist()) for part in (network.classifier.mean, network.classifier.std)
    )
    now = accuracy_of(given, mean, std)
    tried = {
        f"--mean {_numbers(m)} --std {_numbers(s)}": (given, m, s)
        for m, s in NORMALISATIONS[channels]
    }
    if max(*mean, *std) > 1:  # of 0…255, as other toolkits give them
        smaller = [tuple(value / 255 for value in part) for part in (mean, std)]
        tried[f"--mean {_numbers(smaller[0])} --std {_numbers(smaller[1])}"] = (given, *smaller)
    own = image_size[:1] if image_size and image_size[0] == image_size[1] else ()
    sizes = [Preprocessing(edge, edge, channels=channels) for edge in (*SIZES, *own)]
    tried |= {f"--size {p.crop}": (p, mean, std) for p in sizes if str(p) != str(given)}
    results = {option: accuracy_of(*inputs) for option, inputs in tried.items()}
    option = max(results, key=results.get)
    if results[option] < now + CLEARLY:
        return []
    what = "size" if option.startswith("--size") else "normalisation"
    alarm = {
        "alarm": f"on {len(some)} training images the accuracy is {now:.1%}, and "
        f"{results[option]:.1%} with another {what}",
        "cause": f"the network was trained on images of another {what}",
        "cure": option,
    }
    return [alarm]


def _standardising(classifier, mean, std):
    """The same network with another mean and standard deviation."""
    return FeatureClassifier(classifier.body, classifier.head, mean=mean, std=std)


def _numbers(values):
    return ",".join(f"{value:g}" for value in values)
