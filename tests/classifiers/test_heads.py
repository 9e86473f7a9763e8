"""Anybody's network is split at its last linear layer, and not changed."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from mistakes_lib.classifiers import (
    FeatureClassifier,
)
from tests.helpers.images import MEAN, STD, images, lively


def plain_net():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 7),
        nn.Tanh(),
        nn.Linear(7, 5),
    )


NETS = {
    "plain": plain_net,
    "resnet18": lambda: torchvision.models.resnet18(weights=None, num_classes=5),
    "densenet121": lambda: torchvision.models.densenet121(weights=None, num_classes=5),
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(weights=None, num_classes=5),
}
SIZES = {"plain": 8, "resnet18": 32, "densenet121": 32, "mobilenet": 32}
WIDTHS = {"plain": 7, "resnet18": 512, "densenet121": 1024, "mobilenet": 1024}


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_anybodys_network_is_split_and_not_changed(name):
    net = lively(NETS[name]())
    x = images(3, SIZES[name])
    weights, expected = copy.deepcopy(net.state_dict()), net(x)
    classifier = FeatureClassifier.from_module(net).eval()
    features = classifier.features(x)
    assert features.shape == (3, WIDTHS[name]) == (3, classifier.num_features)
    torch.testing.assert_close(features @ classifier.head.weight.T + classifier.head.bias, expected)
    assert torch.equal(classifier(x), expected)
    assert torch.equal(net(x), expected)
    assert not any(module._forward_hooks for module in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_a_wrapped_networks_pixels_are_standardised():
    net = plain_net()
    classifier = FeatureClassifier.from_module(net, mean=MEAN, std=STD)
    expected = net(torchvision.transforms.Normalize(MEAN, STD)(images()))
    torch.testing.assert_close(classifier(images()), expected)


def test_a_wrapped_networks_gradients_are_its_own():
    net = plain_net()
    alone = copy.deepcopy(net)
    classifier = FeatureClassifier.from_module(net)
    labels = torch.arange(6) % 5
    F.cross_entropy(classifier(images()), labels).backward()
    F.cross_entropy(alone(images()), labels).backward()
    for ours, own in zip(net.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, own.grad)
    assert len(list(classifier.parameters())) == len(list(net.parameters()))


def test_a_copy_is_independent():
    classifier = FeatureClassifier.from_module(plain_net())
    before = classifier(images())
    duplicate = copy.deepcopy(classifier)
    nn.init.zeros_(duplicate.head.weight)
    nn.init.ones_(duplicate.head.bias)
    assert torch.equal(duplicate(images()), torch.ones(6, 5))
    assert torch.equal(classifier(images()), before)


class TwoHeads(nn.Module):
    """The auxiliary head comes last in the module's own order, the real one does not."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(48, 6)
        self.real = nn.Linear(6, 5)
        self.auxiliary = nn.Linear(6, 5)

    def forward(self, x):
        hidden = self.hidden(x.flatten(1)).tanh()
        self.auxiliary(hidden)
        return self.real(hidden)


class Shared(nn.Module):
    """One layer, used twice: which of its inputs are the features?"""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(48, 48)

    def forward(self, x):
        return self.layer(self.layer(x.flatten(1)))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(48, 5)
        self.spare = nn.Linear(48, 5)

    def forward(self, x):
        return self.used(x.flatten(1))


def test_the_wrong_last_layer_is_noticed_and_the_others_named():
    net = TwoHeads()
    with pytest.raises(ValueError, match=r"'auxiliary'.* does not give .*candidates: hidden, real"):
        FeatureClassifier.from_module(net)(images(2, 4))
    classifier = FeatureClassifier.from_module(net, head="real")
    assert torch.equal(classifier(images(2, 4)), net(images(2, 4)))
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("net", "head", "complaint"),
    [
        (TwoHeads(), "hidden", r"'hidden'.* does not give .*candidates: real, auxiliary"),
        (Unused(), None, r"'spare'.* is not called once .*candidates: used"),
        (Shared(), None, r"'layer', \(48, 48\), is not called once .*only linear layer: wrap"),
    ],
)
def test_a_layer_that_is_not_the_head_is_refused_at_the_first_batch(net, head, complaint):
    with pytest.raises(ValueError, match=complaint):
        FeatureClassifier.from_module(net, head=head)(images(2, 4))


def test_networks_without_such_a_layer_are_refused():
    with pytest.raises(ValueError, match=r"Sequential has no nn\.Linear layer"):
        FeatureClassifier.from_module(nn.Sequential(nn.Conv2d(3, 5, 8), nn.Flatten()))
    with pytest.raises(ValueError, match="no linear layer 'fc'; candidates: 3, 5"):
        FeatureClassifier.from_module(plain_net(), head="fc")
    with pytest.raises(ValueError, match="std must be positive"):
        FeatureClassifier.from_module(plain_net(), std=(1.0, -1.0, 1.0))
