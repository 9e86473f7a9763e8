"""The paper's classifiers, and a wrapper for anybody's (§3.1, Appendix C)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "building": ["ARCHITECTURES", "arguments_of", "build_classifier", "check_architecture"],
        "densenet": ["densenet_bc"],
        "feature_classifier": ["FeatureClassifier"],
        "loading": ["Network", "load_network"],
        "weights": ["load_weights", "unwrap"],
        "wide_resnet": ["wide_resnet"],
    },
)
