"""What the densities share: scores in bits, files without pickle, and how networks are trained."""

import copy
import hashlib
import json
import math
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from functools import partial
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from mistakes_lib.support.checks import as_matrix
from mistakes_lib.support.devices import resolve_device
from mistakes_lib.support.settings import number, whole
from mistakes_lib.support.storage import load_arrays, save_arrays
from mistakes_lib.training.loop import (
    Checkpoint,
    own_random_state,
    run_epochs,
    set_learning_rate,
)

__all__ = ["Density", "NetworkDensity", "seeded"]

TRAINING_ARGUMENTS = {  # those of every density that is a network
    "hidden": whole(1),
    "epochs": whole(1),
    "batch_size": whole(1),
    "patience": whole(1),
    "lr": number(gt=0),
    "lr_decay": number(gt=0, le=1),
    "validation_fraction": number(ge=0, lt=1),
}
# What may differ between a training and the one that goes on from its checkpoint.
INCIDENTAL = ("epochs", "device", "random_state", "verbose")
BLOCK_BYTES = 64 * 2**20  # of activations at a time: large enough for GEMM, small for memory


class Density(DensityMixin, BaseEstimator):
    """What follows once an estimator has ``score_samples``: means, bits, and files.

    For files it says by ``_fitted`` which arrays and JSON-ready facts it learned, and sets its
    attributes from them by ``_restore(arrays, metadata)``.

    Attributes:
        not_saved: parameters that a file does not keep.
        arguments: class of settings that says of which kind the parameters are, apart from
            ``device``, ``random_state`` and ``verbose``; None where ``fit`` checks them itself.
    """

    not_saved = ("device",)
    arguments = None

    def _check_parameters(self):
        """Raise SettingsError if a parameter is of a wrong type or outside its range."""
        parameters = self.get_params()
        self.arguments(**{field.name: parameters[field.name] for field in fields(self.arguments)})

    def score(self, X, y=None):
        """Mean log-likelihood of the rows in nats."""
        return float(self.score_samples(X).mean())

    def bits_per_dim(self, X):
        """Negative log-likelihood of each row in bits per dimension, float64 (n,)."""
        return -self.score_samples(X) / (self.n_features_in_ * math.log(2))

    def _new_seed(self):
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def save(self, path):
        """Write the fitted density to one safetensors file; the same density, the same bytes.

        What ``not_saved`` names is not kept, nor is a ``random_state`` that is no whole number.

        Raises:
            sklearn.exceptions.NotFittedError: ``fit`` must come first.
        """
        save_arrays(path, *self.pack())

    @classmethod
    def load(cls, path):
        """Read a density that :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or holds something else.
        """
        return cls.unpack(*load_arrays(path, [cls.__name__]))

    def pack(self):
        """What a file holds of the fitted density: (dict of name → array, JSON-ready metadata)."""
        check_is_fitted(self)
        arrays, facts = self._fitted()
        parameters = {k: v for k, v in self.get_params().items() if k not in self.not_saved}
        if not isinstance(self.random_state, Integral):
            parameters["random_state"] = None
        for name, value in parameters.items():
            parameters[name] = value.item() if isinstance(value, np.generic) else value
        return arrays, {"kind": type(self).__name__, "parameters": parameters, **facts}

    @classmethod
    def unpack(cls, arrays, metadata):
        """The fitted density of which :meth:`pack` made these."""
        density = cls(**metadata["parameters"])
        density._restore(arrays, metadata)
        return density


class NetworkDensity(Density):
    """A density whose parameters are a network's, trained by Adam on standardised features.

    A subclass says of which kind its parameters are by ``arguments``, what the network is by
    ``_build``, what training lowers by ``_loss``, what the log-density is by ``_log_prob``, how to
    draw by ``_draw``, and how many numbers a row takes by ``_floats_per_row``; all but ``_build``
    see rows z = (F − mean) / scale. The density of F is that of z divided by the product of the
    scales (change of variables). A feature that never varies has scale 1.

    Every random choice comes from ``random_state``; torch's global state is left as it was. Rows
    are scored in float64, one by one the same as all together.
    """

    def fit(self, X, y=None, *, checkpoint=None):
        """Train the network.

        Args:
            X: rows of features, (n, d), n ≥ 2.
            y: ignored.
            checkpoint: safetensors file that is written after every epoch, and from which a
                training that was killed goes on as if it had not been; None writes none.

        Returns:
            self.

        Raises:
            ValueError: a bad parameter, NaN or infinite rows (the first is named), a loss that
                left the finite numbers, or a checkpoint of another training.
        """
        self._check_parameters()
        X = self._rows(X, reset=True, ensure_min_samples=2)
        deviation = X.std(axis=0, dtype=np.float64)
        rounding = 10 * np.finfo(X.dtype).eps * np.abs(X).max(axis=0)
        self.mean_ = X.mean(axis=0, dtype=np.float64)  # (d,)
        self.scale_ = np.where(deviation > rounding, deviation, 1.0)  # (d,)
        self.seed_ = self._new_seed()
        device = resolve_device(self.device)
        rows = self._standardise(torch.tensor(X, dtype=torch.float64, device=device)).float()
        with seeded(self.seed_, device):
            network = self._build(X.shape[1]).to(device)
            self._train(network, rows, checkpoint, device)
        self.network_ = network.cpu().eval().requires_grad_(False)
        return self

    def score_samples(self, X):
        """Log-likelihood of each row in nats, float64 (n,)."""
        return self._by_block(X, self._log_prob) - self._log_volume()

    def log_prob(self, x):
        """Log-likelihood of each row as a differentiable torch function.

        Args:
            x: floating-point tensor (n, d); result and computation keep its dtype and device.

        Returns:
            tensor (n,), nats.
        """
        check_is_fitted(self)
        network = self._network(x.device, x.dtype)
        blocks = self._standardise(x).split(self._block_rows())
        # Activations are computed again in the backward pass, so that memory stays a block's.
        again = partial(checkpoint, partial(self._log_prob, network), use_reentrant=False,
                        preserve_rng_state=False)  # fmt: skip
        return torch.cat([again(block) for block in blocks]) - self._log_volume()

    def sample(self, n_samples=1):
        """Draw rows from the density.

        Returns:
            tuple: rows, float64 (n_samples, d), and None where a mixture has its components.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        device = resolve_device(self.device)
        network = self._network(device, torch.float64)
        with seeded(self._new_seed(), device), torch.no_grad():
            rows = self._draw(network, n_samples)  # (n, d)
        return rows.cpu().numpy() * self.scale_ + self.mean_, None

    def _fitted(self):
        weights = {f"weights.{k}": v.numpy() for k, v in self.network_.named_parameters()}
        arrays = {"mean": self.mean_, "scale": self.scale_, **weights}
        facts = {
            "seed": self.seed_,
            "losses": self.losses_,
            "validation_losses": self.validation_losses_,
        }
        return arrays, facts

    def _restore(self, arrays, metadata):
        self.mean_, self.scale_ = arrays["mean"], arrays["scale"]
        self.n_features_in_ = len(self.mean_)
        self.seed_, self.losses_ = metadata["seed"], metadata["losses"]
        self.validation_losses_ = metadata["validation_losses"]
        with seeded(self.seed_, torch.device("cpu")):
            network = self._build(self.n_features_in_).requires_grad_(False)
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
        self.network_ = network.eval()

    def _rows(self, X, *, reset=False, **checks):
        """Check rows as scikit-learn does, but name the first that is not finite."""
        X = validate_data(
            self, X, dtype=[np.float64, np.float32], reset=reset, ensure_all_finite=False, **checks
        )
        return as_matrix(X, "X", dtype=None)

    def _train(self, network, rows, path, device):
        """Lower the mean loss of standardised rows (n, d) in place."""
        n_held_out = math.ceil(self.validation_fraction * len(rows))
        if n_held_out == len(rows):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves none of {len(rows)} rows "
                "to train on"
            )
        signature = path and self._signature(rows)
        shuffled = rows[torch.randperm(len(rows), device=device)]
        held_out, rows = shuffled.split([n_held_out, len(rows) - n_held_out])
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        best = {name: value.clone() for name, value in network.state_dict().items()}
        state = {f"best.{name}": value for name, value in best.items()} if n_held_out else {}
        kept = Checkpoint(path, signature, network, optimizer, state=state, random_state=True)
        history = kept.load()

        def one_epoch(epoch, bar):
            set_learning_rate(optimizer, _decayed(self.lr, self.lr_decay, epoch))
            record = {"loss": self._epoch(network, rows, optimizer)}
            bar.set_postfix_str(f"{record['loss'] / rows.shape[1]:.4f} nats/dim")
            bar.update()
            if n_held_out:
                record["validation_loss"] = self._epoch(network, held_out)
                if all(record["validation_loss"] < loss for loss in _validation_losses(history)):
                    for name, value in network.state_dict().items():
                        best[name].copy_(value)
            return record

        def stop(history):
            losses = _validation_losses(history)
            return losses and len(losses) - 1 - int(np.argmin(losses)) >= self.patience

        name = type(self).__name__
        with tqdm(total=self.epochs, initial=len(history), desc=name, unit="epoch",
                  disable=not self.verbose) as bar:  # fmt: skip
            run_epochs(one_epoch, kept, history, epochs=self.epochs,
                       bars=lambda epoch: nullcontext(bar), device=device, stop=stop)  # fmt: skip
        self.losses_ = [record["loss"] for record in history]
        self.validation_losses_ = _validation_losses(history)
        if n_held_out:
            network.load_state_dict(best)

    def _signature(self, rows):
        """What must agree before a checkpoint may be resumed, as JSON."""
        parameters = {k: v for k, v in self.get_params().items() if k not in INCIDENTAL}
        fingerprint = hashlib.sha256(rows.cpu().numpy().tobytes()).hexdigest()
        own = {"parameters": parameters, "seed": self.seed_, "rows": fingerprint}
        return json.dumps(own, sort_keys=True, default=np.generic.item)

    def _epoch(self, network, rows, optimizer=None):
        """One pass over rows in random order; returns the mean loss in nats per row.

        Without an optimiser the pass only measures.
        """
        total = torch.zeros((), dtype=torch.float64, device=rows.device)
        with torch.set_grad_enabled(optimizer is not None):
            for batch in torch.randperm(len(rows), device=rows.device).split(self.batch_size):
                losses = self._loss(network, rows[batch])  # (b,)
                if optimizer is not None:
                    optimizer.zero_grad()
                    losses.mean().backward()
                    optimizer.step()
                total += losses.detach().sum()
        return float(total) / len(rows) + self._log_volume()

    def _network(self, device, dtype):
        """A copy of the network on a device and in a precision; the fitted one stays as it is."""
        return copy.deepcopy(self.network_).to(device, dtype)

    def _standardise(self, x):
        mean, scale = (
            torch.as_tensor(values, dtype=x.dtype, device=x.device)
            for values in (self.mean_, self.scale_)
        )
        return (x - mean) / scale

    def _log_volume(self):
        """log |dF / dz|, nats."""
        return float(np.log(self.scale_).sum())

    def _block_rows(self):
        return max(1, BLOCK_BYTES // (8 * self._floats_per_row()))

    def _by_block(self, X, function):
        """Apply ``function(network, rows)`` to blocks of standardised rows, in float64."""
        check_is_fitted(self)
        X = self._rows(X)
        device, size = resolve_device(self.device), self._block_rows()
        network = self._network(device, torch.float64)
        results = []
        with torch.no_grad():
            for start in range(0, len(X), size):
                rows = torch.tensor(X[start : start + size], dtype=torch.float64, device=device)
                results.append(function(network, self._standardise(rows)).cpu())
        return torch.cat(results).numpy()


def _validation_losses(history):
    return [record["validation_loss"] for record in history if "validation_loss" in record]


def _decayed(lr, factor, epochs):
    """The rate after so many epochs, rounded as if it had been multiplied after each."""
    for _ in range(epochs):
        lr *= factor
    return lr


@contextmanager
def seeded(seed, device):
    """Seed torch inside the block and give the caller's random state back after it."""
    with own_random_state(device):
        torch.manual_seed(seed)
        yield
