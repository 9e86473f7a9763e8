"""PixelCNN++: probabilities that sum to 1, no look ahead, and what training and sampling do."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import logistic
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from mistakes_lib.density import DiagonalGMM, PixelCNN
from mistakes_lib.density.pixel_cnn.logistic_mixture import (
    channel_log_prob,
    n_parameters,
    pixel_log_prob,
    sample_pixels,
)
from mistakes_lib.density.pixel_cnn.network import PixelCNNNetwork

GRID = torch.arange(256, dtype=torch.float64) / 127.5 - 1
SMALL = {"n_filters": 8, "n_resnets": 1, "n_mixtures": 3, "n_scales": 2}
QUICK = {**SMALL, "epochs": 2, "batch_size": 16, "device": "cpu", "random_state": 0}


def draw_parameters(spread, n_mixtures=3, seed=0):
    """What a network might say of one pixel, mild or extreme: float64 (1, 10 K, 1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    size = (1, n_parameters(n_mixtures), 1, 1)
    return spread * torch.randn(size, generator=generator, dtype=torch.float64)


def at(red, green, blue):
    """Colours as images of one pixel, (n, 3, 1, 1)."""
    return torch.stack(torch.broadcast_tensors(red, green, blue), dim=1)[:, :, None, None]


def images(n=40, edge=4, seed=0):
    """Stripes: the first row is noise, all others repeat it: 8 / edge bits per dimension."""
    first = np.random.default_rng(seed).integers(256, size=(n, 3, 1, edge), dtype=np.uint8)
    return np.repeat(first, edge, axis=2)


@pytest.fixture(scope="module")
def fitted():
    return PixelCNN(**QUICK).fit(images())


# --- the distribution of a pixel -----------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.1, 1, 5, 30])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_256_values_of_a_channel_sum_to_one(spread, channel):
    """Given the channels before it; with logistics from far narrower to far wider than the grid."""
    parameters = draw_parameters(spread)
    before = [GRID[[40]], GRID[[200]], GRID[[90]]]
    before[channel] = GRID
    log_weights, channels = channel_log_prob(parameters.expand(256, -1, -1, -1), at(*before))
    channels = channels[..., 0, 0]  # (256, 3, K)
    prior = log_weights[0, :, 0, 0] + channels[0, :channel].sum(0)  # (K,)
    given = prior - torch.logsumexp(prior, 0)
    log_prob = torch.logsumexp(given + channels[:, channel], dim=1)
    assert torch.logsumexp(log_prob, 0).item() == pytest.approx(0, abs=1e-9)
    assert log_prob.max() <= 1e-12


def test_a_pixels_probability_is_scipys():
    """One colour after another, from SciPy's logistic distribution and the paper's equations."""
    parameters = draw_parameters(1.0)
    values = parameters[0, :, 0, 0].numpy()
    weights = values[:3] - logsumexp(values[:3])
    means, log_scales, mixing = values[3:].reshape(3, 3, 3)  # each (channel, K)
    mixing = np.tanh(mixing)
    edges = np.r_[-np.inf, (GRID.numpy()[1:] + GRID.numpy()[:-1]) / 2, np.inf]
    for colour in [(0, 0, 0), (255, 255, 255), (0, 128, 255), (13, 200, 77)]:
        red, green, _ = GRID.numpy()[list(colour)]
        shifted = [
            means[0],
            means[1] + mixing[0] * red,
            means[2] + mixing[1] * red + mixing[2] * green,
        ]
        total = weights.copy()
        for mean, log_scale, value in zip(shifted, log_scales, colour, strict=True):
            law = logistic(mean, np.exp(log_scale))
            total += np.log(law.cdf(edges[value + 1]) - law.cdf(edges[value]))
        pixel = GRID[list(colour)].view(1, 3, 1, 1)
        assert pixel_log_prob(parameters, pixel).item() == pytest.approx(logsumexp(total))


def test_far_from_every_component_the_probability_is_finite():
    parameters = torch.zeros(1, n_parameters(1), 1, 1)
    parameters[0, 1:4] = -1.0  # means at black
    parameters[0, 4:7] = -7.0  # as narrow as can be
    parameters.requires_grad_(True)
    value = pixel_log_prob(parameters, torch.ones(1, 3, 1, 1)).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(parameters.grad).all()


def test_pixels_are_drawn_with_their_probabilities():
    parameters = draw_parameters(1.0, seed=3)
    torch.manual_seed(0)
    drawn = sample_pixels(parameters.expand(100_000, -1, -1, -1))[:, :, 0, 0]
    values = torch.round((drawn + 1) * 127.5).long()
    assert torch.allclose(drawn, GRID[values])
    every_red = at(GRID, GRID[[0]], GRID[[0]])
    log_weights, channels = channel_log_prob(parameters.expand(256, -1, -1, -1), every_red)
    red = torch.logsumexp((log_weights + channels[:, 0])[..., 0, 0], dim=1).exp()  # (256,)
    found = torch.bincount(values[:, 0], minlength=256) / len(values)
    assert 0.5 * (found - red).abs().sum() < 0.03, "total variation"
    # The whole colour: its mean log-probability is minus the entropy, which two halves agree on.
    every = parameters.expand(len(drawn), -1, -1, -1)
    log_prob = pixel_log_prob(every, drawn[:, :, None, None]).squeeze()
    halves = log_prob.view(2, -1)
    error = log_prob.std() / (len(log_prob) / 2) ** 0.5
    assert (halves[0].mean() - halves[1].mean()).abs() < 4 * error


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_scales", "edge"), [(1, 4), (2, 8), (3, 8)])
def test_no_pixel_looks_ahead_and_every_pixel_is_looked_back_at(n_scales, edge):
    """Change one pixel at a time: nothing said of it or of those before it changes."""
    torch.manual_seed(0)
    network = PixelCNNNetwork(6, 1, n_scales, n_parameters(2), 0.5).double().eval()
    original = torch.rand(1, 3, edge, edge, dtype=torch.float64) * 2 - 1
    batch = original.repeat(edge * edge, 1, 1, 1)
    for pixel in range(edge * edge):
        batch[pixel, :, pixel // edge, pixel % edge] *= -1
    with torch.no_grad():
        said = network(original).flatten(2)  # (1, 10 K, h w)
        change = (network(batch).flatten(2) - said).abs().amax(1)  # (changed pixel, pixel)
    ahead = torch.ones_like(change).triu()  # of a changed pixel: it and those after it
    assert (change * ahead.T).max() < 1e-12
    assert (change.amax(1)[:-1] > 1e-9).all(), "but those after it know"
    assert (change[:, 1:].amax(0) > 1e-9).all()


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    network = PixelCNNNetwork(4, 1, 2, n_parameters(2), 0.0)
    pixels = torch.rand(2, 3, 8, 8) * 2 - 1
    pixel_log_prob(network(pixels), pixels).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


# --- the density ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_finds_what_repeats_and_samples_have_it():
    """Of stripes only the first row is news; no density can need fewer bits than that."""
    settings = QUICK | {"n_filters": 16, "epochs": 40, "lr": 5e-3, "dropout": 0.0, "averaging": 0.9}
    density = PixelCNN(**settings | {"batch_size": 40}).fit(images(400))
    bits = density.bits_per_dim(images(200, seed=1)).mean()
    assert 2.0 < bits < 5.5, "8 without any knowledge of the image, 2 with all of it"
    assert density.losses_[-1] < density.losses_[0]
    drawn = density.sample(50)[0].astype(float)
    steps = np.abs(np.diff(drawn, axis=2)).mean()
    assert steps < 0.7 * np.abs(drawn - np.roll(drawn, 1, axis=0)).mean(), "rows repeat"


def test_bits_per_dim_is_the_log_likelihood(fitted):
    some = images(5, seed=2)
    scores = fitted.score_samples(some)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(fitted.bits_per_dim(some), -scores / (48 * np.log(2)))
    assert fitted.score(some) == pytest.approx(scores.mean())


def test_images_are_scored_one_by_one_as_all_together(fitted):
    some = images(20, seed=2)
    alone = np.concatenate([fitted.score_samples(some[[i]]) for i in range(len(some))])
    np.testing.assert_allclose(alone, fitted.score_samples(torch.from_numpy(some)), rtol=1e-5)


def test_the_same_seed_gives_the_same_density_and_leaves_torchs_own_alone(fitted):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    again = clone(fitted).fit(images())
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(again.score_samples(images(5)), fitted.score_samples(images(5)))
    np.testing.assert_array_equal(again.sample(2)[0], fitted.sample(2)[0])
    other = clone(fitted).set_params(random_state=1).fit(images())
    assert not np.array_equal(other.score_samples(images(5)), fitted.score_samples(images(5)))


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(fitted, tmp_path):
    checkpoint = tmp_path / "training.safetensors"
    PixelCNN(**QUICK | {"epochs": 1}).fit(images(), checkpoint=checkpoint)
    resumed = PixelCNN(**QUICK).fit(images(), checkpoint=checkpoint)
    resumed.save(tmp_path / "resumed.safetensors")
    fitted.save(tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    assert (tmp_path / "resumed.safetensors").read_bytes() == whole
    with pytest.raises(ValueError, match="is the checkpoint of another training"):
        PixelCNN(**QUICK | {"lr": 0.1}).fit(images(), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="images, parameters or seed differ"):
        PixelCNN(**QUICK).fit(images(seed=1), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="is the checkpoint of another training"):
        PixelCNN(**QUICK).fit(images(), checkpoint=tmp_path / "whole.safetensors")


def test_samples_are_images(fitted):
    drawn, components = fitted.sample(3)
    assert components is None
    assert (drawn.shape, drawn.dtype) == ((3, 3, 4, 4), np.uint8)
    assert drawn.std() > 10


def test_saved_and_loaded_it_is_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    loaded = PixelCNN.load(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert loaded.get_params() == fitted.get_params() | {"device": "auto"}
    loaded.set_params(device="cpu")
    np.testing.assert_array_equal(loaded.score_samples(images(5)), fitted.score_samples(images(5)))
    with pytest.raises(ValueError, match="holds a PixelCNN, not a DiagonalGMM"):
        DiagonalGMM.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_filters": 0}, "n_filters"),
        ({"n_mixtures": 0}, "n_mixtures"),
        ({"dropout": 1.0}, "dropout"),
        ({"averaging": -0.1}, "averaging"),
        ({"lr": 0}, r"^pixel_cnn\.lr must be above 0, got 0"),
        ({"lr_decay": 1.1}, "lr_decay"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "float16"}, "precision must be 'float32' or 'bfloat16', got 'float16'"),
        ({"n_scales": 9}, "n_scales must be at most 6, got 9"),
        ({"epochs": 2.5}, "epochs must be a whole number, got 2.5"),
        ({"n_scales": 4}, "multiples of 8, got 4 × 4: choose fewer scales"),
        ({"lr": 1e30}, "the loss became .*lower the learning rate"),
    ],
)
def test_a_bad_parameter_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        PixelCNN(**QUICK | changes).fit(images())


@pytest.mark.parametrize(
    "wrong",
    [images() / 255, images()[0], images()[:, :1], images()[:0], [[1, 2]], images().astype(int)],
)
def test_other_things_than_images_are_refused(fitted, wrong):
    with pytest.raises(ValueError, match=r"images must be uint8 \(n, 3, h, w\) with n ≥ 1"):
        PixelCNN(**QUICK).fit(wrong)
    with pytest.raises(ValueError, match="images must be uint8"):
        fitted.score_samples(wrong)


def test_images_of_another_size_are_refused(fitted):
    with pytest.raises(ValueError, match=r"fitted on \(3, 4, 4\) images, got \(3, 8, 8\)"):
        fitted.score_samples(images(edge=8))


def test_before_fit_there_is_nothing_to_ask():
    for ask in (lambda d: d.score_samples(images()), lambda d: d.sample(), lambda d: d.save("x")):
        with pytest.raises(NotFittedError):
            ask(PixelCNN())
