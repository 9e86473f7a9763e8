"""Networks by name: what they compute is their own, and a file of weights runs no code."""

import math
import os
import sys

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
