"""The features of a run's own images, and of images from elsewhere."""

from mistakes_lib.runs.files import keep_own_labels, ood_file

__all__ = ["features", "ood_images", "out_of_distribution"]


def features(journal, split):
    """Features of one split of the data set."""
    image_set = journal.own_images(split)

    def compute(path):
        batch = journal.extract(path, image_set.images, image_set.labels)
        return {"accuracy": batch.accuracy, "count": len(batch)}

    inputs = [journal.sha("classifier.safetensors"), image_set.fingerprint]
    journal.stage(f"features/{split}.safetensors", inputs, compute)


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

        inputs = [journal.sha("classifier.safetensors"), image_set.fingerprint]
        if image_set.labels is not None:
            inputs.append("own labels")  # which runs of before did not keep
        journal.stage(ood_file(name), inputs, compute)
