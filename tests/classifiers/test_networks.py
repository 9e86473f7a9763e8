"""The paper's networks against torchvision and their published size."""

import json

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from mistakes_lib.classifiers import (
    FeatureClassifier,
    build_classifier,
    densenet_bc,
    wide_resnet,
)
from tests.helpers.images import MEAN, STD, images, lively


def small_densenet(**options):
    return densenet_bc(4, **{"depth": 16, "growth_rate": 4} | options)


def small_wide_resnet(**options):
    return wide_resnet(4, **{"depth": 10, "widen_factor": 1} | options)


SMALL = [small_densenet, small_wide_resnet]


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_densenet_has_its_published_size():
    with torch.device("meta"):
        network = densenet_bc(10)
    assert count(network) == 769_162  # "0.8M" in Huang et al., table 2
    assert network.num_features == 342


def test_the_papers_wide_resnet_has_its_published_size():
    with torch.device("meta"):
        network = wide_resnet(10)
    assert count(network) == 36_479_194  # "36.5M" in Zagoruyko & Komodakis, table 4
    assert network.num_features == 640


def densenet_size(num_classes, depth, growth_rate, compression):
    """(parameters, features): layer i of a block of n sees c + i k channels, a series to sum."""
    n, k = (depth - 4) // 6, growth_rate
    channels, total = 2 * k, 3 * 2 * k * 9
    for block in range(3):
        inputs = n * channels + k * n * (n - 1) // 2  # Σ of the channels that its layers see
        total += inputs * (2 + 4 * k) + n * (8 * k + 36 * k * k)
        channels += n * k
        if block < 2:
            kept = int(channels * compression)
            total += 2 * channels + channels * kept
            channels = kept
    return total + 2 * channels + (channels + 1) * num_classes, channels


@pytest.mark.parametrize("depth", [10, 22, 40])
@pytest.mark.parametrize("growth_rate", [3, 12])
@pytest.mark.parametrize("compression", [0.3, 0.5, 1])
def test_densenets_size_is_the_closed_form(depth, growth_rate, compression):
    with torch.device("meta"):
        network = densenet_bc(7, depth=depth, growth_rate=growth_rate, compression=compression)
    expected = densenet_size(7, depth, growth_rate, compression)
    assert (count(network), network.num_features) == expected


def wide_resnet_size(num_classes, depth, widen_factor):
    n, c = (depth - 4) // 6, 16
    total = 3 * 16 * 9
    for width in (16 * widen_factor, 32 * widen_factor, 64 * widen_factor):
        total += 2 * c + 9 * c * width + (c * width if c != width else 0)  # entering the group
        total += (n - 1) * (2 * width + 9 * width * width)  # first halves of the other blocks
        total += n * (2 * width + 9 * width * width)  # second halves
        c = width
    return total + 2 * c + (c + 1) * num_classes


@pytest.mark.parametrize("depth", [10, 16, 40])
@pytest.mark.parametrize("widen_factor", [1, 2, 4])
def test_wide_resnets_size_is_the_closed_form(depth, widen_factor):
    with torch.device("meta"):
        network = wide_resnet(7, depth=depth, widen_factor=widen_factor)
    assert count(network) == wide_resnet_size(7, depth, widen_factor)
    assert network.num_features == 64 * widen_factor


def test_densenet_computes_what_torchvisions_does():
    ours = lively(small_densenet(last_activation="relu"))
    peer = torchvision.models.DenseNet(
        growth_rate=4, block_config=(2, 2, 2), num_init_features=8, bn_size=4, num_classes=4
    )
    # torchvision's stem is for ImageNet: put that for 32 × 32 images in its place.
    peer.features.conv0 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(peer.features, name, nn.Identity())
    weights = ours.state_dict()
    del weights["mean"], weights["std"]
    peer.load_state_dict(dict(zip(peer.state_dict(), weights.values(), strict=True)))
    torch.testing.assert_close(ours(images()), peer.eval()(images()))


def normalise(x, norm):
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return x.relu()


def test_wide_resnet_computes_what_its_authors_wrote_down():
    """The functional form of Zagoruyko's code, on our weights."""
    ours = lively(wide_resnet(4, depth=16, widen_factor=2))
    norms = iter([m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)])
    convs = {n: m.weight for n, m in ours.named_modules() if isinstance(m, nn.Conv2d)}
    shortcuts = iter([w for n, w in convs.items() if "shortcut" in n])
    convs = iter([w for n, w in convs.items() if "shortcut" not in n])
    x = F.conv2d(images(), next(convs), padding=1)
    for group in range(3):
        for block in range(2):
            stride = 2 if group and not block else 1
            o1 = normalise(x, next(norms))
            y = F.conv2d(o1, next(convs), stride=stride, padding=1)
            z = F.conv2d(normalise(y, next(norms)), next(convs), padding=1)
            x = z + (x if block else F.conv2d(o1, next(shortcuts), stride=stride))
    features = normalise(x, next(norms)).mean(dim=(2, 3))
    torch.testing.assert_close(ours.features(images()), features)
    assert [next(i, None) for i in (norms, convs, shortcuts)] == [None] * 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("small", [small_densenet, small_wide_resnet])
def test_tanh_bounds_the_features(small, training):
    network = small(last_activation="tanh")
    last_norm = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    nn.init.constant_(last_norm.weight, 50.0)
    features = network.train(training).features(10 * images())
    assert features.abs().max() <= 1
    assert features.min() < -0.01


@pytest.mark.parametrize("last", ["relu", "tanh"])
def test_the_last_activation_acts_on_the_last_normalisation_before_the_average(last):
    torch.manual_seed(0)
    network, seen = lively(small_wide_resnet(last_activation=last)), []
    last_norm = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    last_norm.register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    features = network.features(images())
    expected = getattr(torch, last)(seen[0]).mean(dim=(2, 3))
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("small", [small_densenet, small_wide_resnet])
def test_relu_features_are_not_bounded(small):
    network = small(last_activation="relu")
    last_norm = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    nn.init.constant_(last_norm.weight, 50.0)
    features = network.features(images())
    assert features.min() >= 0
    assert features.max() > 1


@pytest.mark.parametrize("make", SMALL)
def test_pixels_are_standardised_inside(make):
    inside = lively(make(mean=MEAN, std=STD))
    outside = make()
    outside.load_state_dict(
        inside.state_dict() | {"mean": outside.mean.clone(), "std": outside.std.clone()}
    )
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    torch.testing.assert_close(inside(images()), outside.eval()((images() - mean) / std))


@pytest.mark.parametrize("make", SMALL)
def test_a_batchs_other_images_do_not_matter(make):
    network = lively(make())
    whole = network(images())
    for row in range(len(whole)):
        torch.testing.assert_close(network(images()[row : row + 1])[0], whole[row])
    torch.testing.assert_close(network(images().flip(0)).flip(0), whole)


@pytest.mark.parametrize("make", SMALL)
def test_logits_are_the_head_of_the_features(make):
    network = lively(make())
    features = network.features(images())
    assert features.shape == (6, network.num_features)
    logits = features @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(images()), logits)
    assert logits.shape == (6, network.num_classes) == (6, 4)


@pytest.mark.parametrize("make", SMALL)
@pytest.mark.parametrize("size", [8, 16, 32])
def test_images_of_any_size_that_halves_twice(make, size):
    assert make().eval()(images(2, size)).shape == (2, 4)


@pytest.mark.parametrize("make", SMALL)
def test_gradients_reach_every_parameter_and_the_images(make):
    network, x = make(dropout=0.1), images().requires_grad_()
    F.cross_entropy(network(x), torch.arange(6) % 4).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert x.grad.abs().amax(dim=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("make", SMALL)
def test_dropout_acts_in_training_only(make):
    network = make(dropout=0.5)
    first, second = network(images()), network(images())
    assert not torch.allclose(first, second)
    network.eval()
    assert torch.equal(network(images()), network(images()))
    assert count(network) == count(make(dropout=0.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: small_densenet(mean=MEAN, std=STD, compression=0.7, last_activation="relu"),
        lambda: small_wide_resnet(mean=np.float32(MEAN), std=torch.tensor(STD), dropout=0.1),
        lambda: small_wide_resnet(last_activation="tanh"),
    ],
)
def test_the_description_makes_the_same_network(make):
    network = make()
    description = json.loads(json.dumps(network.architecture))
    again = build_classifier(description)
    assert again.architecture == network.architecture == description
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(images()), network.eval()(images()))


def test_building_does_not_use_up_the_description():
    description = {"name": "densenet_bc", "num_classes": 3, "depth": 10, "growth_rate": 2}
    before = dict(description)
    build_classifier(description)
    assert description == before


@pytest.mark.parametrize("name", ["resnet", None, "densenet"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match=r"unknown classifier .*densenet_bc.*wide_resnet"):
        build_classifier({"name": name, "num_classes": 10})


def test_a_description_without_classes_is_refused():
    with pytest.raises(ValueError, match="description of wide_resnet lacks num_classes"):
        build_classifier({"name": "wide_resnet", "depth": 10})


@pytest.mark.parametrize(
    ("make", "options", "complaint"),
    [
        (densenet_bc, {"num_classes": 1}, "num_classes must be at least 2, got 1"),
        (densenet_bc, {"depth": 4}, "depth must be 6 n"),
        (densenet_bc, {"depth": 101}, "depth must be 6 n .*got 101"),
        (densenet_bc, {"growth_rate": 0}, "growth_rate must be at least 1"),
        (densenet_bc, {"compression": 0}, "compression must be above 0, got 0"),
        (densenet_bc, {"compression": 1.1}, "compression must be at most 1"),
        (densenet_bc, {"compression": 0.1, "growth_rate": 1, "depth": 10}, "none of 3 channels"),
        (densenet_bc, {"dropout": 1.5}, "dropout must be below 1, got 1.5"),
        (densenet_bc, {"dropout": -0.1}, "dropout must be at least 0, got -0.1"),
        (densenet_bc, {"depth": 10.0}, "depth must be a whole number, got 10.0"),
        (densenet_bc, {"depht": 10}, "unknown key 'depht': did you mean 'depth'"),
        (
            densenet_bc,
            {"last_activation": "gelu"},
            "last_activation must be 'tanh' or 'relu', got 'gelu'",
        ),
        (densenet_bc, {"depth": 10, "std": (1, 0, 1)}, "std must be positive"),
        (wide_resnet, {"num_classes": 0}, "num_classes must be at least 2, got 0"),
        (wide_resnet, {"depth": 4}, "depth must be 6 n"),
        (wide_resnet, {"depth": 27}, "depth must be 6 n .*got 27"),
        (wide_resnet, {"widen_factor": 0}, "widen_factor must be at least 1"),
        (wide_resnet, {"dropout": 2}, "dropout"),
        (wide_resnet, {"last_activation": "Tanh"}, "last_activation must be 'tanh' or 'relu'"),
        (wide_resnet, {"depth": 10, "widen_factor": 1, "std": (1, np.nan, 1)}, "std must be"),
    ],
)
def test_bad_arguments_are_named(make, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(**{"num_classes": 10} | options)


def test_a_feature_classifier_is_its_parts():
    body = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Tanh())
    head = nn.Linear(5, 3)
    classifier = FeatureClassifier(body, head, mean=MEAN, std=STD)
    x = images(4, 4)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    torch.testing.assert_close(classifier(x), head(body((x - mean) / std)))
    assert (classifier.num_features, classifier.num_classes) == (5, 3)


@pytest.mark.parametrize("shape", [(3, 4, 4), (48,), (1, 2, 3, 4, 4)])
def test_only_batches_of_images_are_taken(shape):
    classifier = FeatureClassifier(nn.Flatten(), nn.Linear(48, 3))
    for ask in (classifier, classifier.features):
        with pytest.raises(ValueError, match=r"images must have shape \(n, 3, h, w\), got"):
            ask(torch.rand(shape))


def test_the_head_must_be_linear():
    with pytest.raises(TypeError, match=r"head must be an nn\.Linear, got Sequential"):
        FeatureClassifier(nn.Flatten(), nn.Sequential(nn.Linear(48, 3)))


def test_torch_compile_sees_the_whole_network_as_one_graph():
    network = densenet_bc(3, depth=10, growth_rate=4)
    images = torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        seen = torch._dynamo.explain(network)(images)
    assert seen.graph_break_count == 0 and seen.graph_count == 1
