"""Copy a run to where others read it, perhaps without its largest file."""

import json
import shutil
import tempfile
from pathlib import Path

from mistakes_lib.runs.files import (
    CLASSIFIER,
    HEAD,
    PIXEL_CNN,
    TRAINING_FEATURES,
    holds_features,
    mixture_file,
    nearest_mixture,
    write_head,
    write_without_logits,
)
from mistakes_lib.runs.reading import Run
from mistakes_lib.support.locations import PUBLISHED_RUNS
from mistakes_lib.support.storage import narrow, sha256_of

__all__ = ["publish_run"]


def publish_run(
    run,
    root=None,
    *,
    training_features=True,
    logits=True,
    pixel_cnn=True,
    classifier=True,
    full_precision=True,
    refits=0,
):
    """Copy a finished run, every file checked, without what only its making needs.

    Args:
        run: :class:`Run`.
        root: folder of runs to copy it to; by default the book's.
        training_features: copy these as well. Without them a run still scores by the densities and
            detectors that it holds, but no other can be fitted.
        logits: copy these as well. Without them they are computed, when they are read, from the
            features as they are stored (float16): a prediction by a hair's breadth may change, and
            the accuracies in ``run.json`` are counted anew.
        pixel_cnn: copy the PixelCNN's network, if there is one, as well. Without it no other image
            can be scored; what it says of the run's own stays.
        classifier: copy the network. Without it, only its last layer is copied.
        full_precision: copy densities and detectors in float64; otherwise in float32, at half the
            size.
        refits: fit the mixture that detects mistakes with so many further seeds (the run's own + 1,
            + 2, …) and add those fits, so that a reader without the training features sees how far
            fits differ. Needs the training features, and minutes.

    Returns:
        Run: the copy.

    Raises:
        FileExistsError: the folder has such a run already.
        ValueError: a file is damaged, or the run has no training features to fit again.

    Example:
        >>> from mistakes_lib.runs import load_run
        >>> run = load_run("cifar100/densenet_bc_100_12/seed0")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     copy = publish_run(run, folder, training_features=False, classifier=False)
        ...     copy.name == run.name, copy.has_training_features, copy.has_classifier
        (True, False, False)
    """
    destination = Path(PUBLISHED_RUNS if root is None else root) / run.name
    if destination.exists():
        raise FileExistsError(f"{destination} is there already: remove it first")
    if refits and not run.has_training_features:
        raise ValueError(f"run {run.name} has no training features, so no mixture can be refitted")
    destination.parent.mkdir(parents=True, exist_ok=True)
    wanted = {TRAINING_FEATURES: training_features, PIXEL_CNN: pixel_cnn, CLASSIFIER: classifier}
    files = [name for name in run.info["files"] if wanted.get(name, True)]
    with tempfile.TemporaryDirectory(dir=destination.parent) as temporary:
        copy = Path(temporary) / "run"
        for name in files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            _copier(name, logits, full_precision)(run.file(name), copy / name)
        files += _refit(run, copy, refits, full_precision)
        if not classifier:
            write_head(copy / HEAD, run.head)
            files.append(HEAD)
        info = run.info | {"files": {name: sha256_of(copy / name) for name in sorted({*files})}}
        _write(copy, info)
        if not logits:
            _write(copy, info | _accuracies(Run(copy)))
        copy.rename(destination)  # all of it or nothing
    return Run(destination)


def _refit(run, copy, refits, full_precision):
    """Fit the mixture that detects mistakes with further seeds; names of the new files."""
    names, first = [], run.experiment.seed
    if not refits:
        return names
    n_components = nearest_mixture(run.experiment.mixtures)
    for seed in range(first + 1, first + 1 + refits):
        names.append(mixture_file(n_components, seed))
        fitted = run.density(n_components, seed=seed)
        fitted.save(copy / names[-1])
        _copier(names[-1], True, full_precision)(copy / names[-1], copy / names[-1])
    return names


def _copier(name, logits, full_precision):
    """How a file of a run is copied: a function of source and target."""
    if holds_features(name) and not logits:
        return write_without_logits
    fitted = Path(name).parent.name in ("density", "scorers")
    return narrow if fitted and not full_precision else shutil.copyfile


def _write(folder, info):
    (folder / "run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


def _accuracies(run):
    """What ``run.json`` says of accuracies, of the features and logits that the run holds."""
    found = {"features": dict(run.info["accuracy"]), "attacks": dict(run.info["attack_accuracy"])}
    for name in map(Path, run.info["files"]):
        if name.parent.name in found:
            found[name.parent.name][name.stem] = run.batch(str(name)).accuracy
    return {"accuracy": found["features"], "attack_accuracy": found["attacks"]}
