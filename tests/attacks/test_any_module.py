"""Relatives of networks and images: an attack finds the same images whatever is wrapped around."""

import numpy as np
import pytest
import torch
from torch import nn

from mistakes_lib.attacks import bim, fgsm
from mistakes_lib.classifiers import FeatureClassifier

torch.manual_seed(3)
IMAGES, LABELS = torch.rand(16, 3, 8, 8), torch.arange(16) % 5
EPS = 0.03


class Then(nn.Module):
    """A small network whose author returns what they like of features and logits."""

    def __init__(self, change=lambda features, logits: logits, outputs=5, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(6, outputs)
        with torch.no_grad():
            self.head.weight.mul_(8)  # not far from saturated
        self.change = change

    def forward(self, images):
        features = self.body(images)
        return self.change(features, self.head(features))


EXPECTED = fgsm(Then(), IMAGES, LABELS, EPS, device="cpu")

RETURNED = {
    "features, logits": lambda f, z: (f, z),
    "logits, features": lambda f, z: (z, f),
    "a dict, features first": lambda f, z: {"features": f, "logits": z},
    "a dict of other names": lambda f, z: {"embedding": f, "out": z},
    "softmax": lambda f, z: z.softmax(dim=1),
    "log_softmax": lambda f, z: z.log_softmax(dim=1),
    "a dict of probabilities": lambda f, z: {"probabilities": z.softmax(dim=1)},
    "(n, c, 1, 1)": lambda f, z: z[:, :, None, None],
}


@pytest.mark.parametrize("name", RETURNED)
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_the_logits_are_found_in_what_a_network_returns(name, wrap):
    found = fgsm(wrap(Then(RETURNED[name])), IMAGES, LABELS, EPS, device="cpu")
    torch.testing.assert_close(found, EXPECTED)


def test_features_as_wide_as_the_logits_are_told_apart_by_their_name():
    same = Then(lambda f, z: {"features": f, "logits": z}, outputs=6)
    expected = fgsm(Then(outputs=6), IMAGES, LABELS, EPS, device="cpu")
    torch.testing.assert_close(fgsm(same, IMAGES, LABELS, EPS, device="cpu"), expected)


def test_matrices_of_which_none_is_as_wide_as_the_last_layer_are_refused():
    odd = Then(lambda f, z: (f[:, :3], f[:, :4]))
    with pytest.raises(ValueError, match=r"several matrices, \(1, 3\), \(1, 4\): wrap it in"):
        fgsm(odd, IMAGES, LABELS, EPS, device="cpu")


@pytest.mark.parametrize("last", [lambda f, z: z[:, 0], lambda f, z: (f, z)])
def test_one_logit_beside_features_or_flat(last):
    labels = LABELS % 2
    expected = fgsm(Then(outputs=1), IMAGES, labels, EPS, device="cpu")
    found = fgsm(Then(last, outputs=1), IMAGES, labels, EPS, device="cpu")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wrap", [lambda net: net, FeatureClassifier.from_module])
def test_networks_of_any_precision(dtype, wrap):
    found = fgsm(wrap(Then().to(dtype)), IMAGES, LABELS, EPS, device="cpu")
    assert found.dtype == torch.float32
    assert ((found - EXPECTED).abs() < 1e-3).double().mean() > 0.98, "signs, but of tiny gradients"


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.numpy()])
def test_images_may_have_their_channels_last_and_keep_them_there(convert):
    found = fgsm(Then(), convert(IMAGES.permute(0, 2, 3, 1)), LABELS, EPS, device="cpu")
    expected = EXPECTED.permute(0, 2, 3, 1)
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-6)


def test_a_list_of_bytes_is_read_as_an_array_of_them():
    pixels = (IMAGES * 255).round().to(torch.uint8)
    expected = fgsm(Then(), pixels, LABELS, EPS, device="cpu")
    for images in (list(pixels), list(pixels.numpy())):
        found = fgsm(Then(), images, LABELS, EPS, device="cpu")
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("attack", [fgsm, bim])
def test_callers_may_have_given_up_gradients(attack):
    net = Then()
    expected = attack(net, IMAGES, LABELS, EPS, device="cpu")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = attack(net, IMAGES.clone(), LABELS, EPS, device="cpu")
        torch.testing.assert_close(found.clone(), expected)


def test_images_of_other_channels_than_the_networks_are_said():
    with pytest.raises(
        ValueError, match=r"images have 3 channels, but Then takes 1: pass images of"
    ):
        fgsm(Then(channels=1), IMAGES, LABELS, EPS, device="cpu")
