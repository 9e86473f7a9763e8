"""The stages of a run, in the order in which they are computed.

Each is a function of the :class:`~mistakes_lib.runs.stages.journal.Journal`, which skips a stage
whose file is there and was made from the same inputs before.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attacks": ["adaptive_attack", "attacks"],
        "densities": ["deep_densities", "mixtures", "scorers"],
        "features": ["features", "out_of_distribution"],
        "journal": ["Journal"],
        "pictures": ["examples", "pictures", "strange_pictures"],
        "pixels": ["pixel_cnn"],
        "record": ["finish", "is_finished"],
        "training": ["check_images", "classifier", "forget_training"],
    },
)
