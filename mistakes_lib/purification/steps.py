"""Move features to where the density is higher: the steps of purification (App. B)."""

import math
from functools import partial
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.support.checks import as_matrix, check_positive
from mistakes_lib.support.devices import resolve_device

__all__ = ["DivergenceError", "purification_objective", "purify", "safe_learning_rate"]


class DivergenceError(ValueError):
    """Gradient steps were so large that features overflowed.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> density = DiagonalGMM(1).fit([[-1.0], [1.0]])
        >>> purify([[4.0]], density, nu=0.0, lr=1e9, device="cpu")
        Traceback (most recent call last):
            ...
        mistakes_lib.purification.steps.DivergenceError: purification diverged at lr=...
    """


def purify(features, density, *, nu, lr=None, steps=100, batch_size=2048, device="auto"):
    """Move features F downhill on BPD(F) + ν‖F − F_ref‖², starting from F = F_ref (Appendix B.1).

    BPD(F) = −log p(F) / (d ln 2) is in bits per dimension; the squared distance is summed over the
    d dimensions; every row has its own objective J.

    **Without a learning rate** (majorise and minimise). With the responsibilities r_k of the
    mixture's components for the present F held fixed, J lies below a quadratic function of F that
    touches it there; the step goes to the minimum of that function, coordinate by coordinate:

        F ← (Σ_k r_k μ_k / σ_k² + 2 ν d ln 2 · F_ref) / (Σ_k r_k / σ_k² + 2 ν d ln 2)

    So J never rises: by Jensen's inequality −log p(G) ≤ −Σ_k r_k log(w_k N(G; μ_k, σ_k²) / r_k) for
    every G, with equality at G = F, and what lowers the right side by some amount lowers J by at
    least that (Hunter & Lange 2004). A point that the step does not move has ∇J = 0.

    **With a learning rate**, the paper's gradient descent. Plain steps blow up once lr · ν > 1.
    We take the density's part as such a step and solve the quadratic part exactly:

        F ← F_ref + (F − lr ∇BPD(F) − F_ref) / (1 + 2 lr ν)

    This equals the paper's step up to O(lr²) and has the same stationary points. J cannot rise
    while lr is at most :func:`safe_learning_rate`; above, it may. With both, ν → ∞ keeps F_ref.

    Args:
        features: F_ref, (n, d).
        density: a fitted density with a differentiable ``log_prob(x) -> (n,)`` in nats; without
            ``lr`` a mixture, :class:`~mistakes_lib.density.DiagonalGMM`.
        nu: ν ≥ 0, how strongly F is held at F_ref.
        lr: step size above 0; None takes the step that needs none.
        steps: number of steps at most; 0 returns the features. Without ``lr``, a row that a step
            moves by no more than rounding (4 units in the last place of its largest feature) rests
            there.
        batch_size: rows a step; it does not change the result beyond rounding.
        device: "auto", "cpu", "cuda", …

    Returns:
        (n, d), purified features; float32 for float32 features, else float64. Computed so as well.

    Raises:
        ValueError: negative ``nu``, ``lr`` not above 0, or other columns than the density's.
        DivergenceError: a learning rate so large that features overflowed.
        TypeError: the density has no ``log_prob``, or is no mixture and there is no ``lr``; or
            ``steps`` is no whole number.
        sklearn.exceptions.NotFittedError: the density is not fitted.

    Source: Hunter & Lange, *A Tutorial on MM Algorithms*, 2004.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> blob = np.random.default_rng(0).normal(size=(500, 2))
        >>> density = DiagonalGMM(1).fit(blob)
        >>> purify([[4.0, -4.0]], density, nu=0.0, device="cpu").round() + 0.0
        array([[0., 0.]])
    """
    reference = _as_features(features, density)
    _check_nu(nu)
    if lr is not None:
        check_positive(lr, "lr")
    check_scalar(steps, "steps", Integral, min_val=0)
    check_scalar(batch_size, "batch_size", Integral, min_val=1)
    device = resolve_device(device)
    if lr is None:
        step = _monotone_step(density, nu, reference.dtype, device)
        rests = 4 * torch.finfo(reference.dtype).eps  # of a row's largest feature
    else:
        gradient = _gradient_of_log_p(density, reference.dtype, device)
        step = partial(_gradient_step, gradient=gradient, nu=nu, lr=lr)
        rests = 0  # small steps add up: only one that changes nothing is followed by no other

    purified = torch.empty_like(reference)  # (n, d)
    for start in range(0, len(reference), batch_size):
        rows = slice(start, start + batch_size)
        origin = reference[rows].to(device)  # (b, d)
        rounding = rests * origin.abs().amax(dim=1, keepdim=True)  # (b, 1)
        purified[rows] = _descend(step, origin, steps, rounding=rounding).cpu()
    if not torch.isfinite(purified).all():
        raise DivergenceError(f"purification diverged at lr={lr}: use a smaller lr")
    return purified.numpy()


def safe_learning_rate(density):
    """The largest learning rate at which gradient descent cannot raise the objective.

    Nowhere is the curvature of a mixture's BPD above 1 / (d ln 2 · min σ²): the Hessian of
    −log p is Σ r_k diag(1/σ_k²) less the covariance, under r, of the components' gradients. A step
    of at most one over the curvature never ascends (the descent lemma).

    Args:
        density: a fitted mixture with ``covariances_`` (K, d), such as
            :class:`~mistakes_lib.density.DiagonalGMM`.

    Returns:
        float, d · ln 2 · min σ².

    Raises:
        TypeError: the density has no ``covariances_``.
        sklearn.exceptions.NotFittedError: the density is not fitted.

    Example:
        >>> from mistakes_lib.density import DiagonalGMM
        >>> density = DiagonalGMM(1).fit([[-1.0, -3.0], [1.0, 3.0]])  # variances 1 and 9
        >>> round(safe_learning_rate(density) / math.log(2), 3)
        2.0
    """
    check_is_fitted(density, msg="this %(name)s is not fitted yet: call density.fit(features)")
    if not hasattr(density, "covariances_"):
        raise TypeError(
            f"{type(density).__name__} has no covariances_: a safe rate is known for mixtures only"
        )
    variances = np.asarray(density.covariances_)
    return float(variances.shape[1] * math.log(2) * variances.min())


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


def _descend(step, origin, steps, *, rounding):
    """Take the steps; rows that one moved by no more than ``rounding``, (b, 1), rest there."""
    result = origin.clone()  # (b, d)
    awake = torch.arange(len(origin), device=origin.device)
    moved = origin
    for _ in range(steps):
        before, moved = moved, step(moved, origin[awake])
        result[awake] = moved
        goes_on = ~((moved - before).abs() <= rounding[awake]).all(dim=1)
        awake, moved = awake[goes_on], moved[goes_on]
        if not len(awake):
            break
    return result


def _gradient_step(moved, origin, *, gradient, nu, lr):
    """A gradient step on BPD; 1 / (1 + 2 lr ν) of the way from F_ref to it is left by the hold."""
    kept = 1.0 / (1.0 + 2.0 * lr * nu)
    rate = lr / (moved.shape[1] * math.log(2))
    return torch.lerp(origin, moved + rate * gradient(moved), kept)


def _monotone_step(density, nu, dtype, device):
    """The step of majorise–minimise as a function of (F, F_ref)."""
    if not hasattr(density, "pull"):
        raise TypeError(
            f"{type(density).__name__} is no mixture of diagonal Gaussians, which the step without "
            "a learning rate needs: pass a DiagonalGMM, or lr"
        )
    pull, (_, dimension) = density.pull(dtype, device), density.means_.shape
    hold = 2.0 * nu * dimension * math.log(2)  # inf for a huge ν: then F stays at F_ref

    def step(moved, origin):
        force, stiffness = pull(moved, origin)  # (b, d) each
        return origin + force / (stiffness + hold)

    return step


def _gradient_of_log_p(density, dtype, device):
    """∇ log p as a function of F (b, d): a mixture's in closed form, else by torch."""
    if not hasattr(density, "pull"):
        return partial(_automatic_gradient, density)
    pull = density.pull(dtype, device)
    return lambda features: pull(features, features)[0]


@torch.enable_grad()
def _automatic_gradient(density, features):
    features = features.detach().requires_grad_()
    # Rows do not interact, so the gradient of the sum holds each row's own gradient.
    return torch.autograd.grad(density.log_prob(features).sum(), features)[0]


def _bits_per_dim(features, density):
    return -density.log_prob(features) / (features.shape[1] * math.log(2))


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
