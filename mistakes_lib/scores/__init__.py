"""Scores: how much a prediction is to be trusted; higher is more trustworthy, always."""

import lazy_loader

from mistakes_lib.scores.registry import METHODS

_CLASSES = {"base": ["Scorer"], "combined": ["Combined"]}
for _method in METHODS:  # what the registry lists is public
    _CLASSES.setdefault(_method.module, []).append(_method.kind)

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs=_CLASSES | {"pytorch_ood": ["PytorchOODScorer", "as_pytorch_ood"]},
)
