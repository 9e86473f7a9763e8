"""Relatives of the files in ``test_loading``: other wrappers, prefixes, containers and suffixes."""

import collections
import datetime
import pathlib
import pickle
import types
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mistakes_lib.classifiers.weights import load_weights


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


class Inside(nn.Module):
    """A network under a name of somebody's, as in a Lightning module."""

    def __init__(self, net, name="model"):
        super().__init__()
        setattr(self, name, net)


TRAINED, OTHER = small(1).state_dict(), small(2).state_dict()


def under(prefix, state=TRAINED, **others):
    return {prefix + key: value for key, value in state.items()} | others


def arrays(state):
    return {key: value.numpy() for key, value in state.items()}


def assert_loaded(path, net=None):
    """Whether the network has the trained weights now; it began with others."""
    net = small(3) if net is None else net
    load_weights(net, path)
    found = list(net.state_dict().values())[: len(TRAINED)]
    assert all(torch.equal(a, b) for a, b in zip(found, TRAINED.values(), strict=True))


@pytest.mark.parametrize(
    "wrap", ["", "module.", "net.", "module.net.", "_orig_mod.", "classifier."]
)
@pytest.mark.parametrize("depth", [1, 2])
def test_prefixes_come_off_the_file_where_the_network_has_others(tmp_path, wrap, depth):
    torch.save({"state_dict": under(wrap)}, tmp_path / "w.pt")
    net = Inside(small(3))
    assert_loaded(tmp_path / "w.pt", net if depth == 1 else Inside(net, "backbone"))


HOLDERS = {
    "settings under the usual name": {"model": {"name": "resnet20"}, "weights": TRAINED},
    "unusual names, twice": {"checkpoint": {"best": under("module.")}, "epoch": 3},
    "beside an optimiser": {
        "backbone_weights": TRAINED,
        "optimizer": torch.optim.Adam(small().parameters()).state_dict(),
    },
    "arrays": arrays(TRAINED),
    "arrays in a dict": {"state_dict": arrays(TRAINED), "accuracy": np.float32(0.9)},
}
BESIDE = {
    "defaultdict": collections.defaultdict(list, {"loss": [0.1]}),
    "dates": [datetime.datetime(2020, 1, 2), datetime.timedelta(1), datetime.date(2020, 1, 2)],
    "namespace": types.SimpleNamespace(lr=0.1),
    "sets and ranges": [frozenset({1}), {2}, range(3), slice(1, 2)],
    "a path of Windows": pathlib.PureWindowsPath("runs"),
    "a path of this system": pathlib.Path("runs"),
}
HOLDERS |= {name: {"state_dict": TRAINED, "beside": value} for name, value in BESIDE.items()}


@pytest.mark.parametrize("name", HOLDERS)
def test_weights_are_found_whatever_holds_them(tmp_path, name):
    torch.save(HOLDERS[name], tmp_path / "w.pt")
    assert_loaded(tmp_path / "w.pt")


@pytest.mark.parametrize("module", ["pathlib._local", "pathlib"])
@pytest.mark.parametrize("kind", ["PosixPath", "WindowsPath"])
def test_paths_of_other_versions_and_systems_may_stand_beside(tmp_path, module, kind):
    """As Python 3.13 and Windows write them: the name of the class differs, nothing else."""
    state = {"state_dict": TRAINED, "path": pathlib.PureWindowsPath("a")}

    class Renaming(pickle._Pickler):
        def save_global(self, obj, name=None):
            if obj is not pathlib.PureWindowsPath:
                return super().save_global(obj, name)
            self.write(b"c" + f"{module}\n{kind}\n".encode())
            self.memoize(obj)

    impostor = types.SimpleNamespace(
        Pickler=Renaming, Unpickler=pickle.Unpickler, __name__="renaming"
    )
    torch.save(state, tmp_path / "w.pt", pickle_module=impostor)
    assert f"{module}\n{kind}".encode() in (tmp_path / "w.pt").read_bytes()
    assert_loaded(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "bin", "npz", "ckpt"])
@pytest.mark.parametrize("kind", ["torch", "safetensors", "npz"])
def test_the_contents_of_a_file_decide_and_not_its_suffix(tmp_path, kind, suffix):
    path = tmp_path / f"w.{suffix}"
    with path.open("wb") as file:
        if kind == "torch":
            torch.save(TRAINED, file)
        elif kind == "npz":
            np.savez(file, **arrays(TRAINED))
    if kind == "safetensors":
        save_file(TRAINED, path)
    assert_loaded(path)


def test_an_npz_file_with_objects_is_not_read(tmp_path):
    np.savez(tmp_path / "w.npz", weight=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"w\.npz is damaged or holds more than arrays"):
        load_weights(small(), tmp_path / "w.npz")


@pytest.mark.parametrize("names", [("student.", "teacher."), ("online.", "target.")])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_two_networks_in_one_file_are_not_drawn_lots_for(tmp_path, names, suffix):
    state = under(names[0]) | under(names[1], OTHER)
    (save_file if suffix == "safetensors" else torch.save)(state, tmp_path / f"w.{suffix}")
    with pytest.raises(ValueError, match=f"2 such networks, under {', '.join(names)}: save those"):
        load_weights(small(), tmp_path / f"w.{suffix}")


def test_a_usual_name_goes_before_its_average(tmp_path):
    torch.save(under("model.") | under("model_ema.", OTHER), tmp_path / "w.pt")
    assert_loaded(tmp_path / "w.pt")


@pytest.mark.parametrize("names", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_of_weights_and_their_average_it_is_said_which_are_taken(tmp_path, names):
    torch.save(dict(zip(names, (TRAINED, OTHER), strict=True)), tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=f"holds {names[0]} and {names[1]}, an average.*is taken"):
        assert_loaded(tmp_path / "w.pt")


def test_an_auxiliary_head_that_the_file_lacks_is_said(tmp_path):
    """It may as well be a layer in use that happens to be called so."""
    net = small(3)
    net.aux1 = nn.Linear(3, 3)
    torch.save(TRAINED, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=r"has no aux1\.weight, aux1\.bias: these stay as they we"):
        assert_loaded(tmp_path / "w.pt", net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_loaded(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_weights_are_refused_in_one_line(tmp_path):
    quantised = {
        k: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8) if v.is_floating_point() else v
        for k, v in TRAINED.items()
    }
    torch.save(quantised, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt cannot be loaded: .*quantized") as caught:
        load_weights(small(), tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
