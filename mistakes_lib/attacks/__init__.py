"""Attacks: FGSM and BIM (§4), and those of an attacker who knows the detector."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptive": ["adaptive_bim", "feature_match", "hinge_attack", "targets_elsewhere"],
        "gradient": ["bim", "fgsm", "kurakin_steps"],
    },
)
