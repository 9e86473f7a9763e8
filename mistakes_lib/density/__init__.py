"""Densities of features and of images: scikit-learn's estimator API, log-likelihoods in nats."""

from mistakes_lib.density.gmm import DiagonalGMM
from mistakes_lib.density.maf import FeatureMAF
from mistakes_lib.density.pixel_cnn import PixelCNN
from mistakes_lib.density.vae import FeatureVAE

__all__ = ["DiagonalGMM", "FeatureMAF", "FeatureVAE", "PixelCNN"]
