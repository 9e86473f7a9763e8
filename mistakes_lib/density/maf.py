"""A masked autoregressive flow of features (Appendix C), built on zuko."""

import torch
import zuko
from torch import nn
from zuko.nn import MaskedLinear

from mistakes_lib.density.base import TRAINING_ARGUMENTS, NetworkDensity
from mistakes_lib.support.settings import arguments, number, whole

__all__ = ["FeatureMAF"]


class FeatureMAF(NetworkDensity):
    """Flow density: p(F) = N(f(F); 0, I) · abs(det ∂f/∂F), f a chain of autoregressive affine maps.

    Each map shifts and scales feature i by what one masked network (a MADE) says of the features
    before i; the order turns round from map to map. The log-likelihood is exact, up to rounding.
    Features are standardised inside.

    The paper trains with a constant rate of 0.01. That is our ``lr=0.01``, but not our default: the
    book's sweep ``maf_settings`` tries both, and chapter 9 shows what became of them.

    Args:
        n_transforms: autoregressive maps (5 in Appendix C).
        hidden: ReLU units of each map's network (128 in Appendix C), spread evenly over the
            features that they see.
        epochs: passes over the rows (1000 in Appendix C).
        lr: Adam's learning rate in the first epoch.
        batch_size: rows a training step (32 in Appendix C).
        lr_decay: factor on ``lr`` after every epoch.
        noise: standard deviation of the Gaussian noise that training adds to the rows afresh each
            time, in standardised units. Without any, the likelihood of a feature that never varies,
            or that others determine, would grow without bound; the density is that of rows with
            this noise. :class:`~mistakes_lib.density.DiagonalGMM` has ``reg_covar`` for the same.
        validation_fraction: share of the rows in [0, 1) that is held out of training; if above 0,
            training stops once their loss has not improved for ``patience`` epochs, and the best
            weights are kept. 0, as in the paper, trains all epochs on all rows.
        patience: see there.
        device: "auto", "cpu", "cuda", …
        random_state: seed of training and of ``sample``.
        verbose: 1 shows a progress bar over the epochs.

    Attributes:
        network_: the trained float32 ``zuko.flows.MAF``, a torch module on the CPU.
        mean_: mean of the rows, float64 (d,).
        scale_: their standard deviation, float64 (d,), 1 where a feature never varies.
        losses_: mean negative log-likelihood in each epoch of training, nats per row.
        validation_losses_: the same of the held-out rows.
        seed_: seed drawn from ``random_state``.
        n_features_in_: number of features d.

    References:
        Papamakarios, Pavlakou & Murray (2017), Masked Autoregressive Flow for Density Estimation,
        https://arxiv.org/abs/1705.07057.
        Germain, Gregor, Murray & Larochelle (2015), MADE: Masked Autoencoder for Distribution
        Estimation, https://arxiv.org/abs/1502.03509.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(200, 2))
        >>> maf = FeatureMAF(2, 16, epochs=5, device="cpu", random_state=0).fit(rows)
        >>> near, far = maf.score_samples([[0.0, 0.0], [6.0, 6.0]])
        >>> bool(near > far)
        True
    """

    arguments = arguments(
        "maf", {**TRAINING_ARGUMENTS, "n_transforms": whole(1), "noise": number(ge=0)}
    )

    def __init__(
        self,
        n_transforms=5,
        hidden=128,
        epochs=1000,
        lr=1e-3,
        batch_size=32,
        *,
        lr_decay=1.0,
        noise=1e-3,
        validation_fraction=0.0,
        patience=20,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_transforms = n_transforms
        self.hidden = hidden
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.lr_decay = lr_decay
        self.noise = noise
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _build(self, n_features):
        flow = zuko.flows.MAF(
            n_features, transforms=self.n_transforms, hidden_features=(self.hidden,)
        )
        if n_features > 1:  # one feature alone has nothing to be conditioned on
            for transform in flow.transform.transforms:
                transform.hyper = _made(transform.order, self.hidden)
        return flow

    def _loss(self, network, rows):
        return -network().log_prob(rows + self.noise * torch.randn_like(rows))

    def _log_prob(self, network, rows):
        return network().log_prob(rows)

    def _draw(self, network, n_samples):
        return network().sample((n_samples,))

    def _floats_per_row(self):
        return 2 * self.n_transforms * (self.hidden + 4 * self.n_features_in_)


def _made(order, hidden):
    """MADE with one hidden layer: (…, d) → shift and log-scale of each feature, (…, 2d).

    zuko's own gives its hidden units the first ``hidden`` places of the order, so that with fewer
    units than features the later features condition nothing. Ours spreads the places evenly, as
    Germain et al. do.

    Args:
        order: place of each feature in the order, int64 (d,), d ≥ 2.
        hidden: number of ReLU units.
    """
    last_seen = torch.linspace(0, len(order) - 2, hidden).round()  # (h,), the unit's last place
    sees = last_seen[:, None] >= order  # (h, d)
    feeds = order[:, None] > last_seen  # (d, h)
    return nn.Sequential(
        MaskedLinear(sees), nn.ReLU(), MaskedLinear(feeds.repeat_interleave(2, dim=0))
    )
