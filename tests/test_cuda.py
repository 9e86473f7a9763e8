"""A GPU's results are the CPU's: ``pytest -m cuda`` on a machine that has one."""

import numpy as np
import pytest
import torch

from mistakes_lib import bim, extract_features, fgsm
from mistakes_lib.density import DiagonalGMM, FeatureMAF, FeatureVAE, PixelCNN
from mistakes_lib.purification import purify
from mistakes_lib.training import supervised, train, train_temporal_ensembling
from mistakes_lib.training.ensembles import TemporalEnsembling
from mistakes_lib.training.recipe import Recipe
from tests.helpers.rows import assert_same_mixture, overlapping, start
from tests.helpers.semi_supervised import labelled_digits
from tests.helpers.training import (
    Killed,
    digit_images,
    small_densenet,
    stop_at_batch,
    tiny_net,
)

GPU = "cuda"
RECIPE = Recipe(epochs=8, batch_size=25, lr=0.1, max_shift=0, flip=False)
FEW = {"epochs": 2, "random_state": 0}
DENSITIES = {
    "gmm": lambda device: DiagonalGMM(5, random_state=0, device=device),
    "vae": lambda device: FeatureVAE(importance_samples=8, device=device, **FEW),
    "maf": lambda device: FeatureMAF(device=device, **FEW),
}

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]


@pytest.fixture(autouse=True)
def convolutions_in_whole_float32():
    """A GPU rounds the factors of a convolution to 10 bits by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("k", [1, 7, 60])
def test_em_from_the_same_start(k):
    rows = overlapping(n=2000, d=12)
    here, there = (
        DiagonalGMM(k, device=device, **start(rows, k)).fit(rows) for device in ("cpu", GPU)
    )
    assert_same_mixture(there, here)
    np.testing.assert_allclose(there.score_samples(rows), here.score_samples(rows), rtol=1e-9)


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_fitted_there_scores_alike_here(name):
    rows = overlapping(n=500, d=6).astype(np.float32)
    density = DENSITIES[name](GPU).fit(rows)
    there = density.score_samples(rows)
    assert np.isfinite(there).all()
    if name != "vae":  # whose importance weights are drawn by each device's own generator
        here = density.set_params(device="cpu").score_samples(rows)
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pixel_cnn_trained_there_scores_alike_here(precision):
    images = np.random.default_rng(0).integers(256, size=(20, 3, 8, 8), dtype=np.uint8)
    pixels = PixelCNN(
        n_filters=8, n_resnets=1, n_mixtures=2, n_scales=2, epochs=2, batch_size=10,
        precision=precision, device=GPU, random_state=0,
    ).fit(images)  # fmt: skip
    there = pixels.score_samples(images)
    here = pixels.set_params(device="cpu").score_samples(images)
    np.testing.assert_allclose(there, here, rtol=1e-4)


def test_one_network_on_both_devices_in_turn():
    """Features, then attacks, then a training: each leaves the network for the next to use."""
    network = small_densenet(dropout=0.0)
    images, labels = digit_images(100)
    here = extract_features(network, images, labels=labels, device="cpu")
    there = extract_features(network, images, labels=labels, device=GPU)
    np.testing.assert_allclose(there.features, here.features, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(there.logits, here.logits, rtol=1e-3, atol=1e-4)

    for attack in (fgsm, bim):
        attacked = [attack(network, images, labels, 8 / 255, device=d) for d in ("cpu", GPU)]
        same = np.isclose(*attacked, atol=1e-6).mean()
        assert same > 0.98  # the sign of a gradient near 0 is that of its rounding

    history = train(
        network, images, labels, RECIPE, validation=(images, labels), device=GPU, progress=False
    )
    assert history[-1]["loss"] < history[0]["loss"]
    trained = extract_features(network, images, labels=labels, device=GPU)
    assert trained.accuracy == pytest.approx(history[-1]["validation_accuracy"])


def test_a_training_there_goes_as_one_here():
    images, labels = digit_images(100)
    plain = Recipe(epochs=2, batch_size=25, lr=0.05, max_shift=0, flip=False)
    histories = [
        train(tiny_net(), images[:25], labels[:25], plain, device=device, progress=False)
        for device in ("cpu", GPU)  # one batch an epoch: the order, each device's own, is all one
    ]
    here, there = ([record["loss"] for record in history] for history in histories)
    assert there == pytest.approx(here, rel=1e-3)


def test_a_killed_training_goes_on(monkeypatch, tmp_path):
    images, labels = digit_images(100)
    options = {"device": GPU, "progress": False}
    undisturbed = train(tiny_net(), images, labels, RECIPE, **options)
    options["checkpoint"] = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at_batch(patch, supervised, 6)  # of 4 an epoch
        train(tiny_net(), images, labels, RECIPE, **options)
    resumed = train(tiny_net(), images, labels, RECIPE, **options)
    losses = [[record["loss"] for record in history] for history in (resumed, undisturbed)]
    np.testing.assert_allclose(*losses, rtol=1e-3)  # a GPU adds in no fixed order


@pytest.mark.parametrize("labelled_share", [None, 0.4])
def test_temporal_ensembling(labelled_share):
    images, labels, labelled = labelled_digits()
    history = train_temporal_ensembling(
        tiny_net(), images, labels, labelled, RECIPE, device=GPU, progress=False,
        ensembling=TemporalEnsembling(ramp_up=1, ramp_down=1, labelled_share=labelled_share),
    )  # fmt: skip
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["unsupervised_weight"] > 0


@pytest.mark.parametrize("lr", [None, 0.1])
def test_purification(lr):
    rows = overlapping(n=200, d=6)
    density = DiagonalGMM(5, random_state=0, device="cpu").fit(rows)
    here, there = (
        purify(rows, density, nu=0.1, lr=lr, steps=10, device=device) for device in ("cpu", GPU)
    )
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
