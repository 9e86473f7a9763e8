"""A report on a network and a folder of images: what was asked for, and the page with pictures."""

from dataclasses import replace

from mistakes_lib.classifiers.loading import load_network
from mistakes_lib.data.files import class_names, used_images
from mistakes_lib.data.reading import common_size
from mistakes_lib.detector import Watched
from mistakes_lib.features.folders import features_of_folders, thumbnails
from mistakes_lib.report.facts import make_report
from mistakes_lib.report.page import report_html
from mistakes_lib.report.understood import summary, try_other_inputs

__all__ = ["report_on_model"]


# Longer than 60 lines: every option is an argument of its own, so that an editor names it.
def report_on_model(
    model,
    images,
    *,
    weights=None,
    classes=None,
    size=None,
    mean=None,
    std=None,
    head=None,
    suspects=None,
    n_components=None,
    false_alarms=0.05,
    seed=0,
    device="auto",
    workers=None,
    keep=None,
    validation_from_test=False,
    say=None,
    progress=False,
):
    """Report on a network by its name and a folder of images.

    Args:
        model: name of the network, for :func:`~mistakes_lib.classifiers.loading.load_network`,
            as are the arguments weights, classes, size, mean, std and head.
        images: folder of images, as :func:`~mistakes_lib.features.folders.features_of_folders`
            divides it.
        weights: file of a state dict, or "pretrained".
        classes: names of the network's outputs, in their order.
        size: edge of its images in pixels; by default what the network's own weights want, and for
            a function the images' own size where all have the same.
        mean: per-channel mean that it subtracts.
        std: per-channel standard deviation that it divides by.
        head: name of its last linear layer.
        suspects: dict of name → folder of images from elsewhere, or attacked ones.
        n_components: Gaussians of the mixture, as for
            :func:`~mistakes_lib.report.facts.make_report`.
        false_alarms: share of correct predictions that may be flagged.
        seed: of the division, the fits and the bootstrap.
        device: "auto", "cpu", "cuda", …
        workers, keep, validation_from_test: as for
            :func:`~mistakes_lib.features.folders.features_of_folders`.
        say: function of a line of text, called with what was understood as soon as it is known.
        progress: show progress bars.

    Returns:
        (Report, HTML page): the report's facts have the keys "understood" and "source" as well, and
        the extremes name their files and classes; ``report.watched`` is the network with the
        detector.

    Raises:
        FileNotFoundError, ImportError, RuntimeError, TypeError, ValueError: what the functions
            named above raise.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(80):
        ...         path = Path(folder, ("cat", "dog")[i % 2], f"{i}.png")
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (8, 8), (3 * i, 0, 7 * i % 256)).save(path)
        ...     name = "torchvision.models:MobileNetV2"
        ...     report, page = report_on_model(name, folder, size=32)
        >>> report.facts["source"]["model"], "<html" in page
        ('torchvision.models:MobileNetV2', True)
    """
    names = class_names(images)
    image_size = common_size(used_images(images))
    network = load_network(
        model,
        names,
        weights=weights,
        classes=classes,
        size=size,
        mean=mean,
        std=std,
        head=head,
        image_size=image_size,
    )
    found = features_of_folders(
        network,
        images,
        suspects=suspects,
        seed=seed,
        device=device,
        workers=workers,
        keep=keep,
        validation_from_test=validation_from_test,
        progress=progress,
    )
    understood = summary(network, found, image_size)
    for line in understood if say else ():
        say(f"{line['what']}: {line['found']}")
    report = make_report(
        **found.sets,
        suspects=found.suspects,
        n_components=n_components,
        false_alarms=false_alarms,
        classes=network.classes,
        seed=seed,
        progress=progress,
    )
    report.facts["alarms"][:0] = try_other_inputs(network, found, image_size, device=device)
    report.facts["understood"] = understood
    shown = _name_images(report.facts, network, found.files)
    page = report_html(report, pictures=thumbnails(found.files["test"], shown))
    return replace(report, watched=Watched(network, report.detector, device=device)), page


def _name_images(facts, network, files):
    """Add to the facts where the images come from, and to the extremes their files and classes.

    Returns:
        set of the rows of the extremes.
    """
    facts["source"] = {
        "model": network.description,
        "images": str(network.preprocessing),
        "sets": {name: own.origin for name, own in files.items()},
    }
    shown = [row for rows in facts["extremes"].values() for row in rows]
    for row in shown:
        row["file"] = str(files["test"].paths[row["row"]])
        row["class"] = network.classes[row["label"]]
        row["predicted"] = network.classes[row["prediction"]]
    return {row["row"] for row in shown}
