"""How a network is trained: a recipe, whose defaults are Appendix C's, and its learning rates."""

import math
from dataclasses import replace

from mistakes_lib.support.settings import (
    FLAG,
    SettingsError,
    number,
    one_of,
    settings,
    several,
    whole,
)

__all__ = ["Recipe", "learning_rate"]


@settings("recipe")
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
            batch-normalisation statistics with this decay α a step, a ← α a + (1 − α) v from the
            values at the start (Polyak & Juditsky 1992; Izmailov et al. 2018,
            https://arxiv.org/abs/1803.05407); 0 keeps the last weights.
        max_shift: largest random translation in pixels.
        flip: mirror at random.
        resolutions: pairs (epochs, pixels): in the first so many epochs images are shrunk to that
            edge, then those of the next pair, and at last they have their own size. Smaller images
            cost less, by the square of the edge (progressive resizing, Howard et al. 2018,
            https://arxiv.org/abs/1806.01427).
        precision: "float32" or "bfloat16" (autocast).
        compile: let ``torch.compile`` fuse the network; pays from some minutes of training on.

    Raises:
        ValueError: a value of a wrong type or outside its range, or an unknown name; each is said
            in a line of its own, the field named.

    Example:
        >>> Recipe(epochs=30, schedule="one_cycle").settings()["schedule"]
        'one cycle, rising for 25% of the steps'
    """

    epochs: whole(1) = 300
    batch_size: whole(2) = 64
    lr: number(gt=0) = 0.1
    schedule: one_of("step", "one_cycle") = "step"
    milestones: several(whole(0)) = (150, 175)
    lr_factor: number(gt=0, le=1) = 0.1
    cycles: whole(1) = 1
    warmup: number(ge=0, lt=1) = 0.25
    momentum: number(gt=0, lt=1) = 0.9
    weight_decay: number(ge=0) = 1e-4
    ema_decay: number(ge=0, lt=1) = 0.0
    max_shift: whole(0) = 2
    flip: FLAG = True
    resolutions: several(several(whole(1), count=2)) = ()
    precision: one_of("float32", "bfloat16") = "float32"
    compile: FLAG = False

    def __post_init__(self):
        problems = []
        if self.cycles > self.epochs:
            text = f"must be at most the {self.epochs} epochs, got {self.cycles}"
            problems.append((("cycles",), text))
        shrunk = sum(epochs for epochs, _ in self.resolutions)
        if shrunk >= self.epochs:
            text = f"must leave one of {self.epochs} epochs for the images' own size, got {shrunk}"
            problems.append((("resolutions",), text))
        if problems:
            raise SettingsError(problems)

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
