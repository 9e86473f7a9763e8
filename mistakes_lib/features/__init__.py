"""Features: what a classifier says of images, in arrays and in files (§3.1)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "feature_set": ["FeatureSet", "extract_features"],
        "files": ["load_features", "read_stream"],
        "folders": ["FolderFeatures", "features_of_folders", "thumbnails"],
    },
)
