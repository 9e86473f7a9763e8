"""PixelCNN++: a density of images, which the paper compares with densities of features (§4.1)."""

import copy
import hashlib
import json
import logging
import math
from contextlib import nullcontext
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from mistakes_lib.density.base import INCIDENTAL, Density, seeded
from mistakes_lib.density.pixel_cnn.logistic_mixture import (
    n_parameters,
    pixel_log_prob,
    sample_pixels,
)
from mistakes_lib.density.pixel_cnn.network import PixelCNNNetwork
from mistakes_lib.support.devices import resolve_device
from mistakes_lib.support.settings import arguments, number, one_of, whole
from mistakes_lib.training.loop import Checkpoint, averaged, run_epochs, set_learning_rate

__all__ = ["PixelCNN"]

LARGEST = 6  # scales: the last of images of 32 × 32 pixels is one pixel

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

    arguments = arguments(
        "pixel_cnn",
        {
            "n_filters": whole(1),
            "n_resnets": whole(1),
            "n_mixtures": whole(1),
            "n_scales": whole(1, LARGEST),
            "dropout": number(ge=0, lt=1),
            "epochs": whole(1),
            "lr": number(gt=0),
            "lr_decay": number(gt=0, le=1),
            "averaging": number(ge=0, lt=1),
            "batch_size": whole(1),
            "precision": one_of("float32", "bfloat16"),
        },
    )

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
        self.image_shape_ = self.check_images(X)
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

    def check_images(self, X):
        """The shape (3, h, w) of images, if this network can take them.

        Args:
            X: images as for :meth:`fit`.

        Raises:
            ValueError: images of another kind, or of a size that ``n_scales`` does not divide.
        """
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
        shape = self.check_images(X)
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

    def _train(self, network, images, path):
        """Train the network in place; return the average of its weights, a network as well."""
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        average = averaged(network, optimizer, self._average, use_buffers=False)
        kept = Checkpoint(
            path,
            path and self._signature(images),
            network,
            optimizer,
            average=average,
            state={"steps": average.n_averaged},
        )
        history = kept.load()
        steps = math.ceil(len(images) / self.batch_size)

        def one_epoch(epoch, bar):
            torch.manual_seed(self.seed_ + epoch)  # whether resumed or not
            total = torch.zeros((), dtype=torch.float64, device=images.device)
            order = torch.randperm(len(images), device=images.device)
            for done, rows in enumerate(order.split(self.batch_size), start=epoch * steps):
                losses = -self._log_prob(network, images[rows], self.precision)
                optimizer.zero_grad(set_to_none=True)
                (losses.mean() / self.n_features_in_).backward()
                set_learning_rate(optimizer, self.lr * self.lr_decay**done)
                optimizer.step()
                total += losses.detach().sum()
                bar.update()
            bits = total.item() / (len(images) * self.n_features_in_ * math.log(2))
            bar.set_postfix_str(f"epoch {epoch + 1}, {bits:.3f} bits/dim")
            return {"loss": bits}

        def tell(epoch, record):
            place = f"PixelCNN, epoch {epoch + 1} of {self.epochs}"
            logger.info("%s: %.3f bits/dim", place, record["loss"])

        with tqdm(total=self.epochs * steps, initial=len(history) * steps, desc="PixelCNN",
                  disable=not self.verbose) as bar:  # fmt: skip
            run_epochs(one_epoch, kept, history, epochs=self.epochs, tell=tell,
                       bars=lambda epoch: nullcontext(bar), device=images.device)  # fmt: skip
        self.losses_ = [record["loss"] for record in history]
        return average.module

    def _signature(self, images):
        """What must agree before a checkpoint may be resumed, as JSON."""
        parameters = {k: v for k, v in self.get_params().items() if k not in INCIDENTAL}
        fingerprint = hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()
        own = {"parameters": parameters, "seed": self.seed_, "images": fingerprint}
        return json.dumps(own, sort_keys=True)

    @torch.no_grad()
    def _average(self, averages, values, steps_done):
        """Draw the averaged weights towards the network's, faster at the beginning."""
        steps_done = int(steps_done)
        stay = min(self.averaging, (1 + steps_done) / (10 + steps_done))
        torch._foreach_lerp_(averages, values, 1 - stay)

    def _log_prob(self, network, images, precision="float32"):
        """Log-probability of uint8 images (n, 3, h, w), nats (n,)."""
        pixels = images.float() / 127.5 - 1
        mixed = precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            parameters = network(pixels)
        return pixel_log_prob(parameters.float(), pixels).flatten(1).sum(1)
