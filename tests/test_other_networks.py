"""Other people's networks, with random weights, are wrapped as they are."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier

NETWORKS = {
    "resnet": lambda: torchvision.models.resnet18(num_classes=7),
    "densenet": lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=7),
    "vit": lambda: torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=7,
    ),
    "convnext": lambda: torchvision.models.convnext_tiny(num_classes=7),
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(num_classes=7),
    "efficientnet": lambda: torchvision.models.efficientnet_b0(num_classes=7),
    "hugging face": lambda: LikeHuggingFace(),
}  # fmt: skip
WIDTHS = {"resnet": 512, "vit": 32, "convnext": 768, "mobilenet": 1024, "efficientnet": 1280}


class LikeHuggingFace(nn.Module):
    """A classifier that returns an object with its logits, among other things."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(5, 7)

    def forward(self, pixel_values):
        hidden = self.encoder(pixel_values).flatten(1)
        return SimpleNamespace(loss=None, logits=self.classifier(hidden), hidden_states=hidden)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_is_found_and_the_logits_are_the_networks_own(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    images = torch.rand(3, 3, 64, 64)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    watched = FeatureClassifier.from_module(network, mean=mean, std=std)
    standardised = torchvision.transforms.functional.normalize(images, mean, std)
    with torch.no_grad():
        output = network(standardised)
        expected = getattr(output, "logits", output)
        torch.testing.assert_close(watched(images), expected)
        features = watched.features(images)
    torch.testing.assert_close(watched.head(features).detach(), expected)
    assert features.shape == (3, WIDTHS.get(name, watched.num_features))
    assert watched.num_classes == 7


def test_a_network_with_two_heads_is_refused_until_one_is_named():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Flatten()
            self.coarse, self.fine = nn.Linear(48, 2), nn.Linear(48, 7)

        def forward(self, images):
            return self.coarse(self.body(images))

    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"'fine'.*candidates: coarse"):
        FeatureClassifier.from_module(TwoHeads())(images)
    assert FeatureClassifier.from_module(TwoHeads(), head="coarse")(images).shape == (2, 2)
