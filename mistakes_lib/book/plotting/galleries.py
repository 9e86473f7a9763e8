"""Pictures of inputs, each with what the network makes of it."""

import numpy as np
from PIL import Image

from mistakes_lib.book.plotting.style import new_figure

__all__ = ["gallery", "judged_images", "sheet_images"]


def sheet_images(path):
    """The images of a run's sheet "pictures", which stand side by side in one file.

    Args:
        path: of the file, as ``Run.figure("pictures")`` gives it.

    Returns:
        uint8 (n, 3, e, e), in the order of ``Run.pictured``.

    Raises:
        ValueError: the sheet is no row of square images.
    """
    sheet = np.asarray(Image.open(path).convert("RGB"))  # (e, n e, 3)
    edge, width, _ = sheet.shape
    if width % edge:
        raise ValueError(f"{path} is no row of square images: it measures {width} × {edge} pixels")
    return sheet.reshape(edge, width // edge, edge, 3).transpose(1, 3, 0, 2).copy()


def judged_images(images, batch, classes):
    """Images with what the network says: its class and its softmax confidence, and the true class.

    Args:
        images: (n, 3, h, w), as :func:`gallery` takes them.
        batch: FeatureSet of these images; without labels the images are of no class it knows.
        classes: names of the network's classes.

    Returns:
        list of (image, text), such as "cat, 0.97", "cat, taken for dog, 0.97" or
        "taken for dog, 0.97"; the confidence stands on a line of its own.

    Raises:
        ValueError: there are more or fewer images than rows of the batch.
    """
    if len(images) != len(batch):
        raise ValueError(f"{len(images)} images do not go with {len(batch)} rows of features")
    logits = batch.logits - batch.logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(logits).sum(axis=1)  # of the largest logit, (n,)
    texts = []
    for i, (guess, sure) in enumerate(zip(batch.predictions, confidence, strict=True)):
        words = [] if batch.labels is None else [classes[batch.labels[i]]]
        if batch.labels is None or batch.labels[i] != guess:
            words.append(f"taken for {classes[guess]}")
        texts.append("\n".join([*words, f"{sure:.2f}"]))
    return list(zip(images, texts, strict=True))


def gallery(rows, *, edge=1.25):
    """Rows of images, each image with a line or two of text above it.

    Args:
        rows: dict of row title → list of (image, text); an image is uint8 (3, h, w) or float
            (3, h, w) in [0, 1]. Shorter rows leave room at their right.
        edge: of an image, in inches.

    Returns:
        Figure.

    Raises:
        ValueError: there is no row, or a row is empty.
    """
    if not rows or not all(rows.values()):
        raise ValueError("a gallery needs rows, and each row an image")
    columns = max(map(len, rows.values()))
    options = {"width": edge, "height": 1.5 * edge, "squeeze": False}
    figure, axes = new_figure(columns=columns, rows=len(rows), **options)
    for ax in axes.ravel():
        ax.set_axis_off()
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        line[0].text(-0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center")
        for ax, (image, text) in zip(line, images, strict=False):
            ax.imshow(np.transpose(image, (1, 2, 0)), interpolation="nearest")
            ax.set_title(text, fontsize=8)
    return figure
