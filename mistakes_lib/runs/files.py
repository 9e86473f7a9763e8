"""The files of a run: where they lie, how a classifier and a record are written and read."""

import json
import re

import numpy as np
import torch

from mistakes_lib.classifiers import build_classifier
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import LogLikelihood
from mistakes_lib.support.storage import load_arrays, save_arrays
from mistakes_lib.training.ensembles import choose_labelled

__all__ = [
    "CLASSIFIER",
    "HEAD",
    "PIXEL_CNN",
    "TRAINING_FEATURES",
    "adaptive_file",
    "attack_file",
    "corruption_file",
    "holds_features",
    "keep_own_labels",
    "labelled_rows",
    "mixture_file",
    "nearest_mixture",
    "ood_file",
    "pixels_file",
    "read_batch",
    "read_classifier",
    "read_head",
    "read_json",
    "read_own_labels",
    "scorer_file",
    "write_classifier",
    "write_head",
    "write_without_logits",
]

CLASSIFIER = "classifier.safetensors"
HEAD = "head.safetensors"  # instead of the classifier, in a run that was published without it
TRAINING_FEATURES = "features/train.safetensors"
PIXEL_CNN = "density/pixel_cnn.safetensors"
WITHOUT_LOGITS = "FeatureSet without logits"


def read_json(path):
    """Read a JSON file of a run; a damaged one is named."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and make the run again") from None


def write_classifier(path, classifier):
    metadata = {"kind": "classifier", "architecture": classifier.architecture}
    save_arrays(path, _arrays_of(classifier), metadata)


def read_classifier(path):
    arrays, metadata = load_arrays(path)
    return _filled(build_classifier(metadata["architecture"]), arrays)


def write_head(path, head):
    """Write a classifier's last layer, ``nn.Linear(d, c)``, which gives logits from features."""
    save_arrays(path, _arrays_of(head), {"kind": "last layer"})


def read_head(path):
    """Read what :func:`write_head` wrote."""
    arrays, _ = load_arrays(path, ["last layer"])
    return _filled(torch.nn.Linear(*reversed(arrays["weight"].shape)), arrays)


def _arrays_of(module):
    """Name → NumPy array of a module's parameters and buffers."""
    return {name: tensor.cpu().numpy() for name, tensor in module.state_dict().items()}


def _filled(module, arrays):
    """The module, in eval mode, with what :func:`_arrays_of` gave."""
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return module.eval()


def holds_features(name):
    """Whether a run's file holds the features and logits of some images."""
    return name.partition("/")[0] in ("features", "attacks", "corruptions", "ood")


def write_without_logits(source, target):
    """Copy such a file without its logits, which for many classes are the larger part."""
    arrays, metadata = load_arrays(source, ["FeatureSet", WITHOUT_LOGITS])
    arrays.pop("logits", None)
    save_arrays(target, arrays, metadata | {"kind": WITHOUT_LOGITS})


def keep_own_labels(path, labels, classes):
    """Add to such a file what the images show, in classes that are not the classifier's.

    Args:
        path: the file, which is written again.
        labels: int64 (n,).
        classes: class names, in the order of the labels.
    """
    arrays, metadata = load_arrays(path, ["FeatureSet"])
    save_arrays(path, arrays | {"own_labels": labels}, metadata | {"classes": list(classes)})


def read_own_labels(path):
    """What :func:`keep_own_labels` added, (labels, classes); None where nothing was."""
    arrays, metadata = load_arrays(path, ["FeatureSet", WITHOUT_LOGITS])
    if "own_labels" not in arrays:
        return None
    return arrays["own_labels"], tuple(metadata["classes"])


def read_batch(path, head):
    """The FeatureSet of such a file; logits that it lacks are those of the features as stored.

    Args:
        path: the file.
        head: function that returns the classifier's last layer, ``nn.Linear(d, c)``.
    """
    arrays, _ = load_arrays(path, ["FeatureSet", WITHOUT_LOGITS])
    features, logits = arrays["features"], arrays.get("logits")
    if logits is None:
        with torch.no_grad():
            logits = head()(torch.from_numpy(features.astype(np.float32))).numpy()
    return FeatureSet(features, logits, arrays.get("labels"))


def mixture_file(n_components, seed=None):
    """Where a run keeps the mixture with so many components, or its fit with another seed."""
    fit = "" if seed is None else f"-seed{seed}"
    return f"density/gmm-{n_components}{fit}.safetensors"


def nearest_mixture(sizes, wanted=100):
    """Of a run's sizes of mixtures the nearest to one, by default the paper's for mistakes."""
    return min(sizes, key=lambda size: abs(size - wanted))


def pixels_file(name):
    """Where a run keeps what its PixelCNN says of a split or an out-of-distribution set."""
    return f"pixels/{name}.safetensors"


def ood_file(name):
    """Where a run keeps the features of an out-of-distribution set."""
    return f"ood/{name}.safetensors"


def attack_file(name, level):
    """Where a run keeps the features of attacked images, with a radius in units of 1/255.

    Example:
        >>> attack_file("fgsm", 8), attack_file("fgsm", 25.5)
        ('attacks/fgsm-8.safetensors', 'attacks/fgsm-25.5.safetensors')
    """
    return f"attacks/{name}-{level:g}.safetensors"


def corruption_file(kind):
    """Where a run keeps the features of test images corrupted by a family, weakest first."""
    return f"corruptions/{kind}.safetensors"


def adaptive_file(name):
    """Where a run keeps the features of images attacked by one who knows the detector.

    Args:
        name: one of :attr:`~mistakes_lib.runs.kinds.AdaptiveAttack.names`.
    """
    text = name if isinstance(name, str) else f"{name:g}"
    return f"attacks/adaptive-{text}.safetensors"


def scorer_file(scorer):
    """Where a run keeps a fitted detector; None for one that has a density's file already, is
    fitted on little, or is as large as the training features."""
    if isinstance(scorer, LogLikelihood) or scorer.keeps_inputs or scorer.fits_on != "train":
        return None
    size = f"-{scorer.n_components}" if hasattr(scorer, "n_components") else ""
    return f"scorers/{re.sub(r'[^a-z]+', '-', scorer.name.lower())}{size}.safetensors"


def labelled_rows(experiment, labels):
    """The rows whose labels the training saw, bool (n,), of the training labels (n,)."""
    if experiment.labels_per_class is None:
        return np.ones(len(labels), dtype=bool)
    return choose_labelled(labels, experiment.labels_per_class, seed=experiment.seed)
