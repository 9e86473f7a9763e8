"""The stages of a run, in the order in which they are computed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "stages": ["Stages"],
    },
)
