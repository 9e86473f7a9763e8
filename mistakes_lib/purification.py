"""Move features to where the density is higher, and see whether predictions get better (App. B)."""

import itertools
import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.support.checks import as_labels, as_matrix, check_positive
from mistakes_lib.support.devices import resolve_device

__all__ = [
    "DivergenceError",
    "PurificationEffect",
    "purification_effect",
    "purification_grid",
    "purification_objective",
    "purify",
]


class DivergenceError(ValueError):
    """Gradient steps were so large that features overflowed.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> density = DiagonalGMM(1).fit([[-1.0], [1.0]])
        >>> purify([[4.0]], density, nu=0.0, lr=1e9, device="cpu")
        Traceback (most recent call last):
            ...
        mistakes_lib.purification.DivergenceError: purification diverged at lr=1000000000.0: ...
    """


def purify(features, density, *, nu, lr, steps=100, batch_size=2048, device="auto"):
    """Move features F downhill on BPD(F) + ν‖F − F_ref‖², starting from F = F_ref (Appendix B.1).

    BPD(F) = −log p(F) / (d ln 2) is in bits per dimension; the squared distance is summed over the
    d dimensions; every row has its own objective. The paper takes plain gradient steps, which blow
    up as soon as lr · ν > 1. We take the density's part as such a step and solve the quadratic part
    exactly (a proximal gradient step):

        F ← F_ref + (F − lr ∇BPD(F) − F_ref) / (1 + 2 lr ν)

    This equals the paper's step up to O(lr²), has the same stationary points, and is stable for any
    ν: ν = 0 is plain gradient descent, ν → ∞ leaves F where it was.

    Args:
        features: F_ref, (n, d).
        density: a fitted density with a differentiable ``log_prob(x) -> (n,)`` in nats, such as
            :class:`~mistakes_lib.density.DiagonalGMM`.
        nu: ν ≥ 0, how strongly F is held at F_ref.
        lr: step size above 0. The gradient of BPD carries a factor 1 / (d ln 2), so useful step
            sizes grow with d; for a diagonal GMM the objective cannot rise while lr is at most
            d ln 2 times the smallest variance.
        steps: number of steps; 0 returns the features.
        batch_size: rows a step; it does not change the result beyond rounding.
        device: "auto", "cpu", "cuda", …

    Returns:
        (n, d), purified features; float32 for float32 features, else float64. Computed so as well.

    Raises:
        ValueError: negative ``nu``, ``lr`` not above 0, or other columns than the density's.
        DivergenceError: a step so large that features overflowed.
        TypeError: the density has no ``log_prob``, or ``steps`` is no whole number.
        sklearn.exceptions.NotFittedError: the density is not fitted.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> blob = np.random.default_rng(0).normal(size=(500, 2))
        >>> density = DiagonalGMM(1).fit(blob)
        >>> purify([[4.0, -4.0]], density, nu=0.0, lr=0.5, device="cpu").round() + 0.0
        array([[0., 0.]])
    """
    reference = _as_features(features, density)
    _check_nu(nu)
    check_positive(lr, "lr")
    check_scalar(steps, "steps", Integral, min_val=0)
    check_scalar(batch_size, "batch_size", Integral, min_val=1)
    device = resolve_device(device)
    pull = 2.0 * lr * nu
    kept = 1.0 / (1.0 + pull)  # share of each step that the quadratic part lets through

    purified = torch.empty_like(reference)  # (n, d)
    for start in range(0, len(reference), batch_size):
        rows = slice(start, start + batch_size)
        origin = reference[rows].to(device)  # (b, d)
        moved = origin
        for _ in range(steps):
            moved = torch.lerp(origin, moved - lr * _bpd_gradient(moved, density), kept)
        purified[rows] = moved.cpu()
    if not torch.isfinite(purified).all():
        raise DivergenceError(f"purification diverged at lr={lr}: use a smaller lr")
    return purified.numpy()


def purification_objective(features, reference, density, *, nu):
    """BPD(F) + ν‖F − F_ref‖² of every row (Appendix B.1).

    Args:
        features: F, (n, d).
        reference: F_ref, (n, d).
        density: a fitted density, see :func:`purify`.
        nu: ν ≥ 0.

    Returns:
        float64 (n,).

    Raises:
        ValueError, TypeError, sklearn.exceptions.NotFittedError: as :func:`purify`.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> density = DiagonalGMM(1).fit([[-1.0], [1.0]])  # N(0, 1)
        >>> purification_objective([[0.0]], [[3.0]], density, nu=2.0).round(3)
        array([19.326])
    """
    _check_nu(nu)
    features = _as_features(features, density).double()
    reference = _as_features(reference, density).double()
    if features.shape != reference.shape:
        raise ValueError(
            f"features and reference must have the same shape, "
            f"got {tuple(features.shape)} and {tuple(reference.shape)}"
        )
    with torch.no_grad():
        distance = (features - reference).square().sum(dim=1)  # (n,)
        return (_bits_per_dim(features, density) + nu * distance).numpy()


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
        purified: what :func:`purify` made of them, (n, d).
        labels: true classes, int (n,).
        head: the classifier's last layer, ``nn.Linear(d, c)``.

    Returns:
        PurificationEffect.

    Raises:
        ValueError: shapes disagree or a label is out of range.

    Example:
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

    Args:
        batch: FeatureSet with labels, of the validation split: settings are not chosen on test.
        densities: dict of name → fitted density.
        head: the classifier's last layer, ``nn.Linear(d, c)``.
        learning_rates: step sizes to try.
        strengths: values of ν to try.
        steps: gradient steps of each purification.

    Returns:
        DataFrame with one row a setting (index: density, lr, nu) and the columns accuracy, gain
        (percentage points), corrected, broken: NaN where the steps were so large that the features
        overflowed.

    Raises:
        DivergenceError: they did so under every setting.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> density = DiagonalGMM(1).fit([[1.0], [3.0]])  # N(2, 1)
        >>> head = torch.nn.Linear(1, 2)  # class 1 where the feature is above 0
        >>> _ = head.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]),
        ...                           "bias": torch.zeros(2)})
        >>> mistake = FeatureSet([[-1.0]], [[1.0, -1.0]], [1])
        >>> settings = {"learning_rates": [0.1], "strengths": [0.0, 10.0]}
        >>> purification_grid(mistake, {"GMM": density}, head, **settings).corrected.tolist()
        [1, 0]
    """
    rows = {}
    for name, lr, nu in itertools.product(densities, learning_rates, strengths):
        try:
            purified = purify(batch.features, densities[name], nu=nu, lr=lr, steps=steps)
        except DivergenceError:
            rows[name, lr, nu] = dict.fromkeys(("accuracy", "gain", "corrected", "broken"), np.nan)
            continue
        effect = purification_effect(batch.features, purified, batch.labels, head)
        rows[name, lr, nu] = {
            "accuracy": effect.after,
            "gain": effect.gain,
            "corrected": effect.corrected,
            "broken": effect.broken,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    if table.isna().all(axis=None):
        rate = min(learning_rates)
        raise DivergenceError(f"purification diverged at every lr: use one below {rate}")
    table.index = pd.MultiIndex.from_tuples(table.index, names=["density", "lr", "nu"])
    return table


def _bits_per_dim(features, density):
    return -density.log_prob(features) / (features.shape[1] * math.log(2))


def _bpd_gradient(features, density):
    if hasattr(density, "log_prob_gradient"):
        return density.log_prob_gradient(features) / (-features.shape[1] * math.log(2))
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        # Rows do not interact, so the gradient of the sum holds each row's own gradient.
        return torch.autograd.grad(_bits_per_dim(features, density).sum(), features)[0]


def _as_features(features, density):
    """Return features as a CPU tensor, checked against a fitted density."""
    if not hasattr(density, "log_prob"):
        raise TypeError(
            f"density must have log_prob(x), got {type(density).__name__}: pass a DiagonalGMM"
        )
    check_is_fitted(density, msg="this %(name)s is not fitted yet: call density.fit(features)")
    columns = getattr(density, "n_features_in_", None)
    features = as_matrix(features, "features", columns=columns, dtype=None)
    return torch.tensor(np.ascontiguousarray(features))


def _check_nu(nu):
    if not np.isscalar(nu) or not 0 <= nu < np.inf:
        raise ValueError(f"nu must be a finite number of at least 0, got {nu!r}")
