"""What Temporal Ensembling is made of: ramps, ensemble predictions, the choice of labels."""

import math

import numpy as np
import torch

from mistakes_lib.support.checks import as_labels
from mistakes_lib.support.settings import FLAG, number, settings

__all__ = [
    "TemporalEnsembling",
    "choose_labelled",
    "ensemble_targets",
    "learning_rate_factor",
    "unsupervised_weight",
    "update_ensemble",
]


@settings("ensembling")
class TemporalEnsembling:
    """What Temporal Ensembling adds to a :class:`~mistakes_lib.training.recipe.Recipe`.

    The defaults are Laine & Aila's (2016, https://arxiv.org/abs/1610.02242, appendix A), with
    the maximum weight of our Appendix C, which is also theirs for CIFAR-100.

    Args:
        max_weight: largest weight w_max of the unsupervised loss.
        momentum: α in [0, 1), share of an ensemble prediction that an epoch leaves in place.
        ramp_up: epochs until the unsupervised weight is w_max.
        ramp_down: epochs at the end over which the learning rate falls to almost 0.
        ramp_up_lr: let the learning rate rise along with the unsupervised weight, as they do.
        labelled_share: share of each batch that has labels. An epoch then shows each image without
            a label once, and the others as often as it takes. None: an epoch shows each image once,
            as theirs does.

    A training with fewer epochs than both ramps together shortens both in proportion.

    Raises:
        ValueError: a value of a wrong type or outside its range, or an unknown name; each is said
            in a line of its own, the field named.

    Example:
        >>> TemporalEnsembling(max_weight=30, ramp_up=10).ramps(100)
        (10.0, 50.0)
    """

    max_weight: number(ge=0) = 100.0
    momentum: number(ge=0, lt=1) = 0.6
    ramp_up: number(ge=0) = 80
    ramp_down: number(ge=0) = 50
    ramp_up_lr: FLAG = True
    labelled_share: number(gt=0, lt=1) | None = None

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
