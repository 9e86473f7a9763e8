"""Where EM starts: rows that lie far apart, clusters of k-means, random rows, or the user's own."""

from functools import partial

import numpy as np
import torch
from sklearn.cluster import KMeans, kmeans_plusplus

from mistakes_lib.density.gmm.em import Mixture, maximise, nearest_statistics
from mistakes_lib.support.checks import as_array

__all__ = ["STARTS", "initial_mixture"]

STARTS = ("k-means++", "kmeans", "random_from_data")
SEEDING_ROWS = 10  # for each component: k-means++ looks for its seeds among so many random rows


def initial_mixture(
    rows,
    n_components,
    *,
    init_params,
    reg_covar,
    random_state,
    weights_init=None,
    means_init=None,
    precisions_init=None,
):
    """The mixture before the first EM step, in centred coordinates.

    Args:
        rows: :class:`~mistakes_lib.density.gmm.rows.ArrayRows` or its like.
        n_components: K.
        init_params: one of ``STARTS``.
        reg_covar: added to the variances.
        random_state: numpy.random.RandomState.
        weights_init, means_init, precisions_init: parts that the user gives, of shapes (K,),
            (K, d), (K, d).

    Returns:
        Mixture on the device of the rows.

    Raises:
        ValueError: a part has another shape or values that it cannot have.
    """
    shape = (n_components, rows.d)
    weights = _given(weights_init, "weights_init", shape[:1])
    means = _given(means_init, "means_init", shape)
    precisions = _given(precisions_init, "precisions_init", shape)
    if weights is not None and (min(weights) < 0 or abs(weights.sum() - 1) > 1e-6):
        raise ValueError("weights_init must not be negative and must sum to 1")
    if precisions is not None and (precisions <= 0).any():
        raise ValueError("precisions_init must be above 0")

    mixture = None
    if weights is None or means is None or precisions is None:
        seeds = _seeds(rows, n_components, init_params, random_state)
        mixture = _around(seeds, rows, reg_covar)

    def choose(own, found):
        if own is None:
            return found()
        return torch.as_tensor(own, dtype=torch.float64, device=rows.device)

    return Mixture(
        choose(weights, lambda: mixture.weights),
        choose(means - rows.centre if means is not None else None, lambda: mixture.means),
        choose(1 / precisions if precisions is not None else None, lambda: mixture.variances),
    )


def _around(seeds, rows, reg_covar):
    """Put each row wholly into the component of the nearest of seeds (K, d): their moments."""
    k = len(seeds)
    whole = rows.sum(partial(nearest_statistics, seeds.cpu().numpy(), k))
    # Duplicate rows can leave a seed without any: it starts as broad as the data, at its mean.
    mean_of_squares = whole.moments.sum(dim=0).chunk(2)[1] / whole.n + reg_covar
    spread = mean_of_squares.expand(k, -1)
    everywhere = Mixture(whole.counts, torch.zeros_like(spread), spread)
    return maximise(whole, everywhere, reg_covar)


def _seeds(rows, k, init_params, random_state):
    """Points to which rows are assigned at first, float64 (K, d)."""
    n = rows.n
    if init_params == "random_from_data":
        return rows.take(random_state.choice(n, k, replace=False))
    if init_params == "kmeans":
        k_means = KMeans(k, n_init=1, random_state=random_state)
        data = np.concatenate([block.cpu().numpy() for block in rows])
        return torch.from_numpy(k_means.fit(data).cluster_centers_).to(rows.device)
    some = np.arange(n)
    if n > SEEDING_ROWS * k:
        some = random_state.choice(n, SEEDING_ROWS * k, replace=False)
    candidates = rows.take(some)
    _, chosen = kmeans_plusplus(candidates.cpu().numpy(), k, random_state=random_state)
    return candidates[torch.from_numpy(chosen).to(rows.device)]


def _given(values, name, shape):
    """Check a part of a start that the user gave; None stays None."""
    if values is None:
        return None
    values = as_array(values, name)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
    return values
