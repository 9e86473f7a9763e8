"""Networks by name: what they compute is their own, and a file of weights runs no code."""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import normalize

from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.classifiers.loading import load_network, load_weights
from mistakes_lib.data.files import Preprocessing

CLASSES = ("cat", "dog", "owl")
MODULE = """
from torch import nn
from mistakes_lib.classifiers import FeatureClassifier

def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, num_classes))

def fixed():
    return make(4)

def own():
    return FeatureClassifier(nn.Flatten(), nn.Linear(48, 3), mean=(0.1, 0.2, 0.3))

def wrong():
    return 3

def broken():
    return {}["key"]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module in the current folder."""
    (tmp_path / "my_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "my_networks"
    sys.modules.pop("my_networks", None)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A ResNet-18 of three classes and a folder with its weights in both formats."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3).eval()
    folder = tmp_path_factory.mktemp("weights")
    save_file(network.state_dict(), folder / "resnet.safetensors")
    torch.save(network.state_dict(), folder / "resnet.pt")
    parallel = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": parallel}, folder / "checkpoint.pth")
    return network, folder


# --- which network -------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["resnet.safetensors", "resnet.pt", "checkpoint.pth"])
def test_a_network_of_torchvision_computes_what_it_computes_there(resnet, file):
    network, folder = resnet
    loaded = load_network("torchvision:resnet18", CLASSES, weights=folder / file)
    assert loaded.preprocessing == Preprocessing(256, 224, "bilinear")
    assert loaded.classes == CLASSES and file in loaded.description
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(normalize(pixels, preset.mean, preset.std))
        torch.testing.assert_close(loaded.classifier.eval()(pixels), expected)


def test_size_mean_and_std_can_be_ones_own(resnet):
    _, folder = resnet
    given = {"size": 64, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)}
    loaded = load_network(
        "torchvision:resnet18", CLASSES, weights=folder / "resnet.pt", head="fc", **given
    )
    assert loaded.preprocessing == Preprocessing(64, 64)
    torch.testing.assert_close(loaded.classifier.mean.flatten(), torch.tensor(given["mean"]))
    torch.testing.assert_close(loaded.classifier.std.flatten(), torch.tensor(given["std"]))


def test_torchvisions_own_weights_bring_their_classes(monkeypatch):
    seen = {}

    def get_model(name, weights):
        seen[name] = weights
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 1000))

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    loaded = load_network("torchvision:resnet18", ("tench", "otter"), weights="pretrained")
    assert loaded.classes[:2] == ("tench", "goldfish") and len(loaded.classes) == 1000
    assert seen == {"resnet18": torchvision.models.ResNet18_Weights.DEFAULT}


def test_a_network_of_timm_brings_its_configuration(monkeypatch, tmp_path):
    weights = tmp_path / "network.safetensors"
    network = timm.create_model("test_resnet", num_classes=3).eval()
    save_file(network.state_dict(), weights)
    loaded = load_network("timm:test_resnet", CLASSES, weights=weights)
    config = timm.data.resolve_model_data_config(network)
    edge = config["input_size"][-1]
    resized = math.floor(edge / config["crop_pct"])
    assert loaded.preprocessing == Preprocessing(resized, edge, config["interpolation"])
    pixels = torch.rand(2, 3, edge, edge)
    with torch.no_grad():
        expected = network(normalize(pixels, config["mean"], config["std"]))
        torch.testing.assert_close(loaded.classifier.eval()(pixels), expected)
    with pytest.raises(ValueError, match="no model 'test_resnett': did you mean 'test_resnet'"):
        load_network("timm:test_resnett", CLASSES, weights=weights)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        load_network("timm:test_resnet", CLASSES, weights=weights)


def test_a_function_of_the_current_folder_makes_the_network(module):
    before = list(sys.path)
    loaded = load_network(f"{module}:make", CLASSES, mean=(0, 0, 0), std=(1, 1, 1))
    assert (loaded.classifier.num_classes, loaded.classifier.num_features) == (3, 5)
    assert loaded.preprocessing == Preprocessing(256, 224)
    for size, expected in (((32, 32), Preprocessing(32, 32)), ((40, 30), Preprocessing())):
        found = load_network(f"{module}:make", CLASSES, image_size=size).preprocessing
        assert found == expected, "images that are all alike stay as they are"
    four = load_network(f"{module}:fixed", CLASSES, classes=("cat", "dog", "emu", "owl"))
    assert four.classes == ("cat", "dog", "emu", "owl")
    own = load_network(f"{module}:own", CLASSES).classifier
    assert isinstance(own, FeatureClassifier)
    torch.testing.assert_close(own.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "given", "error", "complaint"),
    [
        ("resnet18", {}, ValueError, "must be torchvision:NAME, timm:NAME or package"),
        ("torchvision:resnet81", {}, ValueError, "no classifier 'resnet81': did you mean 'resnet1"),
        ("torchvision:resnet18", {}, ValueError, "is not trained: give --weights FILE"),
        ("torchvision:resnet18", {"weights": "no.pt"}, FileNotFoundError, "no file of weights no"),
        ("no_module:make", {}, ImportError, "No module named 'no_module'"),
        ("my_networks:none", {}, RuntimeError, "there is no function 'none' in it"),
        ("my_networks:broken", {}, RuntimeError, "broken failed: KeyError: 'key'"),
        ("my_networks:wrong", {}, TypeError, "must return an nn.Module, got int"),
        ("my_networks:fixed", {}, ValueError, "has 4 outputs, but there are 3 classes: .*--class"),
        ("my_networks:own", {"head": "fc"}, ValueError, "has mean, std and head already"),
        ("my_networks:make", {"weights": "pretrained"}, ValueError, "decides itself"),
        ("my_networks:make", {"head": "9"}, ValueError, "no linear layer '9'; candidates: 1, 3"),
    ],
)
def test_what_is_no_network_is_said(module, name, given, error, complaint):
    with pytest.raises(error, match=complaint):
        load_network(name, CLASSES, **given)


def test_a_failed_download_says_what_to_do(monkeypatch):
    def get_model(name, weights):
        raise OSError("no\nnetwork")

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    with pytest.raises(ValueError, match=r"could not be had \(no network\): give --weights FILE"):
        load_network("torchvision:resnet18", CLASSES, weights="pretrained")


# --- which weights -------------------------------------------------------------------------------


class Bomb:
    """What unpickling it would do is make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_bomb_is_refused_and_not_executed(tmp_path, nested):
    trace, file = tmp_path / "executed", tmp_path / "bomb.pt"
    bomb = Bomb(str(trace))
    torch.save({"weight": bomb, "state_dict": {"0.weight": bomb}} if nested else bomb, file)
    with pytest.raises(ValueError, match=r"bomb\.pt is damaged or holds more than tensors.*not lo"):
        load_weights(nn.Sequential(nn.Linear(2, 2)), file)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists(), "the bomb is a real one"


def test_a_whole_network_in_a_file_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(ValueError, match="holds more than tensors, which could run code"):
        load_weights(nn.Linear(2, 2), tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"weight": torch.zeros(2, 2)}, "of another network: it has no bias"),
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(2), "x": torch.zeros(1)}, "has x, whic"),
        ({"fc.w": torch.zeros(2, 2)}, "it has no weight, bias, but it has fc.w, which the network"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}, r"shape \(3, 2\), not \(2, 2\)"),
        ({"weight": 3, "bias": torch.zeros(2)}, r"weight has shape \(\), not \(2, 2\)"),
        (torch.zeros(2), "holds no state dict but a Tensor"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, state, complaint):
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=complaint):
        load_weights(nn.Linear(2, 2), tmp_path / "weights.pt")


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_cut_file_of_weights_is_refused(resnet, tmp_path, suffix):
    _, folder = resnet
    contents = (folder / f"resnet.{suffix}").read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for share in (0, 0.001, 0.3, 0.999):
        cut.write_bytes(contents[: int(share * len(contents))])
        with pytest.raises(ValueError, match=r"cut\.\w+ is damaged") as caught:
            load_weights(nn.Linear(2, 2), cut)
        assert "\n" not in str(caught.value)


# --- what users run into: files of others ---------------------------------------------------------


def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


def renamed(state, prefix, **others):
    return {prefix + key: value for key, value in state.items()} | others


WRAPPED = {
    "as it is": lambda s: s,
    "before torch 0.4.1": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "DataParallel": lambda s: {"state_dict": renamed(s, "module."), "best_prec1": 91.7},
    "a tensor beside it": lambda s: {"lr": torch.tensor(0.1), "state_dict": s, "optimizer": {}},
    "torch.compile": lambda s: renamed(s, "_orig_mod."),
    "both": lambda s: {"model": renamed(s, "module._orig_mod.")},
    "Lightning": lambda s: {
        "epoch": 3,
        "state_dict": renamed(s, "model.", **{"loss.weight": torch.ones(3)}),
    },
    "Lightning, net": lambda s: {"state_dict": renamed(s, "net.")},
    "a name of one's own": lambda s: renamed(s, "my_backbone."),
    "thop": lambda s: s | {"total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
    "an average": lambda s: renamed(s, "module.", n_averaged=torch.tensor(7)),
    "numbers of NumPy": lambda s: {
        "model": s, "accuracy": np.float64(0.9), "step": np.int64(3), "curve": np.arange(3.0)
    },
    "timm and torchvision": lambda s: {
        "state_dict": s, "args": argparse.Namespace(lr=0.1, out=Path("runs")), "arch": "resnet"
    },
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_files_as_others_write_them_are_loaded(tmp_path, kind):
    trained, fresh = small(), small()
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    torch.save(WRAPPED[kind](trained.state_dict()), tmp_path / "weights.pth")
    load_weights(fresh, tmp_path / "weights.pth")
    images, tolerance = torch.rand(2, 3, 8, 8), 0.1 if kind == "half" else 0
    expected = trained.eval()(images)
    torch.testing.assert_close(fresh.eval()(images), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda net: _Inner(net)])
def test_a_wrapped_network_takes_a_plain_file(tmp_path, wrap):
    trained = small()
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    fresh = small()
    nn.init.zeros_(fresh[3].weight)
    load_weights(wrap(fresh), tmp_path / "weights.pt")
    assert torch.equal(fresh[3].weight, trained[3].weight)


class _Inner(nn.Module):
    """A network inside another, as in a Lightning module."""

    def __init__(self, net):
        super().__init__()
        self.model = net


def test_safetensors_in_any_case(tmp_path):
    trained, fresh = small(), small()
    nn.init.normal_(trained[3].weight)
    save_file(trained.state_dict(), tmp_path / "W.SAFETENSORS")
    load_weights(fresh, tmp_path / "W.SAFETENSORS")
    assert torch.equal(fresh[3].weight, trained[3].weight)


class Settings:
    """Somebody's own class beside the weights."""


@pytest.mark.parametrize("inside", [Settings(), np.array([Settings()], dtype=object)])
def test_a_class_beside_the_weights_is_named(tmp_path, inside):
    torch.save({"state_dict": small().state_dict(), "settings": inside}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"not loaded; .*object of \S*(Settings|ObjectDType)\)"
    ) as e:
        load_weights(small(), tmp_path / "w.pt")
    assert "\n" not in str(e.value)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_named(tmp_path):
    torch.jit.trace(small().eval(), torch.rand(1, 3, 8, 8)).save(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="TorchScript archive, whose layers cannot be observed"):
        load_weights(small(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_weights_without_auxiliary_heads_are_loaded_and_those_with_them(tmp_path, name):
    for auxiliary in (False, True):
        options = {"num_classes": 3, "aux_logits": auxiliary, "init_weights": False}
        net = torchvision.models.get_model(name, weights=None, **options)
        torch.save(net.state_dict(), tmp_path / "w.pt")
        loaded = load_network(f"torchvision:{name}", CLASSES, weights=tmp_path / "w.pt")
        assert torch.equal(loaded.classifier.head.weight, net.fc.weight) and loaded.layer == "fc"


def test_old_names_that_torchvision_itself_renames_are_loaded(tmp_path):
    options = {"image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 2,
               "hidden_dim": 8, "mlp_dim": 16, "num_classes": 3}  # fmt: skip
    trained, fresh = (torchvision.models.VisionTransformer(**options) for _ in range(2))
    nn.init.normal_(trained.heads.head.weight)
    state = {
        k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for k, v in trained.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.heads.head.weight, trained.heads.head.weight)


# --- what users run into: classes and channels ----------------------------------------------------


def test_timms_networks_have_their_classes_in_natural_order(tmp_path):
    names = sorted(f"class_{i}" for i in range(1, 12))
    net = timm.create_model("test_resnet", num_classes=11)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    loaded = load_network("timm:test_resnet", names, weights=tmp_path / "w.safetensors")
    assert loaded.classes == tuple(f"class_{i}" for i in range(1, 12))


def test_imagenets_classes_are_known_as_words_and_as_wordnets_numbers(monkeypatch):
    monkeypatch.setattr(
        torchvision.models,
        "get_model",
        lambda *_, **__: nn.Sequential(nn.Flatten(), nn.Linear(48, 1000)),
    )
    for folder, position in ((("n01440764", "n02084071"), 0), (("goldfish", "tench"), 0)):
        loaded = load_network("torchvision:resnet18", folder, weights="pretrained")
        assert len(loaded.classes) == 1000
        assert loaded.classes[position] in ("n01440764", "tench")


def test_a_network_of_grey_images_is_given_grey_ones(monkeypatch, tmp_path):
    (tmp_path / "grey_networks.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(2, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = load_network("grey_networks:make", CLASSES, image_size=(8, 8))
    assert loaded.preprocessing == Preprocessing(8, 8, channels=1)
    assert loaded.classifier.mean.flatten().tolist() == pytest.approx([0.449], abs=1e-3)
    own = load_network("grey_networks:make", CLASSES, image_size=(8, 8), mean=(0.1,), std=(0.3,))
    assert own.classifier(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"images of 1 channel, but mean has 3 and std 3 numbers"):
        load_network("grey_networks:make", CLASSES, mean=(0.1,) * 3, std=(0.3,) * 3)
    sys.modules.pop("grey_networks", None)
