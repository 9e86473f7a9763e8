"""A sheet of test images in random order: which of them does the network get wrong?"""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

__all__ = ["sheet_html"]


def sheet_html(run, *, n_images=24, seed=0):
    """Test images without their labels, half of them mistakes where there are enough, shuffled.

    Args:
        run: :class:`~mistakes_lib.runs.Run` that keeps pictures of test images.
        n_images: how many at most; fewer mistakes leave fewer images.
        seed: of the choice and the order, int.

    Returns:
        str: HTML with the images inside. A fold below them has the answers; paper has none.

    Raises:
        ValueError: the run keeps no pictures, or ``n_images`` is below 2.
    """
    rows = run.pictured
    if not len(rows):
        raise ValueError(f"run {run.name} keeps no pictures of test images: choose another")
    if n_images < 2:
        raise ValueError(f"n_images must be at least 2, got {n_images}")
    shown, rng = run.features("test")[rows], np.random.default_rng(seed)
    mistakes, correct = (rng.permutation(np.flatnonzero(shown.correct == c)) for c in (False, True))
    half = min(n_images // 2, len(mistakes), len(correct))
    order = rng.permutation(np.concatenate([mistakes[:half], correct[:half]]))
    sheet = Image.open(run.figure("pictures")).convert("RGB")  # square images side by side
    images = [
        {
            "png": _png(sheet, place),
            "label": run.classes[shown.labels[place]],
            "predicted": run.classes[shown.predictions[place]],
            "mistake": not shown.correct[place],
        }
        for place in order
    ]
    environment = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent))
    return environment.get_template("sheet.html").render(images=images, title=run.title)


def _png(sheet, place):
    """One image of the sheet, base64."""
    edge, buffer = sheet.height, io.BytesIO()
    sheet.crop((place * edge, 0, (place + 1) * edge, edge)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
