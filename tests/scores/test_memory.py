"""Distances take memory for a block of rows, not for all."""

import tracemalloc

import numpy as np
import pytest

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Mahalanobis, RelativeMahalanobis, ViM


@pytest.fixture(scope="module")
def batch():
    """30,000 × 64: 7.7 MB of float32, 15 MB of float64; a block of 1024 has 0.5 MB."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30_000, 64)).astype(np.float32)
    logits = features @ rng.normal(size=(64, 10)).astype(np.float32)
    return FeatureSet(features, logits, np.arange(30_000) % 10)


def peak(action):
    """Most bytes that ``action()`` held at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scorer", [Mahalanobis, RelativeMahalanobis])
def test_fitting_and_scoring_never_copy_all_rows(scorer, batch):
    assert peak(lambda: scorer().fit(batch)) < batch.features.nbytes / 2


def test_vim_scores_in_blocks(batch):
    scorer = ViM().fit(batch)
    assert peak(lambda: scorer.score_samples(batch)) < batch.features.nbytes / 2
