"""Semi-supervised training by Temporal Ensembling (Laine & Aila 2016), as in Appendix C."""

import hashlib
import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional as F

from mistakes_lib.support.checks import as_labels, check_ranges
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.augmentation import augment
from mistakes_lib.training.supervised import (
    as_input,
    autocast,
    check_finite,
    compiled,
    epoch_generator,
    learning_rate,
    on_device,
    run_epochs,
    set_learning_rate,
    sgd,
    signature_of,
)

__all__ = [
    "TemporalEnsembling",
    "choose_labelled",
    "ensemble_targets",
    "learning_rate_factor",
    "train_temporal_ensembling",
    "unsupervised_weight",
    "update_ensemble",
]

UNLABELLED = -100  # the label that F.cross_entropy passes over


@dataclass(frozen=True)
class TemporalEnsembling:
    """What Temporal Ensembling adds to a :class:`~mistakes_lib.training.supervised.Recipe`.

    The defaults are Laine & Aila's (2016, https://arxiv.org/abs/1610.02242, appendix A), with
    the maximum weight of our Appendix C, which is also theirs for CIFAR-100.

    Args:
        max_weight: largest weight w_max of the unsupervised loss.
        momentum: α in [0, 1), share of an ensemble prediction that an epoch leaves in place.
        ramp_up: epochs until the unsupervised weight is w_max.
        ramp_down: epochs at the end over which the learning rate falls to almost 0.
        ramp_up_lr: let the learning rate rise along with the unsupervised weight, as they do.

    A training with fewer epochs than both ramps together shortens both in proportion.

    Raises:
        ValueError: a value outside its range (the field is named).

    Example:
        >>> TemporalEnsembling(max_weight=30, ramp_up=10).ramps(100)
        (10.0, 50.0)
    """

    max_weight: float = 100.0
    momentum: float = 0.6
    ramp_up: float = 80
    ramp_down: float = 50
    ramp_up_lr: bool = True

    def __post_init__(self):
        conditions = {
            "max_weight": 0 <= self.max_weight < math.inf,
            "momentum": 0 <= self.momentum < 1,
            "ramp_up": 0 <= self.ramp_up < math.inf,
            "ramp_down": 0 <= self.ramp_down < math.inf,
        }
        check_ranges(self, "ensembling", conditions)

    def ramps(self, epochs):
        """Lengths of the ramp-up and the ramp-down in a training of so many epochs.

        Example:
            >>> TemporalEnsembling().ramps(300), TemporalEnsembling().ramps(13)
            ((80.0, 50.0), (8.0, 5.0))
        """
        shrink = min(1.0, epochs / max(self.ramp_up + self.ramp_down, 1))
        return self.ramp_up * shrink, self.ramp_down * shrink


def unsupervised_weight(ensembling, epoch, epochs, labelled_share):
    """Weight w(t) of the unsupervised loss, w_max · M/N · exp(−5 (1 − T)²).

    T rises from 0 to 1 over the ramp-up. In the first epoch there are no targets yet and the
    weight is 0.

    Args:
        ensembling: :class:`TemporalEnsembling`.
        epoch: from 0.
        epochs: of the whole training.
        labelled_share: M/N, labelled inputs over all inputs.

    Example:
        >>> [round(unsupervised_weight(TemporalEnsembling(), e, 300, 0.1), 3) for e in (0, 40, 80)]
        [0.0, 2.865, 10.0]
    """
    if epoch == 0:
        return 0.0
    return ensembling.max_weight * labelled_share * _risen(epoch, ensembling.ramps(epochs)[0])


def learning_rate_factor(ensembling, epoch, epochs):
    """What the recipe's learning rate is multiplied with in an epoch.

    It rises as the unsupervised weight does (unless ``ramp_up_lr`` is off) and falls over the
    last epochs as exp(−12.5 t²), with t from 0 towards 1.

    Args:
        ensembling: :class:`TemporalEnsembling`.
        epoch: from 0.
        epochs: of the whole training.

    Example:
        >>> factors = [learning_rate_factor(TemporalEnsembling(), e, 300) for e in (0, 100, 275)]
        >>> [round(factor, 4) for factor in factors]
        [0.0067, 1.0, 0.0439]
    """
    up, down = ensembling.ramps(epochs)
    factor = _risen(epoch, up) if ensembling.ramp_up_lr else 1.0
    left = epochs - epoch  # this epoch included
    if left < down:
        factor *= math.exp(-12.5 * (1 - left / down) ** 2)
    return factor


def _risen(epoch, length):
    """exp(−5 (1 − T)²): what a ramp of this length has reached."""
    return math.exp(-5 * (1 - epoch / length) ** 2) if epoch < length else 1.0


def update_ensemble(ensemble, outputs, momentum):
    """Ensemble predictions Z ← α Z + (1 − α) z after an epoch.

    Args:
        ensemble: Z, (n, c); zeros before the first epoch.
        outputs: the epoch's softmax outputs z, (n, c).
        momentum: α.

    Example:
        >>> update_ensemble(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), 0.6)
        tensor([[0.4000, 0.0000]])
    """
    return momentum * ensemble + (1 - momentum) * outputs


def ensemble_targets(ensemble, updates, momentum):
    """Targets Z / (1 − α^t): Z without its bias towards the zeros that it started from.

    Args:
        ensemble: Z, (n, c).
        updates: t, how often it was updated.
        momentum: α.

    Returns:
        Tensor (n, c): rows that sum to 1, or zeros before the first update.

    Example:
        >>> ensemble_targets(torch.tensor([[0.4, 0.0]]), 1, 0.6)
        tensor([[1., 0.]])
    """
    return ensemble / (1 - momentum**updates) if updates else torch.zeros_like(ensemble)


def choose_labelled(labels, per_class, *, seed=0):
    """Choose at random which images keep their labels: equally many of each class.

    With one seed, the choice of fewer per class is a part of the choice of more.

    Args:
        labels: class labels (n,).
        per_class: labelled images in each class that occurs.
        seed: seed of the choice.

    Returns:
        bool (n,), True where the label is kept.

    Raises:
        ValueError: ``per_class`` is below 1, or a class has fewer images (it is named).

    Example:
        >>> labelled = choose_labelled([0, 1, 1, 0, 1], 2)
        >>> labelled.sum(), labelled[[0, 3]]
        (np.int64(4), array([ True,  True]))
    """
    labels = as_labels(labels, "labels")
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    rng = np.random.default_rng(seed)
    labelled = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < per_class:
            raise ValueError(
                f"class {label} has {len(rows)} images, fewer than per_class = {per_class}"
            )
        labelled[rng.permutation(rows)[:per_class]] = True
    return labelled


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
    targets z̃ (:func:`ensemble_targets`), a batch B has the loss of Laine & Aila
    (2016, https://arxiv.org/abs/1610.02242, algorithm 2) divided by M/N::

        N/M · ( Σ_{i ∈ B, labelled} −log z_i[y_i] / |B| + w(t) · Σ_{i ∈ B} ‖z_i − z̃_i‖² / (c |B|) )

    Where the sources leave a choice:

    - The original trains with Adam, to which a constant factor of the loss makes no difference;
      Appendix C names no other optimiser than SGD. To SGD it does: without N/M, learning rate
      and weight decay would mean other things for each share of labels. With it, the supervised
      part is in expectation the mean cross-entropy of the labelled images, as in
      :func:`~mistakes_lib.training.supervised.train`.
    - The recipe's own schedule is multiplied with :func:`learning_rate_factor`. The original's
      rate is constant between the ramps: ``Recipe(schedule="step", milestones=())``. It also
      moves Adam's β1 to 0.5 along the ramp-down; SGD's momentum stays as it is.
    - Appendix C says "maximum weight decay of 100"; we take it for the maximum weight w_max of
      the unsupervised loss. It names no epochs, ramps or α: they are the original's.

    Checkpoints, resume and random draws are those of ``train``; the ensemble predictions are a
    part of the checkpoint.

    Args:
        classifier: a :class:`~mistakes_lib.classifiers.FeatureClassifier`.
        images: uint8 (n, 3, h, w), 0…255.
        labels: int64 (n,); where ``labelled`` is False they play no part and may be −1.
        labelled: bool (n,), True where the label may be used; see :func:`choose_labelled`.
        recipe: :class:`~mistakes_lib.training.supervised.Recipe` of optimiser and augmentation.
        ensembling: :class:`TemporalEnsembling`, by default with its defaults.
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
            class without labelled images, or a checkpoint of another training.

    Example:
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> from mistakes_lib.training.supervised import Recipe
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
            forward,
            optimizer,
            images,
            labels,
            targets,
            recipe,
            ensembling,
            epoch=epoch,
            seed=seed,
            bar=bar,
        )
        ensemble.copy_(update_ensemble(ensemble, outputs, ensembling.momentum))
        return record

    return run_epochs(
        one_epoch,
        classifier,
        optimizer,
        recipe,
        signature=signature,
        steps=math.ceil(len(images) / recipe.batch_size),
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


def _epoch(forward, optimizer, images, labels, targets, recipe, ensembling, *, epoch, seed, bar):
    """One pass over the images: its record, and the softmax output (n, c) that each image got."""
    generator = epoch_generator(seed, epoch, images.device)
    order = torch.randperm(len(images), generator=generator, device=images.device)
    forward.train()
    known = int((labels != UNLABELLED).sum())
    share = known / len(images)  # M/N
    weight = unsupervised_weight(ensembling, epoch, recipe.epochs, share)
    factor = learning_rate_factor(ensembling, epoch, recipe.epochs)
    outputs = torch.zeros_like(targets)  # of this process's images
    sums = torch.zeros(2, device=images.device, dtype=torch.float64)
    hits = torch.zeros((), device=images.device, dtype=torch.int64)
    batches = order.split(recipe.batch_size)
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
            part = (supervised + weight * unsupervised) / share
            loss = part * processes.count() / len(rows)  # gradients are averaged over processes
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        outputs[mine] = z.detach()
        parts = torch.stack([supervised, unsupervised]).detach()
        sums += parts
        hits += (logits.argmax(1) == labels[mine]).sum()
        bar.update()
        if bar.n % 20 == 0:
            bar.set_postfix(
                supervised=f"{parts[0].item() / (share * max(len(mine), 1)):.4f}",
                unsupervised=f"{parts[1].item() / max(len(mine), 1):.4f}",
                weight=f"{weight:.2f}",
                lr=f"{lr:.4f}",
            )
    outputs, sums, hits = map(processes.total, (outputs, sums, hits))
    supervised, unsupervised = sums[0].item() / known, sums[1].item() / len(images)
    loss = supervised + weight / share * unsupervised
    check_finite(loss, epoch)
    record = {
        "epoch": epoch + 1,
        "lr": lr,
        "unsupervised_weight": weight,
        "loss": loss,
        "supervised_loss": supervised,
        "unsupervised_loss": unsupervised,
        "accuracy": hits.item() / known,
    }
    return record, outputs
