"""Densities of features and of images: scikit-learn's estimator API, log-likelihoods in nats."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Density", "NetworkDensity"],
        "gmm": ["DiagonalGMM"],
        "maf": ["FeatureMAF"],
        "pixel_cnn": ["PixelCNN"],
        "vae": ["FeatureVAE"],
    },
)
