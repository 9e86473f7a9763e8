"""Where in the features is the information on failures? A mixture on subspaces (§4.1)."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.density.gmm import reg_covar_for
from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.support.checks import as_matrix

__all__ = ["feature_subspaces", "information_by_subspace", "share_of_zeros"]

TOLERANCE = 1e-2  # nats a row: an AUROC does not change by what is below


def feature_subspaces(features, head_weight, *, leading=None):
    """Orthonormal bases of the subspaces that an answer can hide in.

    Adding one vector to all rows of the head's weight changes no prediction. So the classes are
    decided in the row space of the weight less its mean row, of rank c − 1 at most; what lies in
    the null space of that no prediction sees.

    Args:
        features: those whose principal components are taken, (n, d).
        head_weight: of the classifier's last layer, (c, d).
        leading: how many leading and last principal components; None: as many as the row space has
            dimensions.

    Returns:
        dict of name → (d, k) with orthonormal columns; a subspace of no dimensions is left out.

    Raises:
        ValueError: shapes disagree, or ``leading`` exceeds d.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> spaces = feature_subspaces(rng.normal(size=(50, 6)), rng.normal(size=(3, 6)))
        >>> {name: basis.shape[1] for name, basis in spaces.items()}["null space of the head"]
        4
    """
    features = as_matrix(features, "features")
    weight = as_matrix(head_weight, "head_weight", columns=features.shape[1])
    _, sizes, rows = np.linalg.svd(weight - weight.mean(axis=0))  # rows: (d, d)
    rank = int((sizes > sizes.max() * 1e-6).sum()) if sizes.max() > 0 else 0
    leading = rank if leading is None else leading
    d = features.shape[1]
    check_scalar(leading, "leading", Integral, min_val=1, max_val=d)
    components = np.linalg.eigh(np.cov(features, rowvar=False).reshape(d, d))[1][:, ::-1]
    spaces = {
        "all dimensions": np.eye(d),
        "row space of the head": rows[:rank].T,
        "null space of the head": rows[rank:].T,
        f"first {leading} principal components": components[:, :leading],
        f"last {leading} principal components": components[:, -leading:],
    }
    return {name: basis for name, basis in spaces.items() if basis.shape[1]}


def information_by_subspace(
    fit_on, head_weight, groups, *, n_components=100, leading=None, random_state=0, device="auto"
):
    """AUROC of a mixture on each subspace of the features, and of their norm alone.

    On every subspace a mixture of its own is fitted. Two rows need a word: *divided by their norm*
    is the mixture on F / ‖F‖, which keeps the direction only, and *norm alone* scores by ‖F‖, with
    no model at all.

    Args:
        fit_on: features to fit the mixtures to, (n, d).
        head_weight: of the classifier's last layer, (c, d).
        groups: dict of failure → (trusted features (·, d), suspect features (·, d)).
        n_components: K of each mixture.
        leading: see :func:`feature_subspaces`.
        random_state: seed of the fits.
        device: of the fits.

    Returns:
        DataFrame indexed by (subspace, failure) with the columns dimensions, AUROC, low, high.

    Raises:
        ValueError: there is no group, or shapes disagree.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> fit_on, good, bad = (rng.normal(size=(n, 4)) for n in (400, 200, 100))
        >>> bad[:, 0] *= 5  # the one direction that the head reads
        >>> head = np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
        >>> table = information_by_subspace(fit_on, head, {"x": (good, bad)}, n_components=1)
        >>> found = table.AUROC.xs("x", level="failure")
        >>> bool(found["row space of the head"] > 0.7 > found["null space of the head"] > 0.4)
        True
    """
    if not groups:
        raise ValueError("groups is empty: pass at least one failure with its two groups")
    fit_on = as_matrix(fit_on, "fit_on")
    columns = fit_on.shape[1]
    groups = {
        failure: [as_matrix(part, f"groups[{failure!r}]", columns=columns) for part in pair]
        for failure, pair in groups.items()
    }
    spaces = feature_subspaces(fit_on, head_weight, leading=leading)
    views = {name: (basis.shape[1], _projection(basis)) for name, basis in spaces.items()}
    views["divided by their norm"] = columns, _direction
    rows = {}
    for name, (dimensions, view) in views.items():
        seen = view(fit_on)
        own = {"random_state": random_state, "tol": TOLERANCE, "device": device}
        mixture = DiagonalGMM(n_components, reg_covar=reg_covar_for(seen), **own)
        mixture.fit(seen)
        for failure, pair in groups.items():
            rows[name, failure] = dimensions, *(mixture.score_samples(view(f)) for f in pair)
    for failure, pair in groups.items():
        rows["norm alone", failure] = 1, *(np.linalg.norm(f, axis=1) for f in pair)
    table = {}
    for key, (dimensions, trusted, suspect) in rows.items():
        result = mann_whitney(trusted, suspect)
        low, high = result.auroc_ci
        table[key] = {"dimensions": dimensions, "AUROC": result.auroc, "low": low, "high": high}
    table = pd.DataFrame.from_dict(table, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["subspace", "failure"])
    return table


def share_of_zeros(groups):
    """How many features of each kind of input are exactly 0, as ReLU leaves them.

    Where training features are often 0 a density is high there. Inputs on which most features are
    0, noise for instance, then look likely.

    Args:
        groups: dict of name → features (n, d).

    Returns:
        DataFrame indexed by name with the columns "zeros" (share of all features), "norm" (mean
        ‖F‖) and "dead" (share of features that are 0 for every input of the group).

    Raises:
        ValueError: a group is empty or no matrix.

    Example:
        >>> share_of_zeros({"noise": [[0.0, 0.0, 3.0], [0.0, 4.0, 0.0]]}).round(2).loc["noise"]
        zeros    0.67
        norm     3.50
        dead     0.33
        Name: noise, dtype: float64
    """
    rows = {}
    for name, features in groups.items():
        features = as_matrix(features, f"groups[{name!r}]")
        zero = features == 0
        rows[name] = {
            "zeros": zero.mean(),
            "norm": np.linalg.norm(features, axis=1).mean(),
            "dead": zero.all(axis=0).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _projection(basis):
    return lambda features: features @ basis


def _direction(features):
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)
