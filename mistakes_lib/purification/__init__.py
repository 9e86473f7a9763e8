"""Purification: features moved to where the density is higher, and what becomes of predictions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "effect": [
            "PurificationEffect",
            "chosen_purification",
            "purification_effect",
            "purification_grid",
            "purification_path",
        ],
        "steps": ["DivergenceError", "purification_objective", "purify", "safe_learning_rate"],
    },
)
