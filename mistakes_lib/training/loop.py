"""The one loop of all that is trained here: epochs, checkpoints, exact resume, averaged weights.

Classifiers, Temporal Ensembling, the densities of features and the PixelCNN say what one epoch
does, and leave the rest to :func:`run_epochs`. A killed training goes on at its last whole epoch
and ends with the same bits, because a :class:`Checkpoint` holds all that an epoch depends on.
"""

import json
import math
import time
from functools import partial
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel

from mistakes_lib.support.storage import load_arrays, save_arrays
from mistakes_lib.training import distributed as processes

__all__ = [
    "Checkpoint",
    "adopt_average",
    "averaged",
    "own_random_state",
    "run_epochs",
    "set_learning_rate",
]

# Name in a file → torch's name of what an optimiser keeps for each parameter.
ENTRIES = {
    "momentum": "momentum_buffer",
    "exp_avg": "exp_avg",
    "exp_avg_sq": "exp_avg_sq",
    "step": "step",
}
RANDOM = "random_state"


class Checkpoint:
    """All that a training needs to go on to the bit, in one safetensors file.

    Args:
        path: the file; None keeps nothing.
        signature: JSON of what must agree before the file may be resumed.
        network: the module in training.
        optimizer: its SGD or Adam.
        average: what :func:`averaged` made, or None.
        state: dict of name → tensor: what else the epochs depend on, restored in place.
        random_state: keep torch's random state, for epochs that do not seed themselves.

    Example:
        >>> import tempfile
        >>> layer = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Checkpoint(Path(folder) / "file", '{"seed": 0}', layer, optimizer)
        ...     before = checkpoint.load()
        ...     checkpoint.save([{"loss": 1.0}])
        ...     before, checkpoint.load()
        ([], [{'loss': 1.0}])
    """

    def __init__(
        self, path, signature, network, optimizer, *, average=None, state=None, random_state=False
    ):
        self.path, self.signature = path and Path(path), signature
        self.network, self.optimizer, self.random_state = network, optimizer, random_state
        self.state = dict(state or {})
        if average is not None:
            self.state |= {f"average.{name}": value for name, value in _floats(average.module)}

    def save(self, history):
        """Write the file, whole or not at all.

        Args:
            history: list of the epochs' records.
        """
        if self.path is None:
            return
        arrays = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            kept = self.optimizer.state.get(parameter, {})  # nothing for a frozen one
            arrays |= {f"{e}.{name}": kept[entry] for e, entry in ENTRIES.items() if entry in kept}
        arrays |= {f"state.{name}": tensor for name, tensor in self.state.items()}
        if self.random_state:
            arrays[RANDOM] = torch.get_rng_state()
            if torch.cuda.is_initialized():
                arrays[f"{RANDOM}.cuda"] = torch.cuda.get_rng_state()
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
        save_arrays(self.path, arrays, {"signature": self.signature, "history": history})

    @torch.no_grad()
    def load(self):
        """Load the file, if there is one, into network, optimiser, average and state.

        Returns:
            list of the records of the epochs that are done.

        Raises:
            ValueError: the file is damaged, or has another signature.
        """
        if self.path is None or not self.path.exists():
            return []
        arrays, metadata = load_arrays(self.path)
        if metadata.get("signature") != self.signature:
            *most, last = sorted(json.loads(self.signature))
            raise ValueError(
                f"{self.path} is the checkpoint of another training ({', '.join(most)} or {last} "
                "differ): delete it or choose another folder"
            )
        part = partial(_part, arrays)
        self.network.load_state_dict(part("weights."))
        for e, entry in ENTRIES.items():
            values = part(f"{e}.")
            for name, parameter in self.network.named_parameters():
                if name in values:
                    self.optimizer.state[parameter][entry] = _like(values[name], parameter)
        for name, tensor in part("state.").items():
            self.state[name].copy_(tensor)
        if self.random_state:
            torch.set_rng_state(torch.from_numpy(arrays[RANDOM]))
            if f"{RANDOM}.cuda" in arrays:
                torch.cuda.set_rng_state(torch.from_numpy(arrays[f"{RANDOM}.cuda"]))
        return metadata["history"]


def _like(value, parameter):
    """A value of an optimiser in the layout and on the device of its parameter.

    Adam's count of steps, a single number, stays on the CPU, where Adam wants it.
    """
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter).copy_(value)


def _part(arrays, prefix):
    return {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def run_epochs(one_epoch, checkpoint, history, *, epochs, bars, device, tell=None, stop=None):
    """Run the epochs that are left, and write the checkpoint after each.

    Args:
        one_epoch: called with ``epoch`` (from 0) and a progress ``bar``; returns a record, a
            dict with ``loss`` and whatever else is to be kept.
        checkpoint: :class:`Checkpoint`.
        history: list of records of the epochs that are done, as ``checkpoint.load()`` returned it;
            each record is added to it, with the ``seconds`` that it took.
        epochs: how many there are to be in the end.
        bars: function of the epoch that returns a context manager with its bar.
        device: torch.device.
        tell: called with the epoch and its record, in the main process only; or None.
        stop: called with the history before each epoch; True ends the training. Or None.

    Raises:
        ValueError: a loss left the finite numbers; nothing of this epoch is kept.
        RuntimeError: several processes do not see the same checkpoint.
    """
    check_common_start(len(history), device)
    for epoch in range(len(history), epochs):
        if stop is not None and stop(history):
            return
        started = time.monotonic()
        with bars(epoch) as bar:
            record = one_epoch(epoch=epoch, bar=bar)
        check_finite(record, epoch)
        history.append({**record, "seconds": round(time.monotonic() - started, 2)})
        if processes.is_main():
            if tell is not None:
                tell(epoch, record)
            checkpoint.save(history)


def check_common_start(epochs_done, device):
    """Raise RuntimeError if some processes read a checkpoint that others do not see."""
    mean = processes.total(torch.tensor(float(epochs_done), device=device)) / processes.count()
    if mean.item() != epochs_done:
        raise RuntimeError(
            "the processes do not read the same checkpoint: "
            "let the folder of runs lie on a disk that all of them share"
        )


def check_finite(record, epoch):
    """Raise ValueError if a training diverged in this epoch (from 0)."""
    for name in ("loss", "validation_loss"):
        loss = record.get(name, 0.0)
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} in epoch {epoch + 1}: lower the learning rate"
            )


# --- averages of the weights ---------------------------------------------------------------------


def averaged(network, optimizer, average_function, *, use_buffers=True):
    """Average a network's weights from now on, after every step of its optimiser.

    The average begins with the weights that the network has now.

    Args:
        network: a module on its final device.
        optimizer: its optimiser.
        average_function: how torch's AveragedModel is to average (its ``multi_avg_fn``).
        use_buffers: average buffers, such as batch-normalisation statistics, as well.

    Returns:
        torch.optim.swa_utils.AveragedModel; its ``module`` is the averaged network.

    Example:
        >>> from torch.optim.swa_utils import get_ema_multi_avg_fn
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(0.0)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        >>> average = averaged(layer, optimizer, get_ema_multi_avg_fn(0.75))
        >>> layer.weight.grad = torch.tensor([[-1.0]])
        >>> optimizer.step()
        >>> layer.weight.item(), average.module.weight.item()
        (1.0, 0.25)
    """
    average = AveragedModel(network, multi_avg_fn=average_function, use_buffers=use_buffers)
    average.n_averaged.fill_(1)  # at 0 it would begin with the weights after the first step
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(network))
    return average


def adopt_average(network, average):
    """Let a network have the averaged weights and statistics."""
    network.load_state_dict(dict(_floats(average.module)), strict=False)


def _floats(module):
    """(name, value) of what is averaged: not the counters of batch normalisation."""
    return [(n, value) for n, value in module.state_dict().items() if value.is_floating_point()]


# --- what epochs need ----------------------------------------------------------------------------


def set_learning_rate(optimizer, lr):
    """Let the optimiser's next step take this rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def own_random_state(device):
    """Leave the caller's random number generators as they were."""
    cuda = [device] if device.type == "cuda" else []
    return torch.random.fork_rng(devices=cuda)
