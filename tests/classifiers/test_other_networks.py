"""Other people's networks, with random weights, are wrapped as they are."""

from functools import partial

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier

TIMM = {  # its own small versions, made for tests, where there is one
    "test_resnet": {},
    "densenet121": {"growth_rate": 8, "block_config": (2, 2)},
    "test_vit": {"img_size": 64},
    "test_convnext": {},
    "mobilenetv3_small_050": {},
    "test_efficientnet": {},
}
TRANSFORMERS = {
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "ViT": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "ConvNext": {"hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1]},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "EfficientNet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    "Swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]},
}


def transformer(kind, settings):
    """A classifier of Hugging Face's, which returns an object with its logits, among others."""
    if kind in ("ViT", "Swin"):
        settings = settings | {"image_size": 64, "patch_size": 4 if kind == "Swin" else 16}
    config = getattr(transformers, f"{kind}Config")(num_labels=7, **settings)
    return getattr(transformers, f"{kind}ForImageClassification")(config)


NETWORKS = {
    "resnet": (lambda: torchvision.models.resnet18(num_classes=7), 512),
    "densenet": (lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=7), 32),
    "vit": (
        lambda: torchvision.models.VisionTransformer(
            image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
            num_classes=7,
        ),
        32,
    ),
    "convnext": (lambda: torchvision.models.convnext_tiny(num_classes=7), 768),
    "mobilenet": (lambda: torchvision.models.mobilenet_v3_small(num_classes=7), 1024),
    "efficientnet": (lambda: torchvision.models.efficientnet_b0(num_classes=7), 1280),
    **{
        f"timm {name}": (partial(timm.create_model, name, num_classes=7, **settings), None)
        for name, settings in TIMM.items()
    },
    **{f"transformers {k}": (partial(transformer, k, s), None) for k, s in TRANSFORMERS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_is_found_and_the_logits_are_the_networks_own(name):
    torch.manual_seed(0)
    make, width = NETWORKS[name]
    network = make().eval()
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
    assert features.shape == (3, width or watched.num_features)
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
