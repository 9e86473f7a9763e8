"""The small pictures of images that a run keeps, since its images stay where they are."""

from matplotlib.figure import Figure
from PIL import Image

from mistakes_lib.support.storage import atomic_write

__all__ = ["image_columns", "save_png"]


def save_png(path, pixels):
    """Write an image, uint8 (h, w, 3), whole or not at all."""
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def image_columns(columns, classes):
    """A grid of images, one column a group, one row a class (Fig. 1).

    Args:
        columns: dict of column title → uint8 images (rows, 3, h, w).
        classes: names of the rows.

    Returns:
        Figure.
    """
    rows = len(next(iter(columns.values())))
    figure = Figure(figsize=(1.35 * len(columns) + 1, 0.85 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, images) in enumerate(columns.items()):
        for row, image in enumerate(images):
            ax = axes[row, column]
            ax.imshow(image.transpose(1, 2, 0), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(title.replace(" (", "\n("), fontsize=8)
            if column == 0:
                ax.set_ylabel(classes[row], rotation=0, ha="right", va="center", fontsize=8)
    return figure
