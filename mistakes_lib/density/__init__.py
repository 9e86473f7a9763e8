"""Densities of features: scikit-learn's estimator API, log-likelihoods in nats."""

from mistakes_lib.density.gmm import DiagonalGMM

__all__ = ["DiagonalGMM"]
