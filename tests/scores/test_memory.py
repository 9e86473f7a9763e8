"""Distances take memory for a block of rows, not for all."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Energy, Mahalanobis, NearestNeighbors, RelativeMahalanobis, ViM
from mistakes_lib.support import blocks


@pytest.fixture(scope="module")
def batch():
    """80,000 × 64: 20 MB of float32, 41 MB of float64; a block of 4096 has 2.1 MB."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80_000, 64)).astype(np.float32)
    logits = features @ rng.normal(size=(64, 10)).astype(np.float32)
    return FeatureSet(features, logits, np.arange(80_000) % 10)


def peak(action):
    """Most bytes that ``action()`` held at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "scorer", [Mahalanobis, RelativeMahalanobis, ViM, partial(NearestNeighbors, k=5)]
)
def test_fitting_and_scoring_never_copy_all_rows(scorer, batch):
    scorer, some = scorer(), batch[:5000]
    assert peak(lambda: scorer.fit(batch)) < batch.features.nbytes / 2
    assert peak(lambda: scorer.score_samples(some)) < batch.features.nbytes / 2


@pytest.mark.parametrize("scorer", [Mahalanobis, ViM, Energy])
def test_scoring_never_copies_all_rows(scorer, batch):
    scorer = scorer().fit(batch)
    assert peak(lambda: scorer.score_samples(batch)) < batch.features.nbytes / 2


@pytest.mark.parametrize("scorer", [ViM, partial(NearestNeighbors, k=7)])
def test_blocks_change_no_score(scorer, batch, monkeypatch):
    """In blocks of 100 rows, the last of which has fewer than k, as in one."""
    train, some = batch[:1005], batch[2000:2150]
    expected = scorer().fit(train).score_samples(some)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 100)
    np.testing.assert_allclose(scorer().fit(train).score_samples(some), expected, rtol=1e-9)
