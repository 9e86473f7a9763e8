"""Anybody's file of weights: wrappers, prefixes and extras come off; nothing in it is executed."""

import argparse
import pathlib
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mistakes_lib.support.storage import read_safetensors

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
EXTRAS = re.compile(
    r"(^|\.)(num_batches_tracked|total_ops|total_params|n_averaged)$|^(aux\d*|AuxLogits)\."
)
SHOWN = 3  # keys of each side in a message


def load_weights(net, path):
    """Load a state dict into a network; nothing in the file is executed.

    What torch itself loads is loaded: files from before torch 0.4.1 without BatchNorm's counters,
    too. Prefixes of DataParallel (``module.``), ``torch.compile`` (``_orig_mod.``) and Lightning
    (``model.``, ``net.``, …) come off, of the network as of the file.

    Args:
        net: ``nn.Module``.
        path: safetensors file, or one that torch.save wrote of a state dict or of a dict that
            holds one, such as "state_dict", "model_state_dict" or "model". Numbers of NumPy and
            an argparse.Namespace may stand beside the weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, holds more than tensors and numbers, or is of another network;
            the first keys on which both sides differ are named.

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
    if path.suffix.lower() == ".safetensors":
        state, _ = read_safetensors(path, framework="pt")
    else:
        state = _read_torch(path)
    expected = net.state_dict()
    state = _renamed(_state_dict(state), expected, path)
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
    net.load_state_dict(state, strict=False)  # what may be missing has been looked at


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


def _state_dict(found):
    """The dict of tensors in what a file holds."""
    for key in NESTED:
        if isinstance(found.get(key), dict):
            return _state_dict(found[key])
    if any(torch.is_tensor(value) for value in found.values()):
        return found
    inner = [value for value in found.values() if isinstance(value, dict)]
    inner = [own for own in inner if any(torch.is_tensor(value) for value in own.values())]
    return inner[0] if len(inner) == 1 else found


def _renamed(state, expected, path):
    """The state with the names that the network has, without what only trainers need."""
    plain = any("_orig_mod." in key for key in expected)
    state = {str(k) if plain else str(k).replace("_orig_mod.", ""): v for k, v in state.items()}
    own = next(iter(expected), "").partition(".")[0] + "."
    if all(key.startswith(own) for key in expected) and not any(k.startswith(own) for k in state):
        state = {own + key: value for key, value in state.items()}  # the network has a prefix
    needed = {key for key in expected if not EXTRAS.search(key)}
    best = max(_candidates(state, needed), key=lambda prefix: _matches(state, prefix, needed))
    whole = _matches(state, best, needed) == len(needed)
    named = {
        key.removeprefix(best): value
        for key, value in state.items()
        # Where all is found under a prefix, the rest belongs to the trainer: losses, metrics.
        if key.startswith(best) or not whole
    }
    return {k: v for k, v in named.items() if k in expected or not EXTRAS.search(k)}


def _candidates(state, needed):
    """Prefixes that the file may have before the network's own names, the usual ones first."""
    some = sorted(needed)[:SHOWN]
    found = {key.removesuffix(own) for own in some for key in state if key.endswith("." + own)}
    return list(dict.fromkeys((*PREFIXES, *sorted(found, key=len))))


def _matches(state, prefix, needed):
    return sum(prefix + key in state for key in needed)


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

    def some(keys):
        rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        return ", ".join(keys[:SHOWN]) + rest

    parts = [f"it has no {some(lacking)}"] if lacking else []
    if more:
        parts.append(f"it has {some(more)}, which the network lacks")
    return f"{path} is of another network: {', but '.join(parts)}"


def _read_torch(path):
    try:
        with torch.serialization.safe_globals(_harmless()):
            state = torch.load(path, map_location="cpu", weights_only=True)
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
        pathlib.PosixPath,
        pathlib.PurePosixPath,
    ]
