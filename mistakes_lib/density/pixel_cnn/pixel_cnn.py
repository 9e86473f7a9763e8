"""PixelCNN++: a density of images, which the paper compares with densities of features (§4.1)."""

import copy
import hashlib
import json
import logging
import math
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from mistakes_lib.density.base import Density, seeded
from mistakes_lib.density.pixel_cnn.logistic_mixture import (
    n_parameters,
    pixel_log_prob,
    sample_pixels,
)
from mistakes_lib.density.pixel_cnn.network import PixelCNNNetwork
from mistakes_lib.support.checks import check_positive
from mistakes_lib.support.devices import resolve_device
from mistakes_lib.support.storage import load_arrays, save_arrays

__all__ = ["PixelCNN"]

PRECISIONS = ("float32", "bfloat16")
MOMENTS = ("exp_avg", "exp_avg_sq")  # as Adam names them
# What may differ between a training and the one that goes on from its checkpoint.
INCIDENTAL = ("epochs", "device", "random_state", "verbose")

logger = logging.getLogger(__name__)


class PixelCNN(Density):
    """PixelCNN++ density of images: p(X) = ∏ p(pixel i | pixels before i) (§3.1, Appendix C).

    Each pixel's colour is a discretised mixture of logistics with linear dependence between its
    channels. The likelihood is exact: probabilities of all images of a size sum to 1.

    The defaults are the paper's where it states them (dropout 0.5, learning rate 1e-4, 5000 epochs)
    and Salimans et al.'s elsewhere. That network, with ``n_filters=160`` and ``n_resnets=5``, takes
    days on several GPUs.

    Args:
        n_filters: channels of each stream.
        n_resnets: gated residual layers at each size.
        n_mixtures: logistics in a pixel's mixture.
        n_scales: sizes of the streams; image edges must be multiples of 2^(n_scales − 1).
        dropout: probability in [0, 1).
        epochs: passes over the images.
        lr: Adam's learning rate.
        lr_decay: factor on ``lr`` after every training step.
        averaging: share in [0, 1) of the averaged weights that a training step leaves in place;
            the averages are what scores and samples. 0 averages nothing.
        batch_size: images a training step, and in a block when scoring.
        precision: "float32" or "bfloat16" (autocast of training; scores are float32 always).
        device: "auto", "cpu", "cuda", …
        random_state: seed of training and of :meth:`sample`.
        verbose: 1 shows a progress bar over the training steps.

    Attributes:
        network_: the trained network, a torch module on the CPU.
        losses_: mean bits per dimension of each epoch of training, with dropout.
        image_shape_: (3, h, w).
        n_features_in_: 3 h w, the number of dimensions.
        seed_: seed drawn from ``random_state``.

    References:
        Salimans, Karpathy, Chen & Kingma (2017), PixelCNN++: Improving the PixelCNN with
        discretized logistic mixture likelihood and other modifications,
        https://arxiv.org/abs/1701.05517.

    Example:
        >>> images = np.random.default_rng(0).integers(256, size=(8, 3, 4, 4), dtype=np.uint8)
        >>> small = {"n_filters": 4, "n_resnets": 1, "n_mixtures": 2, "n_scales": 1, "epochs": 1}
        >>> pixels = PixelCNN(**small, device="cpu", random_state=0).fit(images)
        >>> pixels.score_samples(images).shape, pixels.sample(2)[0].shape
        ((8,), (2, 3, 4, 4))
    """

    def __init__(
        self,
        n_filters=160,
        n_resnets=5,
        n_mixtures=10,
        n_scales=3,
        *,
        dropout=0.5,
        epochs=5000,
        lr=1e-4,
        lr_decay=0.999995,
        averaging=0.9995,
        batch_size=64,
        precision="float32",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_filters = n_filters
        self.n_resnets = n_resnets
        self.n_mixtures = n_mixtures
        self.n_scales = n_scales
        self.dropout = dropout
        self.epochs = epochs
        self.lr = lr
        self.lr_decay = lr_decay
        self.averaging = averaging
        self.batch_size = batch_size
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, *, checkpoint=None):
        """Train the network.

        Args:
            X: images, uint8 (n, 3, h, w), 0 … 255.
            y: ignored.
            checkpoint: safetensors file that is written after every epoch, and from which a
                training that was killed goes on as if it had not been; None writes none.

        Returns:
            self.

        Raises:
            ValueError: a bad parameter, images of another kind or size, a loss that left the
                finite numbers, or a checkpoint of another training.
        """
        self._check_parameters()
        self.image_shape_ = self._image_shape(X)
        self.n_features_in_ = math.prod(self.image_shape_)
        self.seed_ = self._new_seed()
        device = resolve_device(self.device)
        images = torch.as_tensor(X).to(device)
        with seeded(self.seed_, device):
            averaged = self._train(self._build().to(device), images, checkpoint)
        self.network_ = averaged.cpu().eval().requires_grad_(False)
        return self

    def score_samples(self, X):
        """Log-probability of each image in nats, float64 (n,).

        Args:
            X: images as for :meth:`fit`, of the same size.
        """
        network, device = self._network()
        images = torch.as_tensor(self._checked(X))
        with torch.no_grad():
            blocks = [
                self._log_prob(network, block.to(device)).double().cpu()
                for block in images.split(self.batch_size)
            ]
        return torch.cat(blocks).numpy()

    def sample(self, n_samples=1):
        """Draw images pixel by pixel: one pass through the network for each pixel.

        Returns:
            tuple: images, uint8 (n_samples, 3, h, w), and None where a mixture has its components.
        """
        network, device = self._network()
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        _, height, width = self.image_shape_
        images = torch.zeros(n_samples, 3, height, width, device=device)
        with seeded(self._new_seed(), device), torch.no_grad():
            for row in range(height):
                for column in range(width):
                    pixel = (..., slice(row, row + 1), slice(column, column + 1))
                    images[pixel] = sample_pixels(network(images)[pixel])
        return ((images + 1) * 127.5).round().to(torch.uint8).cpu().numpy(), None

    def _fitted(self):
        arrays = {name: tensor.numpy() for name, tensor in self.network_.state_dict().items()}
        facts = {"image_shape": self.image_shape_, "losses": self.losses_, "seed": self.seed_}
        return arrays, facts

    def _restore(self, arrays, metadata):
        self.image_shape_ = tuple(metadata["image_shape"])
        self.n_features_in_ = math.prod(self.image_shape_)
        self.losses_, self.seed_ = metadata["losses"], metadata["seed"]
        network = self._build().requires_grad_(False)
        network.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
        self.network_ = network.eval()

    def _check_parameters(self):
        for name in ("n_filters", "n_resnets", "n_mixtures", "n_scales", "epochs", "batch_size"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        for name in ("dropout", "averaging"):
            check_scalar(
                getattr(self, name), name, Real, min_val=0, max_val=1, include_boundaries="left"
            )
        check_positive(self.lr, "lr")
        check_scalar(
            self.lr_decay, "lr_decay", Real, min_val=0, max_val=1, include_boundaries="right"
        )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")

    def _image_shape(self, X):
        """(3, h, w) of images that this network can take."""
        dtype, shape = getattr(X, "dtype", type(X).__name__), tuple(getattr(X, "shape", ()))
        if dtype not in (np.uint8, torch.uint8) or len(shape) != 4 or shape[1] != 3 or not shape[0]:
            raise ValueError(f"images must be uint8 (n, 3, h, w) with n ≥ 1, got {dtype} {shape}")
        multiple = 2 ** (self.n_scales - 1)
        if shape[2] % multiple or shape[3] % multiple:
            raise ValueError(
                f"n_scales={self.n_scales} needs image edges that are multiples of {multiple}, "
                f"got {shape[2]} × {shape[3]}: choose fewer scales"
            )
        return shape[1:]

    def _checked(self, X):
        shape = self._image_shape(X)
        if shape != self.image_shape_:
            raise ValueError(f"this PixelCNN was fitted on {self.image_shape_} images, got {shape}")
        return X

    def _build(self):
        return PixelCNNNetwork(
            self.n_filters,
            self.n_resnets,
            self.n_scales,
            n_parameters(self.n_mixtures),
            self.dropout,
        )

    def _network(self):
        check_is_fitted(self)
        device = resolve_device(self.device)
        return copy.deepcopy(self.network_).to(device), device

    def _train(self, network, images, checkpoint):
        """Train the network in place; return the average of its weights, a network as well."""
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        averaged = copy.deepcopy(network)
        signature = checkpoint and self._signature(images)
        self.losses_ = self._resume(checkpoint, signature, network, averaged, optimizer)
        steps = math.ceil(len(images) / self.batch_size)
        done = len(self.losses_) * steps
        bar = tqdm(
            total=self.epochs * steps, initial=done, desc="PixelCNN", disable=not self.verbose
        )
        with bar:
            for epoch in range(len(self.losses_), self.epochs):
                torch.manual_seed(self.seed_ + epoch)  # whether resumed or not
                total = torch.zeros((), dtype=torch.float64, device=images.device)
                order = torch.randperm(len(images), device=images.device)
                for rows in order.split(self.batch_size):
                    losses = -self._log_prob(network, images[rows], self.precision)
                    optimizer.zero_grad(set_to_none=True)
                    (losses.mean() / self.n_features_in_).backward()
                    for group in optimizer.param_groups:
                        group["lr"] = self.lr * self.lr_decay**done
                    optimizer.step()
                    done += 1
                    self._average(averaged, network, done)
                    total += losses.detach().sum()
                    bar.update()
                bits = total.item() / (len(images) * self.n_features_in_ * math.log(2))
                if not math.isfinite(bits):
                    raise ValueError(
                        f"the loss became {bits} in epoch {epoch + 1}: lower lr={self.lr}"
                    )
                self.losses_.append(bits)
                self._keep(checkpoint, signature, network, averaged, optimizer)
                bar.set_postfix_str(f"epoch {epoch + 1}, {bits:.3f} bits/dim")
                logger.info("PixelCNN, epoch %d of %d: %.3f bits/dim", epoch + 1, self.epochs, bits)
        return averaged

    def _signature(self, images):
        """What must agree before a checkpoint may be resumed, as JSON."""
        parameters = {k: v for k, v in self.get_params().items() if k not in INCIDENTAL}
        fingerprint = hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()
        own = {"parameters": parameters, "seed": self.seed_, "images": fingerprint}
        return json.dumps(own, sort_keys=True)

    def _keep(self, checkpoint, signature, network, averaged, optimizer):
        """Write weights, their average and Adam's moments."""
        if checkpoint is None:
            return
        arrays = {}
        for (name, weight), mean in zip(
            network.named_parameters(), averaged.parameters(), strict=True
        ):
            state = optimizer.state[weight]
            parts = {"weight": weight.detach(), "average": mean.detach()}
            parts |= {moment: state[moment] for moment in (*MOMENTS, "step")}
            arrays |= {f"{part}.{name}": tensor.cpu().numpy() for part, tensor in parts.items()}
        facts = {"signature": signature, "losses": self.losses_}
        save_arrays(checkpoint, arrays, {"kind": "PixelCNN checkpoint", **facts})

    @torch.no_grad()
    def _resume(self, checkpoint, signature, network, averaged, optimizer):
        """Load what :meth:`_keep` wrote, if anything; return the losses of its epochs."""
        if checkpoint is None or not Path(checkpoint).is_file():
            return []
        arrays, metadata = load_arrays(checkpoint, ["PixelCNN checkpoint"])
        if metadata["signature"] != signature:
            raise ValueError(
                f"{checkpoint} is the checkpoint of another training (parameters, seed or images "
                "differ): delete it or choose another file"
            )
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for (name, weight), mean in zip(
            network.named_parameters(), averaged.parameters(), strict=True
        ):
            weight.copy_(tensors[f"weight.{name}"])
            mean.copy_(tensors[f"average.{name}"])
            state = {moment: tensors[f"{moment}.{name}"].to(weight.device) for moment in MOMENTS}
            optimizer.state[weight] = state | {"step": tensors[f"step.{name}"]}
        return metadata["losses"]

    @torch.no_grad()
    def _average(self, averaged, network, steps_done):
        """Draw the averaged weights towards the network's, faster at the beginning."""
        stay = min(self.averaging, (1 + steps_done) / (10 + steps_done))
        for mean, new in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(new, 1 - stay)

    def _log_prob(self, network, images, precision="float32"):
        """Log-probability of uint8 images (n, 3, h, w), nats (n,)."""
        pixels = images.float() / 127.5 - 1
        mixed = precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            parameters = network(pixels)
        return pixel_log_prob(parameters.float(), pixels).flatten(1).sum(1)
