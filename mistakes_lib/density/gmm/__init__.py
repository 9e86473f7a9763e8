"""Mixtures of diagonal Gaussians, fitted by EM on arrays, blocks and Dask (§3.2)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "gmm": ["DiagonalGMM"],
        "regularisation": ["reg_covar_for"],
    },
)
