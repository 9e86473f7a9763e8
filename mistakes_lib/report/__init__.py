"""A report of where a classifier fails: its facts, its page, and both from a network's name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "facts": ["Report", "make_report"],
        "model": ["report_on_model"],
        "page": ["report_html"],
    },
)
