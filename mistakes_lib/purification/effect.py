"""What purification does to predictions: Table 4, and the path over ν (App. B)."""

import contextlib
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mistakes_lib.purification.steps import DivergenceError, purification_objective, purify
from mistakes_lib.support.checks import as_labels, as_matrix

__all__ = [
    "PurificationEffect",
    "chosen_purification",
    "purification_effect",
    "purification_grid",
    "purification_path",
]

MONOTONE = "monotone"  # in the place of a learning rate
ROUNDING = 1e-5  # relative rise of the objective that float32 makes by itself


@dataclass(frozen=True)
class PurificationEffect:
    """What purification did to predictions (Table 4).

    Attributes:
        before: accuracy of the network's head on the original features.
        after: accuracy of the head on the purified features.
        corrected: number of mistakes that became right.
        broken: number of right predictions that became mistakes.
        p_value: exact McNemar test of "a changed verdict is as likely mended as broken".

    Example:
        >>> effect = PurificationEffect(0.90, 0.92, corrected=3, broken=1, p_value=0.625)
        >>> round(effect.gain, 1)
        2.0
    """

    before: float
    after: float
    corrected: int
    broken: int
    p_value: float

    @property
    def gain(self):
        """Change of accuracy in percentage points."""
        return 100 * (self.after - self.before)


def purification_effect(features, purified, labels, head):
    """Compare the head's predictions before and after purification (Table 4).

    Args:
        features: F_ref, (n, d).
        purified: what :func:`~mistakes_lib.purification.steps.purify` made of them, (n, d).
        labels: true classes, int (n,).
        head: the classifier's last layer, ``nn.Linear(d, c)``.

    Returns:
        PurificationEffect.

    Raises:
        ValueError: shapes disagree or a label is out of range.

    Example:
        >>> import torch
        >>> head = torch.nn.Linear(1, 2)
        >>> _ = head.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]),
        ...                           "bias": torch.zeros(2)})
        >>> effect = purification_effect([[-1.0], [2.0], [3.0]], [[1.0], [2.0], [-3.0]],
        ...                              [1, 1, 1], head)
        >>> effect.corrected, effect.broken, effect.gain
        (1, 1, 0.0)
    """
    weight = head.weight.detach().double().cpu().numpy()
    bias = head.bias.detach().double().cpu().numpy()
    features = as_matrix(features, "features", columns=weight.shape[1])
    purified = as_matrix(purified, "purified", columns=weight.shape[1])
    if len(features) != len(purified):
        raise ValueError(f"features has {len(features)} rows, but purified has {len(purified)}")
    labels = as_labels(labels, "labels", length=len(features), num_classes=len(bias))
    right_before, right_after = (
        (values @ weight.T + bias).argmax(axis=1) == labels for values in (features, purified)
    )
    corrected = int((right_after & ~right_before).sum())
    broken = int((right_before & ~right_after).sum())
    changed = corrected + broken
    p_value = float(binomtest(corrected, changed).pvalue) if changed else 1.0
    before, after = float(right_before.mean()), float(right_after.mean())
    return PurificationEffect(before, after, corrected, broken, p_value)


def purification_grid(batch, densities, head, *, learning_rates, strengths, steps=100):
    """Purify one split under every setting and count what changes (Table 4).

    A setting is *void* if the objective of any input rose, beyond rounding: there descent did not
    descend, and what became of the predictions says nothing about purification.

    Args:
        batch: FeatureSet with labels, of the validation split: settings are not chosen on test.
        densities: dict of name → fitted density.
        head: the classifier's last layer, ``nn.Linear(d, c)``.
        learning_rates: step sizes to try; None is the step that needs none, "monotone" in the
            table.
        strengths: values of ν to try.
        steps: steps of each purification.

    Returns:
        DataFrame with one row a setting, indexed by (density, lr, nu), and the columns accuracy,
        gain (percentage points), corrected, broken: NaN in void settings; rose, the share of inputs
        whose objective rose (1 where features overflowed), and void.

    Raises:
        DivergenceError: every setting is void.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> density = DiagonalGMM(1).fit([[1.0], [3.0]])  # N(2, 1)
        >>> import torch
        >>> head = torch.nn.Linear(1, 2)  # class 1 where the feature is above 0
        >>> _ = head.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]),
        ...                           "bias": torch.zeros(2)})
        >>> mistake = FeatureSet([[-1.0]], [[1.0, -1.0]], [1])
        >>> settings = {"learning_rates": [0.1, 5.0], "strengths": [0.0, 10.0]}
        >>> grid = purification_grid(mistake, {"GMM": density}, head, **settings)
        >>> grid["void"].tolist(), grid["corrected"].tolist()
        ([False, False, True, False], [1.0, 0.0, nan, 0.0])
    """
    rows = {}
    for name, lr, nu in itertools.product(densities, learning_rates, strengths):
        row = dict.fromkeys(("accuracy", "gain", "corrected", "broken"), np.nan)
        density, rose = densities[name], 1.0
        with contextlib.suppress(DivergenceError):
            purified = purify(batch.features, density, nu=nu, lr=lr, steps=steps)
            rose = float(_rose(purified, batch.features, density, nu).mean())
        if rose == 0:
            effect = purification_effect(batch.features, purified, batch.labels, head)
            row = _changes(effect)
        rows[name, MONOTONE if lr is None else lr, nu] = row | {"rose": rose, "void": rose > 0}
    table = pd.DataFrame.from_dict(rows, orient="index")
    if table["void"].all():
        rate = min(rate for rate in learning_rates if rate is not None)
        raise DivergenceError(
            f"the objective rose at every lr: use one below {rate}, or None for the step that "
            "never raises it"
        )
    table.index = pd.MultiIndex.from_tuples(table.index, names=["density", "lr", "nu"])
    return table


def purification_path(splits, density, head, *, strengths, steps=100):
    """What happens to features and predictions as ν falls, by the monotone step (Appendix B).

    Args:
        splits: dict of name → FeatureSet with labels, such as validation and test.
        density: a fitted mixture, see :func:`~mistakes_lib.purification.steps.purify`.
        head: the classifier's last layer, ``nn.Linear(d, c)``.
        strengths: values of ν; the largest comes first in the table.
        steps: steps of each purification at most.

    Returns:
        DataFrame with one row a split and ν, indexed by (split, nu), and the columns "bits gained"
        (mean fall of BPD, bits per dimension), "likelier" (share of the inputs whose likelihood
        rose), accuracy, gain (percentage points), corrected, broken and p_value (McNemar's exact
        test).

    Raises:
        ValueError: there is no split, or as :func:`~mistakes_lib.purification.steps.purify`.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> density = DiagonalGMM(1).fit([[1.0], [3.0]])  # N(2, 1)
        >>> import torch
        >>> head = torch.nn.Linear(1, 2)  # class 1 where the feature is above 0
        >>> _ = head.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]),
        ...                           "bias": torch.zeros(2)})
        >>> both = FeatureSet([[-1.0], [-2.0]], [[1.0, -1.0], [2.0, -2.0]], [1, 0])
        >>> path = purification_path({"test": both}, density, head, strengths=[0, 100])
        >>> path["broken"].to_dict()
        {('test', 100): 0, ('test', 0): 1}
    """
    if not splits:
        raise ValueError("splits is empty: pass at least one FeatureSet with labels")
    rows = {}
    for name, batch in splits.items():
        before = purification_objective(batch.features, batch.features, density, nu=0)
        for nu in sorted(strengths, reverse=True):
            purified = purify(batch.features, density, nu=nu, steps=steps)
            after = purification_objective(purified, purified, density, nu=0)
            effect = purification_effect(batch.features, purified, batch.labels, head)
            rows[name, nu] = {
                "bits gained": float((before - after).mean()),
                "likelier": float((after < before).mean()),
                **_changes(effect),
                "p_value": effect.p_value,
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["split", "nu"])
    return table


def chosen_purification(validation, test, density, head, *, strengths, steps=100):
    """Purify test features with the strength that is best on validation features (Appendix B).

    Args:
        validation: FeatureSet with labels, on which ν is chosen: of equally good ones the largest.
        test: FeatureSet with labels.
        density: a fitted mixture, see :func:`~mistakes_lib.purification.steps.purify`.
        head: the classifier's last layer, ``nn.Linear(d, c)``.
        strengths: values of ν to try.
        steps: steps of each purification at most.

    Returns:
        The chosen ν, and the :class:`PurificationEffect` on the test features.

    Raises:
        ValueError: no strength, or as :func:`~mistakes_lib.purification.steps.purify`.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> density = DiagonalGMM(1).fit([[1.0], [3.0]])  # N(2, 1)
        >>> import torch
        >>> head = torch.nn.Linear(1, 2)  # class 1 where the feature is above 0
        >>> _ = head.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]),
        ...                           "bias": torch.zeros(2)})
        >>> mistake = FeatureSet([[-1.0]], [[1.0, -1.0]], [1])
        >>> nu, effect = chosen_purification(mistake, mistake, density, head, strengths=[0, 100])
        >>> nu, effect.corrected
        (0.0, 1)
    """
    if not len(strengths):
        raise ValueError("strengths is empty: pass at least one ν")
    splits = {"validation": validation}
    path = purification_path(splits, density, head, strengths=strengths, steps=steps)
    _, nu = path["accuracy"].idxmax()
    purified = purify(test.features, density, nu=nu, steps=steps)
    return float(nu), purification_effect(test.features, purified, test.labels, head)


def _changes(effect):
    """The columns that tables of settings and of strengths share."""
    return {
        "accuracy": effect.after,
        "gain": effect.gain,
        "corrected": effect.corrected,
        "broken": effect.broken,
    }


def _rose(purified, reference, density, nu):
    """Whose objective is higher than at the start, bool (n,)."""
    start, end = (
        purification_objective(features, reference, density, nu=nu)
        for features in (reference, purified)
    )
    return ~(end <= start + ROUNDING * np.maximum(np.abs(start), 1))
