"""Where a mixture draws points: against the sums over all components, written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.density.gmm import pull as module


def by_hand(gmm, x, y):
    """Both sums over all components, by NumPy in float64."""
    gaps = gmm.means_[None] - x[:, None]  # (n, K, d)
    joint = np.log(gmm.weights_) + 0.5 * np.log(gmm.precisions_).sum(axis=1)
    joint = joint - 0.5 * (gaps**2 * gmm.precisions_).sum(axis=2)
    r = np.exp(joint - joint.max(axis=1, keepdims=True))
    r /= r.sum(axis=1, keepdims=True)
    force = (r[:, :, None] * (gmm.means_[None] - y[:, None]) * gmm.precisions_).sum(axis=1)
    return force, r @ gmm.precisions_


def mixture(seed, k, d, spread, offset=0.0):
    rng = np.random.default_rng(seed)
    gmm = DiagonalGMM(k, device="cpu")
    gmm.weights_ = rng.dirichlet(np.ones(k))
    gmm.means_ = rng.normal(size=(k, d)) * spread + offset
    gmm.covariances_ = rng.uniform(0.5, 2, size=(k, d))
    gmm.precisions_, gmm.n_features_in_ = 1 / gmm.covariances_, d
    return gmm


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    k=st.integers(1, 40),
    d=st.integers(1, 12),
    n=st.integers(1, 9),
    spread=st.sampled_from([0.0, 1.0, 30.0]),  # all share a row, some do, one has it
    offset=st.sampled_from([0.0, -50.0]),
)
def test_it_is_the_sum_over_all_components(seed, k, d, n, spread, offset):
    gmm, rng = mixture(seed, k, d, spread, offset), np.random.default_rng(seed + 1)
    x, y = gmm.means_[rng.integers(k, size=(2, n))] + rng.normal(size=(2, n, d))
    found = gmm.pull(torch.float64, "cpu")(torch.tensor(x), torch.tensor(y))
    for ours, expected in zip(found, by_hand(gmm, x, y), strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_few_components_or_all_give_the_same(spread, monkeypatch):
    gmm = mixture(0, 64, 20, spread)
    x = torch.tensor(gmm.means_[:30] + 0.3, dtype=torch.float32)
    found = []
    for few in (0.0, 1.0):
        monkeypatch.setattr(module, "FEW", few)
        found.append(gmm.pull(torch.float32, "cpu")(x, x))
    for all_of_them, few_of_them in zip(*found, strict=True):
        torch.testing.assert_close(all_of_them, few_of_them, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_overflows_is_not_a_number(dtype):
    """A sum over no component would be 0, as if nothing drew the point."""
    huge = torch.finfo(dtype).max ** 0.75
    x = torch.full((1, 3), huge, dtype=dtype)
    force, stiffness = mixture(0, 50, 3, 1.0).pull(dtype, "cpu")(x, x)
    assert torch.isnan(force).all() and torch.isnan(stiffness).all()
