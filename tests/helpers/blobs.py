"""Clouds of features, and where one Gaussian sends them."""

import numpy as np

__all__ = ["blobs", "closed_form"]


def blobs(n=300, d=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=2, size=(3, d))
    return centres[rng.integers(3, size=n)] + rng.normal(size=(n, d)) * rng.uniform(0.3, 1, size=d)


def closed_form(reference, gaussian, nu):
    """Where the gradient of BPD + ν‖F − F_ref‖² of one Gaussian vanishes, coordinate-wise."""
    pull = 1 / (gaussian.covariances_[0] * reference.shape[1] * np.log(2))
    return (pull * gaussian.means_[0] + 2 * nu * reference) / (pull + 2 * nu)
