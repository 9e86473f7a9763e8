"""Semi-supervised training by Temporal Ensembling (Laine & Aila 2016), as in Appendix C."""

import hashlib
import math
from dataclasses import asdict

import numpy as np
import torch
from torch.nn import functional as F

from mistakes_lib.support.checks import as_labels
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.augmentation import augment
from mistakes_lib.training.ensembles import (
    TemporalEnsembling,
    ensemble_targets,
    learning_rate_factor,
    unsupervised_weight,
    update_ensemble,
)
from mistakes_lib.training.loop import set_learning_rate
from mistakes_lib.training.recipe import learning_rate
from mistakes_lib.training.supervised import (
    as_input,
    autocast,
    compiled,
    epoch_generator,
    on_device,
    sgd,
    signature_of,
    train_classifier,
)

__all__ = ["train_temporal_ensembling"]

UNLABELLED = -100  # the label that F.cross_entropy passes over


def train_temporal_ensembling(
    classifier,
    images,
    labels,
    labelled,
    recipe,
    *,
    ensembling=None,
    seed=0,
    validation=None,
    checkpoint=None,
    device="auto",
    progress=True,
):
    """Train a classifier in place from few labels and many images (Appendix C).

    Each image's softmax output is drawn towards an average of the outputs that it got in earlier
    epochs, under other augmentation and dropout. With N images, M of them labelled, c classes and
    targets z̃ (:func:`~mistakes_lib.training.ensembles.ensemble_targets`), a batch B has the
    loss of Laine & Aila (2016, https://arxiv.org/abs/1610.02242, algorithm 2) divided by M/N::

        N/M · ( Σ_{i ∈ B, labelled} −log z_i[y_i] / |B| + w(t) · Σ_{i ∈ B} ‖z_i − z̃_i‖² / (c |B|) )

    Where the sources leave a choice:

    - The original trains with Adam, to which a constant factor of the loss makes no difference;
      Appendix C names no other optimiser than SGD. To SGD it does: without N/M, learning rate
      and weight decay would mean other things for each share of labels. With it, the supervised
      part is in expectation the mean cross-entropy of the labelled images, as in
      :func:`~mistakes_lib.training.supervised.train`.
    - The recipe's own schedule is multiplied with
      :func:`~mistakes_lib.training.ensembles.learning_rate_factor`. The original's rate is constant
      between the ramps: ``Recipe(schedule="step", milestones=())``. It also moves Adam's β1 to 0.5
      along the ramp-down; SGD's momentum stays as it is.
    - With a ``labelled_share`` s the supervised part is the mean over the labelled images of the
      batch, so 1/s stands for its factor N/M. An image that an epoch shows several times has the
      mean of its outputs there.
    - Appendix C says "maximum weight decay of 100"; we take it for the maximum weight w_max of
      the unsupervised loss. It names no epochs, ramps or α: they are the original's.

    Checkpoints, resume and random draws are those of ``train``; the ensemble predictions are a
    part of the checkpoint.

    Args:
        classifier: a :class:`~mistakes_lib.classifiers.FeatureClassifier`.
        images: uint8 (n, 3, h, w), 0…255.
        labels: int64 (n,); where ``labelled`` is False they play no part and may be −1.
        labelled: bool (n,), True where the label may be used; see
            :func:`~mistakes_lib.training.ensembles.choose_labelled`.
        recipe: :class:`~mistakes_lib.training.recipe.Recipe` of optimiser and augmentation.
        ensembling: :class:`~mistakes_lib.training.ensembles.TemporalEnsembling`, by default with
            its defaults.
        seed: seed of shuffling, augmentation and dropout (not of the initial weights).
        validation: (images, labels) on which accuracy is measured after each epoch.
        checkpoint: safetensors file for exact resume.
        device: "auto", "cpu", "cuda", …
        progress: show a bar with both losses, accuracy and remaining time.

    Returns:
        list of dicts, one an epoch: epoch, lr, unsupervised_weight (w), loss (the minimised one),
        supervised_loss (mean cross-entropy of labelled images), unsupervised_loss (mean squared
        difference, all images), accuracy (labelled images), validation_accuracy, seconds. Thus
        loss = supervised_loss + N/M · unsupervised_weight · unsupervised_loss.

    Raises:
        ValueError: no images, a label out of range, ``labelled`` no mask of the right length, a
            class without labelled images, a ``labelled_share`` that is no whole image of a batch or
            does not show each labelled image once an epoch, or a checkpoint of another training.

    Example:
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> from mistakes_lib.training.ensembles import choose_labelled
        >>> from mistakes_lib.training.recipe import Recipe
        >>> _ = torch.manual_seed(0)
        >>> classifier = FeatureClassifier(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> labels = np.arange(40) % 2  # class 0 is black, class 1 is white
        >>> images = np.repeat(255 * labels, 12).reshape(40, 3, 2, 2).astype(np.uint8)
        >>> labelled = choose_labelled(labels, 4)
        >>> recipe = Recipe(epochs=5, batch_size=8, milestones=(), max_shift=0)
        >>> history = train_temporal_ensembling(
        ...     classifier, images, labels, labelled, recipe, device="cpu", progress=False
        ... )
        >>> [round(epoch["unsupervised_weight"], 2) for epoch in history]  # up to 100 · 8 / 40
        [0.0, 2.05, 10.84, 19.94, 20.0]
    """
    ensembling = TemporalEnsembling() if ensembling is None else ensembling
    device = processes.connect(device)
    labels = _known_labels(labels, labelled, len(images), classifier.num_classes)
    steps = _steps(labels, recipe, ensembling)
    signature = signature_of(
        recipe,
        seed,
        classifier,
        ensembling=asdict(ensembling),
        labelled=hashlib.sha256(labels.tobytes()).hexdigest(),
    )
    images, _ = on_device(images, np.maximum(labels, 0), classifier.num_classes, device)
    labels = torch.from_numpy(labels).to(device)
    if validation is not None:
        validation = on_device(*validation, classifier.num_classes, device)
    classifier.to(device, memory_format=torch.channels_last)
    optimizer = sgd(classifier, recipe)
    forward = compiled(classifier, recipe)
    ensemble = torch.zeros(len(images), classifier.num_classes, device=device)  # Z, (n, c)

    def one_epoch(epoch, bar):
        targets = ensemble_targets(ensemble, epoch, ensembling.momentum)
        record, outputs = _epoch(
            forward, optimizer, images, labels, targets, recipe, ensembling,
            epoch=epoch, seed=seed, bar=bar,
        )  # fmt: skip
        ensemble.copy_(update_ensemble(ensemble, outputs, ensembling.momentum))
        return record

    return train_classifier(
        one_epoch,
        classifier,
        optimizer,
        recipe,
        signature=signature,
        steps=steps,
        validation=validation,
        checkpoint=checkpoint,
        device=device,
        progress=progress,
        state={"ensemble": ensemble},
    )


def _known_labels(labels, labelled, length, num_classes):
    """Checked int64 labels (n,), UNLABELLED where the label may not be used."""
    labels = as_labels(labels, "labels", length=length)
    mask = np.asarray(labelled.cpu() if isinstance(labelled, torch.Tensor) else labelled)
    if mask.dtype != bool or mask.shape != (length,):
        raise ValueError(
            f"labelled must be a boolean mask of shape ({length},), got {mask.dtype} {mask.shape}"
        )
    if not mask.any():
        raise ValueError("no image is labelled: train needs some labels of each class")
    as_labels(np.where(mask, labels, 0), "labels", num_classes=num_classes)
    missing = np.setdiff1d(np.arange(num_classes), labels[mask])
    if len(missing):
        raise ValueError(
            f"class {missing[0]} has no labelled image "
            f"({len(missing)} of {num_classes} classes have none)"
        )
    return np.where(mask, labels, UNLABELLED)


def _labelled_of_batch(recipe, ensembling):
    """How many images of each batch have labels; None: as many as chance has it."""
    share = ensembling.labelled_share
    return None if share is None else round(share * recipe.batch_size)


def _steps(labels, recipe, ensembling):
    """Batches of an epoch."""
    batch_size, labelled_share = recipe.batch_size, ensembling.labelled_share
    of_batch = _labelled_of_batch(recipe, ensembling)
    if of_batch is None:
        return math.ceil(len(labels) / batch_size)
    known = int((labels != UNLABELLED).sum())
    if not 0 < of_batch < batch_size or known == len(labels):
        raise ValueError(
            f"labelled_share={labelled_share:g} makes {of_batch} of {batch_size} images of a batch "
            "labelled, but a batch needs some with labels and some without"
        )
    steps = math.ceil((len(labels) - known) / (batch_size - of_batch))
    if steps * of_batch < known:
        raise ValueError(
            f"labelled_share={labelled_share:g} shows {steps * of_batch} labelled images an epoch, "
            f"but there are {known}: it must be about {known / len(labels):.2g} or more"
        )
    return steps


def _batches(labels, batch_size, of_batch, generator):
    """Rows of each batch of an epoch, a list of Tensors."""
    order = torch.randperm(len(labels), generator=generator, device=labels.device)
    if of_batch is None:
        return order.split(batch_size)
    has_label = labels[order] != UNLABELLED
    known, others = order[has_label], order[~has_label]
    free = others.split(batch_size - of_batch)
    drawn = [known]
    while sum(map(len, drawn)) < len(free) * of_batch:
        again = torch.randperm(len(known), generator=generator, device=labels.device)
        drawn.append(known[again])
    parts = zip(torch.cat(drawn).split(of_batch), free, strict=False)
    return [torch.cat(pair) for pair in parts]


def _epoch(forward, optimizer, images, labels, targets, recipe, ensembling, *, epoch, seed, bar):
    """One pass over the images: its record, and the softmax output (n, c) that each image got."""
    generator = epoch_generator(seed, epoch, images.device)
    forward.train()
    known = int((labels != UNLABELLED).sum())
    share = known / len(images)  # M/N
    weight = unsupervised_weight(ensembling, epoch, recipe.epochs, share)
    factor = learning_rate_factor(ensembling, epoch, recipe.epochs)
    outputs = torch.zeros_like(targets)  # of this process's images, summed
    shown = torch.zeros(len(images), 1, device=images.device)
    sums = torch.zeros(2, device=images.device, dtype=torch.float64)
    hits = torch.zeros((), device=images.device, dtype=torch.int64)
    fixed = _labelled_of_batch(recipe, ensembling)
    batches = _batches(labels, recipe.batch_size, fixed, generator)
    known = known if fixed is None else fixed * len(batches)  # as often as they are shown
    for step, rows in enumerate(batches, start=epoch * len(batches)):
        lr = factor * learning_rate(recipe, step, len(batches))
        set_learning_rate(optimizer, lr)
        batch = augment(
            images[rows], max_shift=recipe.max_shift, flip=recipe.flip, generator=generator
        )
        own = processes.share(len(rows))
        mine = rows[own]
        with autocast(images.device, recipe.precision):
            logits = forward(as_input(batch[own], recipe.edge(epoch))).float()
            z = logits.softmax(1)  # (b, c)
            supervised = F.cross_entropy(
                logits, labels[mine], ignore_index=UNLABELLED, reduction="sum"
            )
            unsupervised = (z - targets[mine]).square().sum() / z.shape[1]
            # What supervised is divided by, to be a mean over images with labels.
            of_batch = share if fixed is None else fixed / len(rows)
            part = supervised / of_batch + weight * unsupervised / share
            loss = part * processes.count() / len(rows)  # gradients are averaged over processes
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        outputs.index_add_(0, mine, z.detach())
        shown.index_add_(0, mine, torch.ones(len(mine), 1, device=images.device))
        parts = torch.stack([supervised, unsupervised]).detach()
        sums += parts
        hits += (logits.argmax(1) == labels[mine]).sum()
        bar.update()
        if bar.n % 20 == 0:
            bar.set_postfix(
                supervised=f"{parts[0].item() / (of_batch * max(len(mine), 1)):.4f}",
                unsupervised=f"{parts[1].item() / max(len(mine), 1):.4f}",
                weight=f"{weight:.2f}",
                lr=f"{lr:.4f}",
            )
    outputs, shown, sums, hits = map(processes.total, (outputs, shown, sums, hits))
    supervised = sums[0].item() / known
    unsupervised = sums[1].item() / sum(map(len, batches))
    loss = supervised + weight / share * unsupervised
    record = {
        "epoch": epoch + 1,
        "lr": lr,
        "unsupervised_weight": weight,
        "loss": loss,
        "supervised_loss": supervised,
        "unsupervised_loss": unsupervised,
        "accuracy": hits.item() / known,
    }
    return record, outputs / shown
