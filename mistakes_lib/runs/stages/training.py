"""The first stage of a run: its classifier."""

import torch

from mistakes_lib.classifiers import build_classifier
from mistakes_lib.density import PixelCNN
from mistakes_lib.runs.files import CLASSIFIER, write_classifier
from mistakes_lib.runs.provenance import hardware_of
from mistakes_lib.support.storage import load_arrays
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.ensembles import choose_labelled
from mistakes_lib.training.supervised import train
from mistakes_lib.training.temporal_ensembling import train_temporal_ensembling

__all__ = ["check_images", "classifier", "forget_training"]


def check_images(journal):
    """Refuse, before the training, images that a later stage could not take.

    Raises:
        ValueError: the PixelCNN has too many scales, or a mixture more components than there are
            training images.
        FileNotFoundError: an out-of-distribution set is not there.
    """
    own, train_set = journal.experiment, journal.own_images("train")
    if own.pixel_cnn:
        PixelCNN(**own.pixel_cnn).check_images(train_set.images)
    if max(own.mixtures, default=0) > len(train_set):
        raise ValueError(
            f"experiment.mixtures must be at most the {len(train_set)} training images, "
            f"got {max(own.mixtures)}"
        )
    for name in own.ood:
        journal.images(name, "test")


def classifier(journal):
    """Train the classifier; all processes of one training take part."""
    own = journal.experiment
    train_set, validation_set = (journal.own_images(split) for split in ("train", "validation"))
    inputs = {
        "architecture": own.architecture,
        "recipe": own.to_dict()["recipe"],
        "seed": own.seed,
        "data": [train_set.fingerprint, validation_set.fingerprint],
    }
    if own.then:
        inputs["then"] = own.to_dict()["then"]
    if own.labels_per_class is not None:
        inputs |= {name: own.to_dict()[name] for name in ("labels_per_class", "ensembling")}

    def compute(path):
        mean, std = train_set.channel_statistics()
        torch.manual_seed(own.seed)
        from_data = {"num_classes": len(train_set.classes), "mean": mean, "std": std}
        network = build_classifier({**own.architecture, **from_data})
        history = _train(journal, network, train_set, validation_set)
        if processes.is_main():
            write_classifier(path, network)
        hardware = hardware_of(journal.device)
        if processes.count() > 1:
            hardware = f"{processes.count()} × {hardware}"
        return {"history": history, "hardware": hardware}

    journal.stage(CLASSIFIER, inputs, compute)
    _remove_checkpoints(journal)


def _train(journal, network, train_set, validation_set):
    """Train the network in place by each recipe; return the records of all epochs."""
    own, checkpoints, history = journal.experiment, _checkpoints(journal), []
    images, labels, known = train_set.images, train_set.labels, slice(None)
    if own.labels_per_class is not None:
        known = choose_labelled(labels, own.labels_per_class, seed=own.seed)
    for place, recipe in enumerate(own.recipes):
        checkpoint, *later = checkpoints[place:]
        if not checkpoint.is_file() and processes.is_main():
            for gone_on in later:  # from weights that are gone
                gone_on.unlink(missing_ok=True)
        options = {
            "seed": own.seed + place,
            "validation": (validation_set.images, validation_set.labels),
            "checkpoint": checkpoint,
            "device": journal.device,
            "progress": journal.progress,
        }
        if own.ensembling and not later:
            options["ensembling"] = own.ensembling
            records = train_temporal_ensembling(network, images, labels, known, recipe, **options)
        else:
            records = train(network, images[known], labels[known], recipe, **options)
        history += _numbered(records, start=len(history))
    return history


def _checkpoints(journal):
    """The checkpoint of each recipe."""
    later = [f"training-{n}" for n in range(2, len(journal.experiment.recipes) + 1)]
    return [journal.folder / f"{name}.safetensors" for name in ("training", *later)]


def _remove_checkpoints(journal):
    """Remove those of the training that the journal knows to be over, and no others."""
    if not processes.is_main():
        return  # the journal is the main process's
    history = journal.stages[CLASSIFIER]["facts"]["history"]
    for recipe, checkpoint in zip(journal.experiment.recipes, _checkpoints(journal), strict=True):
        own, history = _numbered(history[: recipe.epochs]), history[recipe.epochs :]
        if checkpoint.is_file():
            _, metadata = load_arrays(checkpoint)
            if metadata.get("history") == own:
                checkpoint.unlink()


def forget_training(journal):
    """Let the training begin at its first epoch."""
    journal.forget(CLASSIFIER)
    if processes.is_main():
        for checkpoint in _checkpoints(journal):
            checkpoint.unlink(missing_ok=True)
    processes.wait()


def _numbered(history, start=0):
    """The same records with epochs from ``start`` + 1 on."""
    return [{**record, "epoch": start + place} for place, record in enumerate(history, start=1)]
