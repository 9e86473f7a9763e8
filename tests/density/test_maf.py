"""FeatureMAF: its masks, its inverse, and its density by an explicit Jacobian."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mistakes_lib.density import FeatureMAF
from mistakes_lib.density.maf import _made


def dependence(network, d):
    """Whether feature i's shift and log-scale depend on input j, bool (d, d)."""
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)  # every unit is active and no two paths cancel
    jacobian = torch.autograd.functional.jacobian(network, torch.ones(d))  # (2d, d)
    shift, log_scale = (jacobian != 0).unflatten(0, (d, 2)).unbind(dim=1)
    assert torch.equal(shift, log_scale)
    return shift


@pytest.mark.parametrize("hidden", [1, 4, 9, 64])
def test_a_feature_depends_on_earlier_ones_only(hidden):
    order = torch.tensor([4, 0, 7, 9, 1, 3, 2, 8, 6, 5])
    depends = dependence(_made(order, hidden), 10)
    assert not depends[order[:, None] <= order].any()
    if hidden == 64:
        assert depends[order[:, None] > order].all()


def test_few_units_are_spread_over_all_features():
    """zuko's own network of four units would let the first four of ten features speak only."""
    depends = dependence(_made(torch.arange(10), 4), 10)
    assert depends[9, :9].all()
    assert [int(row.sum()) for row in depends] == [0, 1, 1, 1, 4, 4, 6, 6, 6, 9]


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4)) + 7
    return FeatureMAF(3, 16, 5, 0.01, device="cpu", random_state=0).fit(rows), rows


def test_the_log_likelihood_is_the_change_of_variables(fitted):
    maf, rows = fitted
    transform = maf._network(torch.device("cpu"), torch.float64)().transform
    for row in rows[:5]:
        z = torch.tensor((row - maf.mean_) / maf.scale_)
        jacobian = torch.autograd.functional.jacobian(transform, z)
        expected = (
            norm.logpdf(transform(z).numpy()).sum()
            + torch.linalg.slogdet(jacobian).logabsdet.item()
            - np.log(maf.scale_).sum()
        )
        assert maf.score_samples(row[None])[0] == pytest.approx(expected, rel=1e-9)


def test_the_inverse_inverts(fitted):
    maf, rows = fitted
    transform = maf._network(torch.device("cpu"), torch.float64)().transform
    z = torch.tensor((rows - maf.mean_) / maf.scale_)
    np.testing.assert_allclose(transform.inv(transform(z)).numpy(), z.numpy(), atol=1e-9)


def test_a_single_feature_becomes_a_gaussian():
    rows = np.random.default_rng(0).normal(-40, 3, size=(2000, 1))
    maf = FeatureMAF(2, 4, 200, 0.05, 1000, lr_decay=0.97, device="cpu", random_state=0).fit(rows)
    points = np.array([[-46.0], [-40.0], [-33.0]])
    np.testing.assert_allclose(
        maf.score_samples(points), norm(rows.mean(), rows.std()).logpdf(points.ravel()), atol=0.02
    )


def test_noise_bounds_the_likelihood_of_dead_features():
    rows = np.full((200, 3), 0.7)
    maf = FeatureMAF(2, 8, 400, 0.05, 200, lr_decay=0.99, device="cpu", random_state=0).fit(rows)
    highest = 3 * norm(0, maf.noise).logpdf(0)
    assert maf.score(rows) == pytest.approx(highest, abs=1.0)


@pytest.mark.parametrize(("name", "value"), [("n_transforms", 0), ("noise", -1e-3)])
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        FeatureMAF().set_params(**{name: value}).fit(np.eye(3))


def test_the_log_likelihood_of_a_start_is_near_the_standard_gaussian():
    """One small step from an untrained flow: standardised rows, shifts and log-scales near 0."""
    rows = np.random.default_rng(0).normal(size=(500, 20))
    maf = FeatureMAF(epochs=1, batch_size=500, device="cpu", random_state=0).fit(rows)
    entropy_per_dim = 0.5 * math.log(2 * math.pi * math.e)
    assert maf.losses_[0] / 20 == pytest.approx(entropy_per_dim, abs=0.15)
