"""Training: supervised and by Temporal Ensembling, resumable to the bit (Appendix C)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["augment"],
        "ensembles": ["TemporalEnsembling", "choose_labelled"],
        "recipe": ["Recipe", "learning_rate"],
        "supervised": ["train"],
        "temporal_ensembling": ["train_temporal_ensembling"],
    },
)
