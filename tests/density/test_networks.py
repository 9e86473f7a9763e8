"""What holds for every density that is a network, against SciPy, quadrature and k-NN entropy."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from mistakes_lib.density import FeatureMAF, FeatureVAE
from mistakes_lib.purification import purify
from mistakes_lib.support.storage import load_arrays, save_arrays

SHARED = {"device": "cpu", "random_state": 0}
TINY = [
    FeatureVAE(8, 2, epochs=2, importance_samples=8, batch_size=64, **SHARED),
    FeatureMAF(2, 8, epochs=2, batch_size=64, **SHARED),
]
TRAINED = [
    FeatureVAE(32, 2, 40, 0.01, 0.95, importance_samples=64, batch_size=100, **SHARED),
    FeatureMAF(4, 32, 40, 0.01, batch_size=200, lr_decay=0.93, **SHARED),
]


def by_name(value):
    return value if isinstance(value, str) else type(value).__name__


tiny = pytest.mark.parametrize("density", TINY, ids=by_name)
trained = pytest.mark.parametrize("density", TRAINED, ids=by_name)


class Truth:
    """Gaussians in the plane, with features of very different scales and offsets."""

    def __init__(self, *means):
        covariance = [[0.04, 0.9], [0.9, 25.0]]  # correlation 0.9
        self.parts = [multivariate_normal(mean, covariance) for mean in means]

    def draw(self, n, seed):
        rng = np.random.default_rng(seed)
        part = rng.integers(len(self.parts), size=n)
        return np.stack([p.rvs(n, rng) for p in self.parts])[part, np.arange(n)]

    def log_prob(self, rows):
        densities = np.stack([p.pdf(rows) for p in self.parts])
        return np.log(densities.mean(axis=0))


TRUTHS = {
    "one Gaussian": Truth([3.0, -100.0]),
    "two Gaussians": Truth([3.0, -100.0], [3.72, -80.0]),
}
truths = pytest.mark.parametrize("truth", TRUTHS)


@cache
def fitted(density, truth):
    return clone(density).fit(TRUTHS[truth].draw(4000, seed=0))


def some_rows(n=90, d=3, seed=0):
    return np.random.default_rng(seed).normal(5, 2, size=(n, d))


@parametrize_with_checks(TINY)
def test_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


# The density is right


@trained
@truths
def test_the_mean_log_likelihood_is_right(density, truth):
    rows = TRUTHS[truth].draw(4000, seed=1)
    gaps = TRUTHS[truth].log_prob(rows) - fitted(density, truth).score_samples(rows)
    divergence, error = gaps.mean(), gaps.std() / math.sqrt(len(gaps))
    assert -3 * error < divergence < 3 * error + 0.06  # a KL divergence, nats: never negative


@trained
@truths
def test_the_density_integrates_to_one(density, truth):
    x, y = np.linspace(1.9, 4.8, 81), np.linspace(-128, -52, 81)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    total = np.exp(fitted(density, truth).score_samples(grid)).sum()
    assert total * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=0.02)


@trained
@truths
def test_samples_have_the_entropy_that_their_likelihood_says(density, truth):
    density = fitted(density, truth)
    rows, components = density.sample(4000)
    assert components is None
    assert rows.shape == (4000, 2)
    # Kozachenko & Leonenko's estimate from the third neighbors, on features of like scale.
    k, scale = 3, rows.std(axis=0)
    distances = cKDTree(rows / scale).query(rows / scale, k + 1)[0][:, k]
    entropy = digamma(4000) - digamma(k) + math.log(math.pi) + 2 * np.log(distances).mean()
    entropy += np.log(scale).sum()
    assert density.score(rows) == pytest.approx(-entropy, abs=0.08)


@tiny
def test_score_and_bits_follow_from_the_log_likelihood(density):
    rows = some_rows()
    density = clone(density).fit(rows)
    log_likelihoods = density.score_samples(rows)
    assert log_likelihoods.dtype == np.float64
    assert density.score(rows) == log_likelihoods.mean()
    np.testing.assert_array_equal(density.bits_per_dim(rows), -log_likelihoods / (3 * math.log(2)))


@tiny
def test_the_unit_of_a_feature_moves_the_log_likelihood_by_its_logarithm(density):
    rows, units = some_rows(), np.array([0.25, 1.0, 64.0])  # powers of two: no rounding
    usual, rescaled = (clone(density).fit(r).score_samples(r) for r in (rows, rows * units))
    np.testing.assert_allclose(rescaled, usual - np.log(units).sum(), rtol=1e-9)


@tiny
def test_dead_features_and_far_rows_are_safe(density):
    rows = some_rows().astype(np.float32)
    rows[:, 1] = 0.3
    density = clone(density).fit(rows)
    assert density.scale_[1] == 1
    for others in (rows, rows + 1e4, np.zeros_like(rows)):
        assert np.isfinite(density.score_samples(others)).all()
    assert density.score(rows) > density.score(rows + 1e4)
    assert np.isfinite(density.sample(10)[0]).all()


@tiny
def test_block_size_does_not_matter(density, monkeypatch):
    rows = some_rows()
    density = clone(density).fit(rows)
    whole = density.score_samples(rows)
    monkeypatch.setattr("mistakes_lib.density.base.BLOCK_BYTES", 20_000)
    assert density._block_rows() < 40
    np.testing.assert_allclose(density.score_samples(rows), whole, rtol=1e-10)


# Gradients


@tiny
def test_log_prob_is_score_samples_and_differentiable(density):
    rows = some_rows()
    density = clone(density).fit(rows)
    points = torch.tensor(rows[:5], requires_grad=True)
    values = density.log_prob(points)
    np.testing.assert_allclose(values.detach().numpy(), density.score_samples(rows[:5]))
    assert torch.autograd.gradcheck(density.log_prob, points)
    single = density.log_prob(torch.tensor(rows[:5], dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), values.detach().numpy(), rtol=1e-4)


@trained
def test_purification_climbs_the_density(density):
    density = fitted(density, "two Gaussians")
    rows = TRUTHS["two Gaussians"].draw(20, seed=2)
    purified = purify(rows, density, nu=0.0, lr=1e-4, steps=3, device="cpu")
    assert (density.score_samples(purified) > density.score_samples(rows)).all()


# Training


@tiny
def test_seed_decides_and_no_other_random_state_moves(density, tmp_path):
    rows = some_rows()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, same, other = (clone(density).set_params(random_state=s).fit(rows) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.score_samples(rows), same.score_samples(rows))
    np.testing.assert_array_equal(first.sample(5)[0], same.sample(5)[0])
    assert not np.allclose(first.score_samples(rows), other.score_samples(rows))
    first.save(tmp_path / "file")
    type(first).load(tmp_path / "file")
    first.log_prob(torch.tensor(rows))
    assert torch.equal(torch.get_rng_state(), before)


@tiny
def test_without_a_seed_scores_are_still_reproducible(density):
    rows = some_rows()
    density = clone(density).set_params(random_state=None).fit(rows)
    np.testing.assert_array_equal(density.score_samples(rows), density.score_samples(rows))
    assert not np.allclose(density.sample(5)[0], density.sample(5)[0])


@tiny
def test_training_stops_when_held_out_rows_get_no_better_and_keeps_the_best(density):
    rows = some_rows(40)
    options = {"validation_fraction": 0.4, "patience": 3, "lr": 0.05}
    stopped = clone(density).set_params(epochs=300, **options).fit(rows)
    best = int(np.argmin(stopped.validation_losses_)) + 1
    assert len(stopped.losses_) == len(stopped.validation_losses_) == best + 3 < 300
    again = clone(density).set_params(epochs=best, **options).fit(rows)
    np.testing.assert_array_equal(again.score_samples(rows), stopped.score_samples(rows))


@tiny
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(density, tmp_path):
    """Random draws, Adam's moments, the best weights and the patience included."""
    rows, checkpoint = some_rows(60), tmp_path / "training"
    options = {"validation_fraction": 0.3, "patience": 6, "lr": 0.02, "lr_decay": 0.9}
    density = clone(density).set_params(**options)
    whole = clone(density).set_params(epochs=9).fit(rows)
    for epochs in (1, 4, 9, 9):
        resumed = clone(density).set_params(epochs=epochs).fit(rows, checkpoint=checkpoint)
    whole.save(tmp_path / "whole")
    resumed.save(tmp_path / "resumed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(load_arrays(checkpoint)[1]["history"]) == len(whole.losses_)
    with pytest.raises(ValueError, match=r"another training .parameters, rows or seed"):
        clone(density).set_params(hidden=5).fit(rows, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="another training"):
        clone(density).fit(some_rows(60, seed=1), checkpoint=checkpoint)


@tiny
def test_the_learning_rate_decays_after_each_epoch(density):
    rows = some_rows()
    one, three = (
        clone(density).set_params(epochs=epochs, lr_decay=1e-9).fit(rows) for epochs in (1, 3)
    )
    assert len(three.losses_) == 3
    np.testing.assert_allclose(three.score_samples(rows), one.score_samples(rows), rtol=1e-5)


@tiny
def test_losses_fall_and_the_bar_shows_them(density, capsys):
    noisy = clone(density).set_params(epochs=30, lr=0.02, verbose=1).fit(some_rows())
    assert noisy.losses_[-1] < noisy.losses_[0]
    bar = capsys.readouterr().err
    assert f"{type(density).__name__}: 100%" in bar
    assert "nats/dim" in bar


@tiny
def test_a_loss_that_leaves_the_numbers_says_so(density):
    with pytest.raises(ValueError, match=r"the loss became .* in epoch \d: lower the"):
        clone(density).set_params(lr=1e30, epochs=5).fit(some_rows())


# Files


@tiny
def test_a_saved_density_comes_back_bit_for_bit(density, tmp_path):
    rows = some_rows()
    density = clone(density).set_params(lr=np.float64(0.01), random_state=np.int64(3)).fit(rows)
    density.save(tmp_path / "file")
    again = type(density).load(tmp_path / "file")
    np.testing.assert_array_equal(again.score_samples(rows), density.score_samples(rows))
    np.testing.assert_array_equal(again.sample(4)[0], density.sample(4)[0])
    assert again.losses_ == density.losses_
    assert again.get_params() | {"device": "cpu"} == density.get_params()
    again.save(tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == (tmp_path / "file").read_bytes()


@tiny
def test_loading_something_else_says_so(density, tmp_path):
    save_arrays(tmp_path / "file", {"a": np.ones(2)}, {"kind": "FeatureSet"})
    with pytest.raises(ValueError, match=f"holds a FeatureSet, not a {type(density).__name__}"):
        type(density).load(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="nothing"):
        type(density).load(tmp_path / "nothing")


# Bad input


@tiny
def test_the_first_bad_row_is_named(density):
    rows = some_rows()
    good = clone(density).fit(rows)
    rows[[7, 9], 1] = np.nan, np.inf
    for ask in (clone(density).fit, good.score_samples):
        with pytest.raises(ValueError, match="2 of 90 rows, the first at index 7"):
            ask(rows)


@tiny
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0),
        ("hidden", 2.0),
        ("hidden", True),
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", 0),
        ("lr", 0.0),
        ("lr_decay", 0.0),
        ("lr_decay", 1.1),
        ("validation_fraction", 1.0),
        ("validation_fraction", 0.999),
    ],
)
def test_bad_parameters_are_named(density, name, value):
    with pytest.raises(ValueError, match=name):
        clone(density).set_params(**{name: value}).fit(some_rows())


@tiny
def test_unfitted_is_said(density, tmp_path):
    for ask in ("score_samples", "score", "bits_per_dim"):
        with pytest.raises(NotFittedError):
            getattr(clone(density), ask)(some_rows())
    with pytest.raises(NotFittedError):
        clone(density).sample(3)
    with pytest.raises(NotFittedError):
        clone(density).log_prob(torch.zeros(2, 3))
    with pytest.raises(NotFittedError):
        clone(density).save(tmp_path / "file")
