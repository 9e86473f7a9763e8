"""Supervised training as in Appendix C: SGD with Nesterov momentum, resumable to the bit."""

import contextlib
import json
import logging
import math
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mistakes_lib.support.checks import as_labels
from mistakes_lib.support.progress import progress_bar
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.augmentation import augment
from mistakes_lib.training.loop import (
    Checkpoint,
    adopt_average,
    averaged,
    own_random_state,
    run_epochs,
    set_learning_rate,
)
from mistakes_lib.training.recipe import learning_rate

__all__ = ["train"]

logger = logging.getLogger(__name__)


def train(
    classifier,
    images,
    labels,
    recipe,
    *,
    seed=0,
    validation=None,
    checkpoint=None,
    device="auto",
    progress=True,
):
    """Train a classifier in place by cross-entropy (Appendix C).

    Images stay on the device as uint8 and are augmented there. With ``checkpoint`` the state is
    written after each epoch, and a later call with the same arguments goes on from it: on the CPU
    the weights end bit for bit as those of an undisturbed call, because every random draw of an
    epoch comes from ``(seed, epoch)``.

    Started in several processes (``accelerate launch``), each takes its share of every batch: the
    recipe's ``batch_size`` is that of all of them together, and batch normalisation sees the whole
    batch, so that the loss does not depend on their number but for rounding and dropout. The
    checkpoint must lie where all of them can read it.

    Args:
        classifier: a :class:`~mistakes_lib.classifiers.FeatureClassifier`.
        images: uint8 (n, 3, h, w), 0…255.
        labels: int64 (n,).
        recipe: :class:`~mistakes_lib.training.recipe.Recipe`.
        seed: seed of shuffling, augmentation and dropout (not of the initial weights).
        validation: (images, labels) on which accuracy is measured after each epoch.
        checkpoint: safetensors file for exact resume.
        device: "auto", "cpu", "cuda", …
        progress: show a bar with loss, accuracy and remaining time.

    Returns:
        list of dicts, one an epoch: epoch, lr, loss, accuracy, validation_accuracy, seconds.

    Raises:
        ValueError: no images, labels out of range, or a checkpoint of another training.

    Example:
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> from mistakes_lib.training.recipe import Recipe
        >>> _ = torch.manual_seed(0)
        >>> classifier = FeatureClassifier(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> labels = np.arange(40) % 2  # class 0 is black, class 1 is white
        >>> images = np.repeat(255 * labels, 12).reshape(40, 3, 2, 2).astype(np.uint8)
        >>> recipe = Recipe(epochs=5, batch_size=8, milestones=(), max_shift=0)
        >>> history = train(classifier, images, labels, recipe, device="cpu", progress=False)
        >>> len(history), history[-1]["accuracy"]
        (5, 1.0)
    """
    device = processes.connect(device)
    images, labels = on_device(images, labels, classifier.num_classes, device)
    if validation is not None:
        validation = on_device(*validation, classifier.num_classes, device)
    classifier.to(device, memory_format=torch.channels_last)
    optimizer = sgd(classifier, recipe)
    forward = compiled(classifier, recipe)
    return train_classifier(
        partial(_epoch, forward, optimizer, images, labels, recipe, seed=seed),
        classifier,
        optimizer,
        recipe,
        signature=signature_of(recipe, seed, classifier),
        steps=math.ceil(len(images) / recipe.batch_size),
        validation=validation,
        checkpoint=checkpoint,
        device=device,
        progress=progress,
    )


def sgd(classifier, recipe):
    """The recipe's optimiser for all parameters of the classifier."""
    return torch.optim.SGD(
        classifier.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )


def compiled(classifier, recipe):
    """What a training calls for a forward pass: compiled if the recipe says so, and in parallel."""
    forward = processes.parallel(classifier)
    return torch.compile(forward) if recipe.compile else forward


def train_classifier(
    one_epoch,
    classifier,
    optimizer,
    recipe,
    *,
    signature,
    steps,
    validation,
    checkpoint,
    device,
    progress,
    state=None,
):
    """Run a recipe's epochs, measure each on the validation images, and return their records.

    Args:
        one_epoch: called with ``epoch`` (from 0) and the progress ``bar``; returns a record.
        classifier: the network in training; evaluated and contiguous in the end.
        optimizer: its SGD.
        recipe: :class:`~mistakes_lib.training.recipe.Recipe`.
        signature: see :func:`signature_of`.
        steps: batches an epoch.
        validation: (images, labels) on the device, or None.
        checkpoint: safetensors file, or None.
        device: torch.device.
        progress: show a bar.
        state: dict of name → tensor: what else a checkpoint holds, restored in place.
    """
    average = None
    if recipe.ema_decay:
        average = averaged(classifier, optimizer, get_ema_multi_avg_fn(recipe.ema_decay))
    kept = Checkpoint(checkpoint, signature, classifier, optimizer, average=average, state=state)
    shown = progress and processes.is_main()

    def place(epoch):
        return f"epoch {epoch + 1}/{recipe.epochs}"

    def validated(epoch, bar):
        record = one_epoch(epoch=epoch, bar=bar)
        if validation is not None:
            network = average.module if average else classifier
            accuracy = measure_accuracy(network, *validation, recipe, edge=recipe.edge(epoch))
            record["validation_accuracy"] = accuracy
            bar.set_postfix(bar_fields(record))
        return record

    def tell(epoch, record):
        numbers = ", ".join(f"{name} {value}" for name, value in bar_fields(record).items())
        logger.info("%s: %s", place(epoch), numbers)

    history = kept.load()
    with own_random_state(device):
        run_epochs(
            validated,
            kept,
            history,
            epochs=recipe.epochs,
            bars=lambda epoch: progress_bar(total=steps, desc=place(epoch), shown=shown),
            device=device,
            tell=tell,
        )
    if average:
        adopt_average(classifier, average)
    classifier.to(memory_format=torch.contiguous_format).eval()
    return history


def bar_fields(record):
    """The numbers of an epoch's record that fit behind a progress bar."""
    names = {
        "loss": "loss",
        "supervised_loss": "supervised",
        "unsupervised_loss": "unsupervised",
        "accuracy": "train",
        "validation_accuracy": "validation",
    }
    return {short: f"{record[name]:.4f}" for name, short in names.items() if name in record}


def _epoch(forward, optimizer, images, labels, recipe, *, epoch, seed, bar):
    """One pass over the images; every random draw depends on (seed, epoch) alone."""
    generator = epoch_generator(seed, epoch, images.device)
    order = torch.randperm(len(images), generator=generator, device=images.device)
    forward.train()
    loss_sum = torch.zeros((), device=images.device, dtype=torch.float64)
    hits = torch.zeros((), device=images.device, dtype=torch.int64)
    batches = order.split(recipe.batch_size)
    for step, rows in enumerate(batches, start=epoch * len(batches)):
        lr = learning_rate(recipe, step, len(batches))
        set_learning_rate(optimizer, lr)
        batch = augment(
            images[rows], max_shift=recipe.max_shift, flip=recipe.flip, generator=generator
        )
        own = processes.share(len(rows))
        with autocast(images.device, recipe.precision):
            logits = forward(as_input(batch[own], recipe.edge(epoch)))
            part = F.cross_entropy(logits.float(), labels[rows[own]], reduction="sum")
            loss = part * processes.count() / len(rows)  # gradients are averaged over processes
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss_sum += part.detach()
        hits += (logits.argmax(1) == labels[rows[own]]).sum()
        bar.update()
        if bar.n % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}", lr=f"{lr:.4f}")
    loss = processes.total(loss_sum).item() / len(images)
    accuracy = processes.total(hits).item() / len(images)
    return {"epoch": epoch + 1, "lr": lr, "loss": loss, "accuracy": accuracy}


def epoch_generator(seed, epoch, device):
    """Seed dropout, and return the generator of an epoch's other draws: all from (seed, epoch)."""
    own, *_ = np.random.SeedSequence([seed, epoch, processes.rank()]).generate_state(1)
    torch.manual_seed(int(own))  # dropout: another in each process
    common, *_ = np.random.SeedSequence([seed, epoch]).generate_state(1)
    return torch.Generator(device).manual_seed(int(common))


@torch.inference_mode()
def measure_accuracy(classifier, images, labels, recipe, *, edge=None, batch_size=500):
    """Share of the images, on the device, that the classifier in eval mode gets right."""
    classifier.eval()
    hits = torch.zeros((), device=images.device, dtype=torch.int64)
    every = torch.arange(len(images), device=images.device)
    for rows in every[processes.share(len(every))].split(batch_size):
        with autocast(images.device, recipe.precision):
            logits = classifier(as_input(images[rows], edge))
        hits += (logits.argmax(1) == labels[rows]).sum()
    return processes.total(hits).item() / len(images)


def as_input(batch, edge=None):
    """uint8 0…255 → float in [0, 1], channels last: the layout that convolutions run fastest in.

    With ``edge``, larger images are shrunk to (edge, edge) first, bilinearly and antialiased.
    """
    batch = (batch.float() / 255).contiguous(memory_format=torch.channels_last)
    if edge is None or edge >= batch.shape[-1]:
        return batch
    return F.interpolate(batch, size=(edge, edge), mode="bilinear", antialias=True)


def on_device(images, labels, num_classes, device):
    """Checked uint8 images and int64 labels as tensors on the device."""
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(
            "images must be uint8 (n, 3, h, w) with n ≥ 1, "
            f"got {images.dtype} {tuple(images.shape)}"
        )
    labels = as_labels(labels, "labels", length=len(images), num_classes=num_classes)
    return images.to(device), torch.from_numpy(labels).to(device)


def autocast(device, precision):
    """The context in which a forward pass has the recipe's precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def signature_of(recipe, seed, classifier, **others):
    """What must agree before a checkpoint may be resumed, as JSON."""
    own = {"recipe": asdict(recipe), "seed": int(seed), "architecture": classifier.architecture}
    return json.dumps(own | others, sort_keys=True)
