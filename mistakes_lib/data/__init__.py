"""Images: named data sets, and anybody's folders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "corruptions": ["CORRUPTIONS", "corrupt"],
        "files": [
            "ImageFiles",
            "class_names",
            "list_files",
            "list_unlabelled",
            "natural_order",
            "split_files",
        ],
        "reading": ["Preprocessing", "common_size", "read_image"],
        "inventory": ["Holding", "take_stock"],
        "image_set": ["SPLITS", "ImageSet"],
        "named": ["DATASETS", "data_root", "load_dataset", "load_part"],
        "overlap": ["known_classes", "rows_of_strangers"],
    },
)
