"""Supervised training as in Appendix C: SGD with Nesterov momentum, resumable to the bit."""

import contextlib
import json
import logging
import math
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from mistakes_lib.support.checks import as_labels, check_ranges
from mistakes_lib.support.progress import progress_bar
from mistakes_lib.support.storage import load_arrays, save_arrays
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.augmentation import augment
from mistakes_lib.training.averaging import WeightAverage

__all__ = ["Recipe", "learning_rate", "train"]

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("step", "one_cycle")


@dataclass(frozen=True)
class Recipe:
    """How to train: the defaults are Appendix C's DenseNet recipe as printed.

    Args:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: peak learning rate.
        schedule: "step" multiplies ``lr`` with ``lr_factor`` at each of ``milestones``;
            "one_cycle" rises linearly over the first ``warmup`` share of all steps, then falls to
            0 along a half cosine.
        cycles: how often "one_cycle" does so, in equal parts of the steps; more than one are warm
            restarts (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983).
        milestones: epochs at which "step" multiplies.
        lr_factor: what it multiplies with, in (0, 1].
        warmup: share of steps in [0, 1) that "one_cycle" rises.
        momentum: Nesterov momentum.
        weight_decay: L2 regularisation weight.
        ema_decay: keep, and validate, an exponential moving average of weights and
            batch-normalisation statistics with this decay a step, see
            :class:`~mistakes_lib.training.averaging.WeightAverage`; 0 keeps the last weights.
        max_shift: largest random translation in pixels.
        flip: mirror at random.
        resolutions: pairs (epochs, pixels): in the first so many epochs images are shrunk to that
            edge, then those of the next pair, and at last they have their own size. Smaller images
            cost less, by the square of the edge (progressive resizing, Howard et al. 2018,
            https://arxiv.org/abs/1806.01427).
        precision: "float32" or "bfloat16" (autocast).
        compile: let ``torch.compile`` fuse the network; pays from some minutes of training on.

    Raises:
        ValueError: a value outside its range (the field is named).

    Example:
        >>> Recipe(epochs=30, schedule="one_cycle").settings()["schedule"]
        'one cycle, rising for 25% of the steps'
    """

    epochs: int = 300
    batch_size: int = 64
    lr: float = 0.1
    schedule: str = "step"
    milestones: tuple = (150, 175)
    lr_factor: float = 0.1
    cycles: int = 1
    warmup: float = 0.25
    momentum: float = 0.9
    weight_decay: float = 1e-4
    ema_decay: float = 0.0
    max_shift: int = 2
    flip: bool = True
    resolutions: tuple = ()
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self):
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "resolutions", tuple(tuple(pair) for pair in self.resolutions))
        conditions = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,
            "lr": self.lr > 0,
            "lr_factor": 0 < self.lr_factor <= 1,
            "cycles": 1 <= self.cycles <= max(self.epochs, 1),
            "warmup": 0 <= self.warmup < 1,
            "momentum": 0 < self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "ema_decay": 0 <= self.ema_decay < 1,
            "max_shift": self.max_shift >= 0,
            "resolutions": all(len(p) == 2 and min(p) >= 1 for p in self.resolutions)
            and sum(epochs for epochs, _ in self.resolutions) < self.epochs,
            "schedule": self.schedule in SCHEDULES,
            "precision": self.precision in PRECISIONS,
        }
        check_ranges(self, "recipe", conditions)

    def settings(self):
        """Name → value, as Appendix C's list has it."""
        times = "one cycle" if self.cycles == 1 else f"{self.cycles} cycles"
        schedule = f"{times}, rising for {self.warmup:.0%} of the steps"
        if self.schedule == "step":
            epochs = ", ".join(map(str, self.milestones))
            schedule = f"÷ {1 / self.lr_factor:g} at epochs {epochs}" if epochs else "constant"
        return {
            "epochs": self.epochs,
            "batch size": self.batch_size,
            "peak learning rate": self.lr,
            "schedule": schedule,
            "momentum (Nesterov)": self.momentum,
            "L2 weight": self.weight_decay,
            "averaging of weights (decay)": self.ema_decay or "none",
            "largest translation (pixels)": self.max_shift,
            "mirroring": "yes" if self.flip else "no",
            "image size": _sizes(self.resolutions),
            "precision": self.precision,
        }

    def edge(self, epoch):
        """Pixels of the images' edge in an epoch (from 0); None for their own size.

        Example:
            >>> recipe = Recipe(epochs=6, resolutions=[(2, 16), (1, 24)])
            >>> [recipe.edge(epoch) for epoch in range(5)]
            [16, 16, 24, None, None]
        """
        for epochs, edge in self.resolutions:
            if epoch < epochs:
                return edge
            epoch -= epochs
        return None

    def shortened(self, epochs):
        """The same recipe in another number of epochs, with its milestones in proportion.

        Example:
            >>> Recipe().shortened(30).milestones
            (15, 18)
        """
        stretch = epochs / self.epochs
        milestones = tuple(round(milestone * stretch) for milestone in self.milestones)
        cycles = max(1, min(self.cycles, epochs))
        parts = [(round(part * stretch), edge) for part, edge in self.resolutions]
        resolutions = tuple(pair for pair in parts if pair[0])
        if sum(part for part, _ in resolutions) >= epochs:
            resolutions = ()  # so short that none would be left for the images' own size
        return replace(
            self, epochs=epochs, milestones=milestones, cycles=cycles, resolutions=resolutions
        )


def _sizes(resolutions):
    parts = [f"{edge} px for {epochs} epochs" for epochs, edge in resolutions]
    return ", ".join([*parts, "then their own"]) if parts else "their own"


def learning_rate(recipe, step, steps_per_epoch):
    """Learning rate at optimiser step ``step`` (from 0), a pure function of the recipe.

    Example:
        >>> [round(learning_rate(Recipe(), e * 704, 704), 4) for e in (0, 149, 150, 175)]
        [0.1, 0.1, 0.01, 0.001]
    """
    if recipe.schedule == "step":
        epoch = step // steps_per_epoch
        passed = sum(epoch >= milestone for milestone in recipe.milestones)
        return recipe.lr * recipe.lr_factor**passed
    total = recipe.epochs * steps_per_epoch / recipe.cycles
    step %= total
    rise = recipe.warmup * total
    if step < rise:
        return recipe.lr * (step + 1) / (rise + 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))


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
        recipe: :class:`Recipe`.
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
    return run_epochs(
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


def run_epochs(
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
    """Resume from the checkpoint, run the epochs that are left, and return all their records.

    Args:
        one_epoch: called with ``epoch`` (from 0) and the progress ``bar``; returns a record.
        classifier: the network in training; evaluated and contiguous in the end.
        optimizer: its SGD.
        recipe: :class:`Recipe`.
        signature: see :func:`signature_of`.
        steps: batches an epoch.
        validation: (images, labels) on the device, or None.
        checkpoint: safetensors file, or None.
        device: torch.device.
        progress: show a bar.
        state: dict of name → tensor: what else a checkpoint holds, restored in place.
    """
    state, average = dict(state or {}), None
    if recipe.ema_decay:
        average = WeightAverage(classifier, recipe.ema_decay)
        optimizer.register_step_post_hook(lambda *_: average.update())
        state |= {f"average.{name}": value for name, value in average.values.items()}
    history = load_checkpoint(checkpoint, classifier, optimizer, signature, state)
    check_common_start(len(history), device)
    progress = progress and processes.is_main()
    with own_random_state(device):
        for epoch in range(len(history), recipe.epochs):
            started = time.monotonic()
            place = f"epoch {epoch + 1}/{recipe.epochs}"
            with progress_bar(total=steps, desc=place, shown=progress) as bar:
                record = one_epoch(epoch=epoch, bar=bar)
                if validation is not None:
                    with average.applied() if average else contextlib.nullcontext():
                        accuracy = measure_accuracy(
                            classifier, *validation, recipe, edge=recipe.edge(epoch)
                        )
                    record["validation_accuracy"] = accuracy
                    bar.set_postfix(bar_fields(record))
            history.append({**record, "seconds": round(time.monotonic() - started, 2)})
            if processes.is_main():
                numbers = ", ".join(f"{k} {v}" for k, v in bar_fields(record).items())
                logger.info("%s: %s", place, numbers)
            if checkpoint is not None and processes.is_main():
                save_checkpoint(checkpoint, classifier, optimizer, signature, state, history)
    if average:
        average.apply()
    classifier.to(memory_format=torch.contiguous_format).eval()
    return history


def check_common_start(epochs_done, device):
    """Raise RuntimeError if some processes read a checkpoint that others do not see."""
    mean = processes.total(torch.tensor(float(epochs_done), device=device)) / processes.count()
    if mean.item() != epochs_done:
        raise RuntimeError(
            "the processes do not read the same checkpoint: "
            "let the folder of runs lie on a disk that all of them share"
        )


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
    check_finite(loss, epoch)
    return {"epoch": epoch + 1, "lr": lr, "loss": loss, "accuracy": accuracy}


def epoch_generator(seed, epoch, device):
    """Seed dropout, and return the generator of an epoch's other draws: all from (seed, epoch)."""
    own, *_ = np.random.SeedSequence([seed, epoch, processes.rank()]).generate_state(1)
    torch.manual_seed(int(own))  # dropout: another in each process
    common, *_ = np.random.SeedSequence([seed, epoch]).generate_state(1)
    return torch.Generator(device).manual_seed(int(common))


def set_learning_rate(optimizer, lr):
    """Let the optimiser's next step take this rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def check_finite(loss, epoch):
    """Raise ValueError if a training diverged in this epoch (from 0)."""
    if not math.isfinite(loss):
        raise ValueError(f"the loss became {loss} in epoch {epoch + 1}: lower the learning rate")


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


def own_random_state(device):
    """Leave the caller's random number generators as they were."""
    cuda = [device] if device.type == "cuda" else []
    return torch.random.fork_rng(devices=cuda)


def signature_of(recipe, seed, classifier, **others):
    """What must agree before a checkpoint may be resumed, as JSON."""
    own = {"recipe": asdict(recipe), "seed": int(seed), "architecture": classifier.architecture}
    return json.dumps(own | others, sort_keys=True)


def save_checkpoint(path, classifier, optimizer, signature, state, history):
    """Write weights, momentum, ``state`` (dict of name → tensor) and the epochs' records."""
    arrays = {f"weights.{k}": v.cpu().numpy() for k, v in classifier.state_dict().items()}
    for name, parameter in classifier.named_parameters():
        if parameter in optimizer.state:  # a frozen one has no momentum
            momentum = optimizer.state[parameter]["momentum_buffer"]
            arrays[f"momentum.{name}"] = momentum.cpu().numpy()
    arrays |= {f"state.{name}": tensor.cpu().numpy() for name, tensor in state.items()}
    save_arrays(path, arrays, {"signature": signature, "history": history})


def load_checkpoint(path, classifier, optimizer, signature, state):
    """Load a checkpoint into network, optimiser and ``state``; return the epochs' records so far.

    Raises:
        ValueError: the checkpoint has another signature.
    """
    if path is None or not Path(path).exists():
        return []
    arrays, metadata = load_arrays(path)
    if metadata.get("signature") != signature:
        *most, last = sorted(json.loads(signature))
        raise ValueError(
            f"{path} is the checkpoint of another training ({', '.join(most)} or {last} differ): "
            "delete it or choose another folder"
        )
    part = partial(_part, arrays)
    classifier.load_state_dict(part("weights."))
    momentum = part("momentum.")
    for name, parameter in classifier.named_parameters():
        if name in momentum:
            buffer = torch.empty_like(parameter).copy_(momentum[name])
            optimizer.state[parameter]["momentum_buffer"] = buffer
    for name, tensor in part("state.").items():
        state[name].copy_(tensor)
    return metadata["history"]


def _part(arrays, prefix):
    return {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
