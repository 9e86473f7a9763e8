"""Training: supervised and by Temporal Ensembling, resumable to the bit (Appendix C)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["augment"],
        "averaging": ["WeightAverage"],
        "supervised": ["Recipe", "learning_rate", "train"],
        "temporal_ensembling": [
            "TemporalEnsembling",
            "choose_labelled",
            "train_temporal_ensembling",
        ],
    },
)
