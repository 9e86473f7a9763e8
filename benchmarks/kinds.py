"""The kinds of features on which mixtures are measured."""

import numpy as np

from benchmarks.measuring import RUN
from mistakes_lib import load_run

__all__ = ["KINDS", "random_start", "widened"]

RELU_RUN = "cifar100/wrn_16_2/seed0"


def widened(features, d, rng, activation=np.tanh):
    """Features with d columns: their own, and an activation of random projections of them.

    A little noise keeps the new columns from being functions of the others.
    """
    more = d - features.shape[1]
    if more <= 0:
        return features[:, :d]
    deviation = features.std(axis=0)
    z = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    projected = z @ rng.normal(size=(z.shape[1], more)) / np.sqrt(z.shape[1])
    noise = rng.normal(scale=0.03, size=projected.shape)
    return np.hstack([features, 0.2 * activation(0.5 * projected) + noise])


def relu(x):
    return np.maximum(x, 0)


def tanh_features(n, d, rng):
    features = load_run(RUN).features("train").features.astype(np.float64)
    return widened(features[:n], d, rng)


def relu_features(n, d, rng):
    run = load_run(RELU_RUN)
    parts = [run.features(split).features for split in ("test", "validation")]
    return widened(np.concatenate(parts)[:n].astype(np.float64), d, rng, relu)


def synthetic_features(n, d, rng):
    """tanh of a linear map of a mixture of 100 clusters in 20 dimensions."""
    hidden = rng.normal(size=(100, 20))[rng.integers(100, size=n)]
    hidden += 0.2 * rng.normal(size=hidden.shape)
    return np.tanh(hidden @ rng.normal(size=(20, d)) / 3)


# Name: (rows, dimensions, random generator) -> features float64 (n, d), and what they are.
KINDS = {
    "tanh": (tanh_features, f"training features of {RUN}, widened by tanh of random projections"),
    "relu": (
        relu_features,
        f"test and validation features of {RELU_RUN}, widened by ReLU of random projections",
    ),
    "synthetic": (synthetic_features, "tanh of a linear map of 100 clusters in 20 dimensions"),
}


def random_start(X, k):
    """K random rows as means, with equal weights and the variances of the data."""
    rng = np.random.default_rng(0)
    precision = 1 / (X.var(axis=0) + 1e-6)
    return {
        "weights": np.full(k, 1 / k),
        "means": X[rng.choice(len(X), k, replace=False)],
        "precisions": np.tile(precision, (k, 1)),
    }
