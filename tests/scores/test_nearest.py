"""The k-th nearest direction against scikit-learn's search in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from mistakes_lib.scores import nearest
from mistakes_lib.scores.nearest import kth_nearest
from mistakes_lib.support import blocks


def by_scikit_learn(rows, others, k):
    rows, others = (normalize(x.astype(np.float64)) for x in (rows, others))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(others)
    return search.kneighbors(rows)[0][:, -1]


def assert_equal(rows, others, k):
    # scikit-learn's distances come from squares, so that its zero is 1e-8.
    expected = by_scikit_learn(rows, others, k)
    np.testing.assert_allclose(kth_nearest(rows, others, k), expected, rtol=1e-9, atol=5e-8)


def features(n, d, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(n, d))).astype(np.float32)


@pytest.fixture
def never_all(monkeypatch):
    """No row may be compared with all others."""

    def refuse(*arguments):
        raise AssertionError("compared with all")

    monkeypatch.setattr(nearest, "_compared_with_all", refuse)


@pytest.mark.parametrize("k", [1, 2, 50, 700, 3000])
@pytest.mark.parametrize("kind", ["normal", "ReLU", "clusters"])
def test_equals_scikit_learn_without_comparing_all(never_all, kind, k):
    """Several tiles of rows and others; clusters as narrow as a trained network's."""
    rows, others = features(600, 40), features(3000, 40, seed=1)
    if kind == "ReLU":
        rows, others = np.maximum(rows, 0), np.maximum(others, 0)
    if kind == "clusters":
        centres = features(10, 40, seed=2)
        rows, others = (centres[np.arange(len(x)) % 10] + 0.05 * x for x in (rows, others))
    assert_equal(rows, others, k)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 200),
    d=st.integers(1, 8),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    data=st.data(),
)
@settings(deadline=None, max_examples=40)
def test_equals_scikit_learn_for_any_sizes(seed, n, d, scale, data):
    k = data.draw(st.integers(1, n))
    assert_equal(features(20, d, seed, scale), features(n, d, seed + 1, scale), k)


def test_near_ties_at_the_kth_place_are_told_apart(never_all):
    """Angles that differ by less than float32 can tell."""
    angles = np.concatenate([np.linspace(0, 0.4, 40), 0.5 + 1e-9 * np.arange(10), [1.0] * 3])
    others = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    more = np.stack([-np.ones(1000), np.linspace(-1, 1, 1000)], axis=1)  # far from the row
    found = [kth_nearest(np.array([[3.0, 0]]), np.vstack([others, more]), 41 + i) for i in range(9)]
    expected = 2 * np.sin((0.5 + 1e-9 * np.arange(9)) / 2)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-14)


@pytest.mark.parametrize("k", [1, 5, 200, 400])
def test_copies_of_one_direction_hide_nothing(k):
    """More copies at the k-th place than are kept."""
    others = np.repeat(features(10, 6), 200, axis=0)
    assert_equal(features(30, 6, seed=1), others, k)
    np.testing.assert_allclose(kth_nearest(others[:1], others, 200), [0.0], atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 150])
def test_rows_of_zeros_have_no_direction(k):
    rows, others = features(8, 4), features(200, 4, seed=1)
    rows[3], others[10:20] = 0, 0
    assert_equal(rows, others, k)


@pytest.mark.parametrize("k", [3, 90])
def test_blocks_and_tiles_change_nothing(k, monkeypatch):
    rows, others = features(75, 12), features(401, 12, seed=1)
    expected = kth_nearest(rows, others, k)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 64)
    monkeypatch.setattr(nearest, "ROWS", 10)
    monkeypatch.setattr(nearest, "OTHERS", 7)
    monkeypatch.setattr(nearest, "PAIRS", 3)
    np.testing.assert_allclose(kth_nearest(rows, others, k), expected, rtol=1e-12)
