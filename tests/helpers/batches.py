"""Feature sets that tests of scorers draw."""

import numpy as np

from mistakes_lib.features.feature_set import FeatureSet

__all__ = ["First", "blobs", "scored", "with_mistakes"]


def blobs(n=300, d=5, c=3, seed=0):
    """Gaussian classes with correlated features under a head that is right most of the time."""
    rng = np.random.default_rng(seed)
    means = rng.normal(scale=3, size=(c, d))
    mixing = np.eye(d) + np.tril(rng.normal(scale=0.5, size=(d, d)), -1)
    labels = rng.integers(c, size=n)
    features = means[labels] + rng.normal(size=(n, d)) @ mixing
    head = means + rng.normal(size=(c, d))
    logits = features @ head.T - np.square(means).sum(axis=1) / 2
    return FeatureSet(features, logits, labels)


def with_mistakes(batch):
    """The same inputs, where every fourth label is another than the predicted one."""
    labels = batch.predictions.copy()
    labels[::4] = (labels[::4] + 1) % batch.logits.shape[1]
    return FeatureSet(batch.features, batch.logits, labels)


class First:
    """Scores by the first feature."""

    def score_samples(self, batch):
        return batch.features[:, 0]


def scored(scores, right):
    """Inputs with these scores by First, some predicted rightly (class 0 of two)."""
    logits = np.array([[2.0, 0.0] if each else [0.0, 2.0] for each in right])
    return FeatureSet(np.array(scores, float)[:, None], logits, np.zeros(len(scores), int))
