"""The features of a run's own images, as they are and corrupted, and of images from elsewhere."""

import numpy as np

from mistakes_lib.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from mistakes_lib.runs.files import CLASSIFIER, corruption_file, keep_own_labels, ood_file

__all__ = [
    "corrupted_rows",
    "corruptions",
    "drawn_rows",
    "features",
    "ood_images",
    "out_of_distribution",
]


def features(journal, split):
    """Features of one split of the data set."""
    image_set = journal.own_images(split)

    def compute(path):
        batch = journal.extract(path, image_set.images, image_set.labels)
        return {"accuracy": batch.accuracy, "count": len(batch)}

    inputs = [journal.sha(CLASSIFIER), image_set.fingerprint]
    journal.stage(f"features/{split}.safetensors", inputs, compute)


def drawn_rows(journal, count):
    """Rows of the test split, ascending, at most ``count``: the same for every seed of a training.

    So several trainings are compared on the same images.
    """
    total = len(journal.own_images("test"))
    return np.sort(np.random.default_rng(0).choice(total, min(count, total), False))


def corrupted_rows(journal):
    """Rows of the test split that are corrupted."""
    return drawn_rows(journal, journal.experiment.corrupted_images)


def corruptions(journal):
    """Features of the test images corrupted by each family, at all strengths, weakest first."""
    rows = corrupted_rows(journal)
    if not len(rows):
        return
    test = journal.own_images("test")[rows]
    for kind in CORRUPTIONS:

        def compute(path, kind=kind):
            images = np.concatenate([corrupt(test.images, kind, each) for each in STRENGTHS])
            batch = journal.extract(path, images, np.tile(test.labels, len(STRENGTHS)))
            return {"accuracy": batch.accuracy, "count": len(batch)}

        inputs = [journal.sha(CLASSIFIER), test.fingerprint, kind]
        journal.stage(corruption_file(kind), inputs, compute)


def ood_images(journal, name):
    """The images of an out-of-distribution set that the run uses, an ImageSet."""
    own = journal.experiment
    return journal.images(name, "test").subset(own.ood[name])


def out_of_distribution(journal):
    """Features of each out-of-distribution set, with the labels of its own classes, if any."""
    for name in journal.experiment.ood:
        image_set = ood_images(journal, name)

        def compute(path, image_set=image_set):
            batch = journal.extract(path, image_set.images)
            if image_set.labels is not None:
                keep_own_labels(path, image_set.labels, image_set.classes)
            return {"description": image_set.description, "count": len(batch)}

        inputs = [journal.sha(CLASSIFIER), image_set.fingerprint]
        if image_set.labels is not None:
            inputs.append("own labels")  # which runs of before did not keep
        journal.stage(ood_file(name), inputs, compute)
