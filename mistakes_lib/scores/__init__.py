"""Scores: how much a prediction is to be trusted; higher is more trustworthy, always."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Scorer"],
        "combined": ["Combined"],
        "distances": ["Mahalanobis", "NearestNeighbors", "RelativeMahalanobis"],
        "likelihoods": ["LogLikelihood", "ZhengHong"],
        "logits": ["Energy", "MaxLogit", "MaxSoftmax", "TemperatureScaling"],
        "pytorch_ood": ["PytorchOODScorer", "as_pytorch_ood"],
        "vim": ["ViM"],
    },
)
