"""A variational autoencoder of features, scored by importance sampling (Appendix C)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mistakes_lib.density.base import TRAINING_ARGUMENTS, NetworkDensity
from mistakes_lib.support.settings import arguments, whole

__all__ = ["FeatureVAE"]

MIN_SCALE = 1e-3  # of every Gaussian, in standardised units: keeps the likelihood bounded


class FeatureVAE(NetworkDensity):
    """Latent-variable density p(F) = ∫ N(F; m(z), diag s(z)²) N(z; 0, I) dz, trained by its ELBO.

    Encoder and decoder are fully connected with one ReLU layer; both give the mean and the standard
    deviation of a diagonal Gaussian (the "Gaussian MLP" of Kingma & Welling), so the decoder's
    variance is learned, for each feature and each z. Features are standardised inside.

    No log-likelihood is exact here. ``score_samples`` is not the bare ELBO but the
    importance-sampled estimate (Burda et al.)

        log p(F) ≈ log 1/S Σ_s p(F | z_s) p(z_s) / q(z_s | F),   z_s ~ q(z | F),

    whose exponential is unbiased and which on average lies below log p(F), less so the larger S.
    Every row gets the same S Gaussian draws, so that scores do not depend on the other rows, and
    differences between rows carry less noise. Errors of one row and another are then not
    independent: a mean over rows has about a single row's :meth:`standard_error`.

    Args:
        hidden: ReLU units of encoder and decoder each (512 in Appendix C).
        latent: dimensions of z (128 in Appendix C).
        epochs: passes over the rows (1000 in Appendix C).
        lr: Adam's learning rate in the first epoch (0.001 in Appendix C).
        lr_decay: factor on ``lr`` after every epoch (0.9995 in Appendix C).
        importance_samples: S; time and not memory grow with it. It is read when rows are scored:
            ``set_params(importance_samples=…)`` works on a fitted density. Burda et al. use 5000.
        batch_size: rows a training step (the paper does not say).
        validation_fraction: share of the rows in [0, 1) that is held out of training; if above 0,
            training stops once their loss has not improved for ``patience`` epochs, and the best
            weights are kept. 0, as in the paper, trains all epochs on all rows.
        patience: see there.
        device: "auto", "cpu", "cuda", …
        random_state: seed of training, of the importance samples and of ``sample``.
        verbose: 1 shows a progress bar over the epochs.

    Attributes:
        network_: the trained float32 network, a torch module on the CPU.
        mean_: mean of the rows, float64 (d,).
        scale_: their standard deviation, float64 (d,), 1 where a feature never varies.
        losses_: negative ELBO of each epoch, nats per row.
        validation_losses_: the same of the held-out rows.
        seed_: seed drawn from ``random_state``.
        n_features_in_: number of features d.

    References:
        Kingma & Welling (2013), Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114,
        eq. 10 and its Appendix C.2.
        Burda, Grosse & Salakhutdinov (2015), Importance Weighted Autoencoders,
        https://arxiv.org/abs/1509.00519, eq. 8.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(200, 2))
        >>> vae = FeatureVAE(16, 2, epochs=20, lr=0.01, device="cpu", random_state=0).fit(rows)
        >>> near, far = vae.score_samples([[0.0, 0.0], [6.0, 6.0]])
        >>> bool(near > far)
        True
    """

    arguments = arguments(
        "vae", {**TRAINING_ARGUMENTS, "latent": whole(1), "importance_samples": whole(1)}
    )

    def __init__(
        self,
        hidden=512,
        latent=128,
        epochs=1000,
        lr=1e-3,
        lr_decay=0.9995,
        importance_samples=128,
        *,
        batch_size=128,
        validation_fraction=0.0,
        patience=20,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden = hidden
        self.latent = latent
        self.epochs = epochs
        self.lr = lr
        self.lr_decay = lr_decay
        self.importance_samples = importance_samples
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def standard_error(self, X):
        """Monte Carlo standard error of each row's ``score_samples``, float64 (n,), nats.

        By the delta method: the relative standard error of the mean importance weight. It is to be
        trusted where it is small. It cannot exceed 1, which says that a single draw carries the
        estimate; log p(F) may then lie several nats higher. So it often is with hundreds of
        features: on 256 tanh features (digits), from S = 128 to 1024 the mean estimate rose by 4
        nats a row, 0.016 a dimension, and the median of this error stayed above 0.8.

        Raises:
            ValueError: a single importance sample has no standard error.
        """
        if self.importance_samples < 2:
            raise ValueError(
                "standard_error needs importance_samples of at least 2, "
                f"got {self.importance_samples}"
            )

        def relative_error(network, rows):
            log_weights = network.log_weights(rows, self._draws(rows))  # (b, S)
            shares = log_weights.softmax(dim=1)  # mean 1 / S
            return shares.std(dim=1) * math.sqrt(self.importance_samples)

        return self._by_block(X, relative_error)

    def _build(self, n_features):
        return GaussianAutoencoder(n_features, self.hidden, self.latent)

    def _loss(self, network, rows):
        return -network.elbo(rows)

    def _log_prob(self, network, rows):
        log_weights = network.log_weights(rows, self._draws(rows))  # (b, S)
        return log_weights.logsumexp(dim=1) - math.log(self.importance_samples)

    def _draw(self, network, n_samples):
        return network.draw(n_samples)

    def _draws(self, rows):
        """The S standard Gaussian draws (S, L) that every row shares, on the rows' device."""
        generator = torch.Generator().manual_seed(self.seed_)
        shape = (self.importance_samples, self.latent)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(rows)

    def _floats_per_row(self):
        widths = 2 * self.latent + 2 * self.hidden + 6 * self.n_features_in_
        return self.importance_samples * widths


class GaussianAutoencoder(nn.Module):
    """Encoder q(z | x) and decoder p(x | z), each one hidden layer and a diagonal Gaussian."""

    def __init__(self, n_features, hidden, latent):
        super().__init__()
        self.latent = latent
        self.encoder = _gaussian_mlp(n_features, hidden, latent)
        self.decoder = _gaussian_mlp(latent, hidden, n_features)

    def elbo(self, x):
        """log p(x | z) of one z ~ q(z | x), less KL(q(z | x) ‖ p(z)); (b, d) → (b,)."""
        location, scale = _location_and_scale(self.encoder(x))  # (b, L) each
        z = location + scale * torch.randn_like(scale)
        divergence = 0.5 * (location.square() + scale.square() - 1) - scale.log()
        return self.log_likelihood(x, z) - divergence.sum(dim=-1)

    def log_weights(self, x, draws):
        """log p(x, z_s) − log q(z_s | x) at z_s made of draws (S, L); (b, d) → (b, S)."""
        location, scale = (t[:, None] for t in _location_and_scale(self.encoder(x)))  # (b, 1, L)
        z = location + scale * draws  # (b, S, L)
        log_ratio = scale.log() + 0.5 * (draws.square() - z.square())  # log p(z) − log q(z | x)
        return self.log_likelihood(x[:, None], z) + log_ratio.sum(dim=-1)

    def log_likelihood(self, x, z):
        """log p(x | z), (…, d) and (…, L) → (…)."""
        location, scale = _location_and_scale(self.decoder(z))
        squares = ((x - location) / scale).square()
        return -(0.5 * squares + scale.log()).sum(dim=-1) - x.shape[-1] * 0.5 * math.log(
            2 * math.pi
        )

    def draw(self, n):
        """Ancestral samples (n, d), in the precision of the weights."""
        z = torch.randn(n, self.latent).to(self.decoder[0].weight)
        location, scale = _location_and_scale(self.decoder(z))
        return location + scale * torch.randn_like(scale)


def _gaussian_mlp(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 2 * outputs))


def _location_and_scale(parameters):
    """Split (…, 2m) into a mean and a standard deviation (…, m).

    A softplus, not an exponential: far from the data the scale then grows no faster than the
    features, and every log-likelihood stays finite.
    """
    location, raw = parameters.chunk(2, dim=-1)
    return location, F.softplus(raw) + MIN_SCALE
