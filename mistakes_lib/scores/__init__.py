"""One small class per detector: how far may a prediction be trusted (§3.3, §4)?

Every scorer learns from one :class:`~mistakes_lib.features.FeatureSet` and scores others. The law
for all of them: **a higher score means more trustworthy**. None is tuned on what it is scored on.
"""

from mistakes_lib.scores.base import Scorer
from mistakes_lib.scores.combined import Combined
from mistakes_lib.scores.distances import Mahalanobis, NearestNeighbors, RelativeMahalanobis
from mistakes_lib.scores.likelihoods import LogLikelihood, ZhengHong
from mistakes_lib.scores.logits import Energy, MaxLogit, MaxSoftmax, TemperatureScaling
from mistakes_lib.scores.vim import ViM

__all__ = [
    "Combined",
    "Energy",
    "LogLikelihood",
    "Mahalanobis",
    "MaxLogit",
    "MaxSoftmax",
    "NearestNeighbors",
    "RelativeMahalanobis",
    "Scorer",
    "TemperatureScaling",
    "ViM",
    "ZhengHong",
]
