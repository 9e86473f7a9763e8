"""Move features to where the density is higher, and see whether predictions get better (App. B)."""

import math
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.features import resolve_device
from mistakes_lib.validation import as_matrix, check_positive

__all__ = ["purification_objective", "purify"]


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
        ValueError: negative ``nu``, ``lr`` not above 0, other columns than the density's, or a step
            so large that features overflowed.
        TypeError: the density has no ``log_prob``, or ``steps`` is no whole number.
        sklearn.exceptions.NotFittedError: the density is not fitted.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> blob = np.random.default_rng(0).normal(size=(500, 2))
        >>> density = DiagonalGMM(1).fit(blob)
        >>> purify([[4.0, -4.0]], density, nu=0.0, lr=0.5, device="cpu").round(1) + 0.0
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
        raise ValueError(f"purification diverged at lr={lr}: use a smaller lr")
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
        array([19.325])
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


def _bits_per_dim(features, density):
    return -density.log_prob(features) / (features.shape[1] * math.log(2))


def _bpd_gradient(features, density):
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
