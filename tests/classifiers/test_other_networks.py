"""Other people's networks, with random weights, are wrapped as they are."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.features.feature_set import extract_features

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


# --- what users run into -------------------------------------------------------------------------


class Then(nn.Module):
    """A small network, and what its author does with its logits."""

    def __init__(self, change, outputs=5, channels=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(6, outputs)
        self.change = change

    def forward(self, images):
        return self.change(self.head(self.body(images).flatten(1)))


CHANGES = {  # to what its logits should be
    "softmax": (lambda z: z.softmax(dim=1), lambda z: z),
    "log_softmax": (lambda z: z.log_softmax(dim=1), lambda z: z),
    "a temperature": (lambda z: z / 2.5, lambda z: z / 2.5),
    "a tuple": (lambda z: (z, z.mean(dim=1)), lambda z: z),
    "a tuple, logits last": (lambda z: (z[:, :2].sum(), z), lambda z: z),
    "a dict": (lambda z: {"loss": z.sum(), "out": z}, lambda z: z),
    "(n, c, 1, 1)": (lambda z: z[:, :, None, None], lambda z: z),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_what_follows_the_last_layer_is_seen_through(change, dtype):
    torch.manual_seed(0)
    then, logits_of = CHANGES[change]
    network, images = Then(then).eval().to(dtype), torch.rand(4, 3, 8, 8)
    weight = network.head.weight.clone()
    watched = FeatureClassifier.from_module(network)
    found = extract_features(watched, images, device="cpu")
    with torch.no_grad():
        inner = network.head(network.body(images.to(dtype)).flatten(1))
    expected = logits_of(inner).float().numpy()
    np.testing.assert_allclose(found.logits, expected, rtol=2e-2, atol=2e-2)
    assert found.features.shape == (4, 6)
    assert torch.equal(network.head.weight, weight), "the network itself is left as it was"
    watched.features(images).sum().backward()  # and can be trained on


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda z: z.sigmoid(), r"'head'.*output \(4, 5\): neither its values, a multiple"),
        (lambda z: [{"boxes": z[:, :, None, None, None]}], "which is no \\(n, c\\) but list"),
        (lambda z: None, "no \\(n, c\\) but NoneType"),
    ],
)
def test_what_cannot_be_seen_through_has_its_true_reason(change, why):
    with pytest.raises(ValueError, match=why) as caught:
        FeatureClassifier.from_module(Then(change))(torch.rand(4, 3, 8, 8))
    assert "it is the only linear layer: wrap the network" in str(caught.value)


def test_a_detector_of_boxes_is_refused_clearly():
    network = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    with pytest.raises(ValueError, match=r"is not called once|which is no \(n, c\)|does not give"):
        FeatureClassifier.from_module(network)(torch.rand(1, 3, 320, 320))


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid(), nn.Flatten(0)])
def test_one_logit_is_two_classes(end):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Linear(6, 1), end)
    images = torch.rand(5, 3, 4, 4)
    watched = FeatureClassifier.from_module(network)
    z = network[2](network[1](images.flatten(1)))
    expected = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(watched(images), expected)
    assert watched.num_classes == 2


def test_a_head_of_1x1_convolutions_is_a_linear_layer():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = torch.rand(4, 3, 8, 8)
    watched = FeatureClassifier.from_module(network)
    torch.testing.assert_close(watched(images), network(images))
    assert watched.features(images).shape == (4, 6)


def test_an_embedding_changed_in_place_after_the_head_is_kept_as_the_head_read_it():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(48, 6), nn.Linear(6, 5)

        def forward(self, images):
            embedding = self.body(images.flatten(1))
            logits = self.head(input=embedding)
            nn.functional.relu(embedding, inplace=True)
            return logits

    torch.manual_seed(0)
    network, images = Late(), torch.rand(4, 3, 4, 4)
    found = extract_features(FeatureClassifier.from_module(network), images, device="cpu")
    with torch.no_grad():
        np.testing.assert_allclose(found.features, network.body(images.flatten(1)), rtol=1e-6)
        np.testing.assert_allclose(found.logits, network(images), rtol=1e-5, atol=1e-6)
    assert (found.features < 0).any()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_networks_are_unwrapped(wrap):
    network, images = Then(lambda z: z), torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(
        FeatureClassifier.from_module(wrap(network))(images), network(images)
    )


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused_by_its_name():
    scripted = torch.jit.trace(Then(lambda z: z), torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="is TorchScript, which does not show"):
        FeatureClassifier.from_module(scripted)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_than_three(channels):
    network, images = Then(lambda z: z, channels=channels), torch.rand(4, channels, 8, 8)
    torch.testing.assert_close(FeatureClassifier.from_module(network)(images), network(images))
    colour = FeatureClassifier.from_module(Then(lambda z: z), mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(ValueError, match="images have 4 channels, but the network's mean and std"):
        colour(torch.rand(2, 4, 8, 8))
