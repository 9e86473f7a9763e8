"""Anybody's file of weights: wrappers, prefixes and extras come off; nothing in it is executed."""

import argparse
import datetime
import pathlib
import re
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mistakes_lib.support.storage import open_npz, read_safetensors

__all__ = ["load_weights", "unwrap"]

# Where checkpoints keep the weights, in the order in which they are looked for.
NESTED = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema",
)
PREFIXES = ("", "module.", "model.", "net.", "network.", "classifier.", "backbone.", "encoder.")
# What trainers add to a state dict and no network needs: PyTorch's counters, thop's, the averages'
# and the auxiliary heads that only training uses.
AUXILIARY = re.compile(r"^(aux\d*|AuxLogits)\.")
EXTRAS = re.compile(
    rf"(^|\.)(num_batches_tracked|total_ops|total_params|n_averaged)$|{AUXILIARY.pattern}"
)
SHOWN = 3  # keys of each side in a message


def load_weights(net, path):
    """Load a state dict into a network; nothing in the file is executed.

    What torch itself loads is loaded: files from before torch 0.4.1 without BatchNorm's counters,
    too. Prefixes of DataParallel (``module.``), ``torch.compile`` (``_orig_mod.``) and Lightning
    (``model.``, ``net.``, …) come off, of the network as of the file.

    Args:
        net: ``nn.Module``.
        path: safetensors file, npz file, or one that torch.save wrote of a state dict or of a dict
            that holds one, such as "state_dict", "model_state_dict" or "model"; what it holds
            decides, and not its suffix. Arrays of NumPy count as tensors. Plain values of the
            standard library (numbers, dates, paths, namespaces) may stand beside the weights.

    Warns:
        UserWarning: the file holds an average of the weights as well, or lacks an auxiliary head of
            the network, which stays as it was.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, holds more than tensors and plain values, holds the weights of
            several such networks, or is of another network; the first keys on which both sides
            differ are named.

    Example:
        >>> import tempfile
        >>> trained, fresh = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.pt"
        ...     torch.save({"state_dict": {"module.weight": trained.weight.data,
        ...                                "module.bias": trained.bias.data}}, path)
        ...     load_weights(fresh, path)
        >>> torch.equal(fresh.weight, trained.weight)
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights {path}")
    net = unwrap(net)
    expected = net.state_dict()
    state = _renamed(_state_dict(_read(path), path), expected, path)
    lacking = [key for key in expected if key not in state and not EXTRAS.search(key)]
    more = [key for key in state if key not in expected]
    if lacking and more:
        lacking, more = _after_torch(net, state, lacking, more)
    if lacking or more:
        raise ValueError(_difference(path, lacking, more))
    for key, value in expected.items():
        found = tuple(getattr(state.get(key, value), "shape", ()))
        if found != tuple(value.shape):
            raise ValueError(
                f"{path} is of another network: {key} has shape {found}, not {tuple(value.shape)}; "
                "if it has other classes than the folder, name them in a file for --classes"
            )
    if heads := [key for key in expected if key not in state and AUXILIARY.search(key)]:
        warnings.warn(
            f"{path} has no {_some(heads)}: these stay as they were made, at random, which does no "
            "harm where only training uses such auxiliary heads",
            stacklevel=2,
        )
    try:
        net.load_state_dict(state, strict=False)  # what may be missing has been looked at
    except RuntimeError as error:  # such as quantised tensors
        raise ValueError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from None


def unwrap(net):
    """The network inside DataParallel, DistributedDataParallel, torch.compile or an average.

    Args:
        net: ``nn.Module``.

    Returns:
        ``nn.Module`` with the same parameters.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> unwrap(nn.DataParallel(net)) is net
        True
    """
    wrappers = (
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
        torch.optim.swa_utils.AveragedModel,
    )
    while True:
        if isinstance(net, wrappers):
            net = net.module
        elif isinstance(getattr(net, "_orig_mod", None), nn.Module):
            net = net._orig_mod
        else:
            return net


def _read(path):
    """What a file holds, whatever its suffix says."""
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix.lower() == ".safetensors" and not zipfile.is_zipfile(path):
        return read_safetensors(path, framework="pt")[0]
    if start[8:] == b"{":  # after the length of safetensors' header
        return read_safetensors(path, framework="pt")[0]
    if _is_npz(path):
        try:
            with open_npz(path) as arrays:
                return dict(arrays)
        except Exception as error:  # zip, zlib and NumPy have kinds of their own
            raise ValueError(f"{path} is damaged or holds more than arrays: {error}") from None
    return _read_torch(path)


def _is_npz(path):
    """Whether a file is a zip archive of NumPy's arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _state_dict(found, path):
    """The dict of tensors in what a file holds."""
    found = {key: _as_tensor(value) for key, value in found.items()}
    usual = [key for key in NESTED if _holds_tensors(found.get(key))]
    if usual:
        averages = [key for key in usual[1:] if key.endswith("ema")]
        if averages:
            warnings.warn(
                f"{path} holds {usual[0]} and {averages[0]}, an average of the weights: "
                f"{usual[0]} is taken; save the other alone if the network is to have it",
                stacklevel=3,
            )
        return _state_dict(found[usual[0]], path)
    if any(torch.is_tensor(value) for value in found.values()):
        return found
    inner = [value for value in found.values() if _holds_tensors(value)]
    return _state_dict(inner[0], path) if len(inner) == 1 else found


def _as_tensor(value):
    """An array of numbers as a tensor; anything else as it is."""
    is_number = isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf"
    return torch.tensor(np.asarray(value)) if is_number else value


def _holds_tensors(value):
    """Whether a value is a dict with tensors, at any depth, and not an optimiser's."""
    if not isinstance(value, dict) or {"state", "param_groups"} <= set(value):
        return False
    return any(torch.is_tensor(_as_tensor(v)) or _holds_tensors(v) for v in value.values())


def _renamed(state, expected, path):
    """The state with the names that the network has, without what only trainers need."""
    plain = any("_orig_mod." in key for key in expected)
    state = {str(k) if plain else str(k).replace("_orig_mod.", ""): v for k, v in state.items()}
    needed = {key for key in expected if not EXTRAS.search(key)}
    own = _common_prefix(needed)  # a network may be inside another
    depths = [own[:i] for i in range(len(own) + 1) if i == 0 or own[i - 1] == "."]
    found = {
        (off, on): sum(off + key.removeprefix(on) in state for key in needed)
        for on in depths
        for off in _candidates(state, {key.removeprefix(on) for key in needed})
    }
    off, on = max(found, key=found.get)
    whole = found[off, on] == len(needed)
    if whole and off not in PREFIXES:
        _refuse_twins(path, [o for (o, n) in found if n == on and found[o, n] == len(needed)])
    named = {
        on + key.removeprefix(off): value
        for key, value in state.items()
        # Where all is found under a prefix, the rest belongs to the trainer: losses, metrics.
        if key.startswith(off) or not whole
    }
    return {k: v for k, v in named.items() if k in expected or not EXTRAS.search(k)}


def _common_prefix(keys):
    """What all names begin with, to the last dot."""
    parts = [key.split(".")[:-1] for key in keys]
    shortest = min(parts, key=len, default=[])
    same = 0
    while same < len(shortest) and all(p[same] == shortest[same] for p in parts):
        same += 1
    return "".join(f"{part}." for part in shortest[:same])


def _candidates(state, needed):
    """Prefixes that the file may have before the network's own names, the usual ones first."""
    some = sorted(needed)[:SHOWN]
    found = {key.removesuffix(own) for own in some for key in state if key.endswith("." + own)}
    return list(dict.fromkeys((*PREFIXES, *sorted(found, key=lambda each: (len(each), each)))))


def _refuse_twins(path, prefixes):
    """Raise ValueError where nobody can tell which of several networks is meant."""
    if len(prefixes) > 1:
        raise ValueError(
            f"{path} holds the weights of {len(prefixes)} such networks, under "
            f"{', '.join(prefixes)}: save those of one alone"
        )


def _after_torch(net, state, lacking, more):
    """What differs once the network's own hooks have renamed old keys, as torchvision's do."""
    try:
        found = net.load_state_dict(state, strict=False)
    except RuntimeError:
        return lacking, more
    lacking = [key for key in found.missing_keys if not EXTRAS.search(key)]
    return lacking, found.unexpected_keys


def _difference(path, lacking, more):
    """One line that shows the first keys of both sides."""
    parts = [f"it has no {_some(lacking)}"] if lacking else []
    if more:
        parts.append(f"it has {_some(more)}, which the network lacks")
    return f"{path} is of another network: {', but '.join(parts)}"


def _some(keys):
    rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + rest


def _read_torch(path):
    try:
        # An open file, since torch would take its name for its kind.
        with torch.serialization.safe_globals(_harmless()), path.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip have many kinds, and torch's messages many lines
        text = " ".join(str(error).split())
        if "TorchScript" in text:
            raise ValueError(
                f"{path} is a TorchScript archive, whose layers cannot be observed: save "
                "net.state_dict() of the Python network"
            ) from None
        culprit = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"class '?([\w.]+)", text)
        reason = f"an object of {culprit[1]}" if culprit else type(error).__name__
        raise ValueError(
            f"{path} is damaged or holds more than tensors, which could run code: it was not "
            f"loaded; save net.state_dict() with safetensors ({reason})"
        ) from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no state dict but a {type(state).__name__}")
    return state


def _harmless():
    """What may stand beside the weights: making one of these runs no code of the file's author."""
    dtypes = [kind for name, kind in vars(np.dtypes).items() if name.endswith("DType")]
    core = "multiarray"
    scalar, rebuild = np._core.multiarray.scalar, np._core.multiarray._reconstruct
    return [
        *(kind for kind in dtypes if isinstance(kind, type) and kind is not np.dtypes.ObjectDType),
        np.dtype,
        np.ndarray,
        *((scalar, f"numpy.{package}.{core}.scalar") for package in ("core", "_core")),
        *((rebuild, f"numpy.{package}.{core}._reconstruct") for package in ("core", "_core")),
        argparse.Namespace,
        types.SimpleNamespace,
        (_plain_dict, "collections.defaultdict"),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(bool, int, float, str, list, tuple, dict, set, frozenset, slice, range),
        *(pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
        # As Python 3.13 calls them, and those of Windows, which no other system can make.
        (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
        (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
        (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    ]


def _plain_dict(*_):
    """An empty dict in the place of a defaultdict, which torch would not fill."""
    return {}
