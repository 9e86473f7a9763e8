"""The threshold explorer: move a threshold, see what it flags, right and wrong."""

import base64
import struct
from math import ceil, floor, log10
from pathlib import Path

import numpy as np

from mistakes_lib.book.interactive.figure import InteractiveFigure
from mistakes_lib.support.checks import as_vector

__all__ = ["threshold_explorer"]

POSITIONS = 200  # of the slider, at least
STEPS_PER_BIN = 5  # of the histogram
CLIP = 0.005  # share of a group's low tail that the slider does not reach
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def threshold_explorer(
    correct, wrong, *, start=None, unit="score", name="density", pictures=None, rival=None
):
    """Histograms of two groups' scores, their ROC curve, and one threshold to drag through both.

    An input is flagged if its score is below the threshold; the failure is the positive class.
    Every threshold of the slider is a short decimal number, and its counts are exact. With a rival
    the reader switches between two scores of the same inputs; the threshold then moves to where as
    many correct predictions are refused.

    Args:
        correct: scores of correct predictions, (n,), higher = more trusted.
        wrong: scores of wrong predictions, (m,).
        start: threshold to begin with, moved to the slider's nearest; by default the median.
        unit: of the scores, for the axis.
        name: of the score, for the switch.
        pictures: example images for the thresholds that they lie at, or None; a dict of ``file``,
            path of a PNG with k square images in a row, ``score`` (k,), and the names of each
            image's class and predicted class, ``label`` and ``predicted`` (k,).
        rival: another score of the same inputs, or None; a dict of ``name``, ``unit``, ``correct``
            (n,), ``wrong`` (m,) and, if there are pictures, their ``score`` (k,).

    Returns:
        InteractiveFigure.

    Raises:
        ValueError: scores are missing, not finite or all the same, ``start`` is not finite,
            ``pictures`` do not fit together, or ``rival`` lacks a part or is of other inputs.

    Example:
        >>> figure = threshold_explorer([1.0, 2.0, 3.0, 4.0], [0.5, 1.5], start=1.2)
        >>> (measure,) = figure.data["measures"]
        >>> i = measure["start"]
        >>> measure["correct"]["flagged"][i], measure["wrong"]["flagged"][i]
        (1, 1)
    """
    measures = [_measure(correct, wrong, name, unit, start)]
    if pictures is not None:
        pictures = _pictures(pictures)
    if rival is not None:
        measures.append(_rival(rival, measures[0], pictures))
    data = {"perBin": STEPS_PER_BIN, "measures": measures, "pictures": pictures}
    return InteractiveFigure(
        "threshold",
        data,
        label="Confusion counts, rates and the point on the ROC curve at a threshold to be moved",
    )


def _measure(correct, wrong, name, unit, start=None):
    """One score: the slider's thresholds, and how many of each group lie below each of them."""
    groups = {"correct": as_vector(correct, "correct"), "wrong": as_vector(wrong, "wrong")}
    everything = np.concatenate(list(groups.values()))
    multiples, step = _short_multiples(
        min(np.quantile(scores, CLIP) for scores in groups.values()),
        np.quantile(everything, 1 - CLIP / 5),
    )
    decimals = max(0, -floor(log10(step)))
    thresholds = np.round(multiples * step, decimals)
    if start is None:
        start = np.median(everything)
    (start,) = as_vector([start], "start")
    measure = {
        "name": name,
        "unit": unit,
        "first": int(multiples[0]),
        "step": step,
        "decimals": decimals,
        "start": int(np.argmin(np.abs(thresholds - start))),
    }
    for group, scores in groups.items():
        flagged = np.searchsorted(np.sort(scores), thresholds, side="left")  # scores below
        measure[group] = {"flagged": flagged.tolist(), "count": len(scores)}
    return measure


def _rival(rival, first, pictures):
    """The other score as a measure; its scores of the pictures join those of the first."""
    needed = {"name", "unit", "correct", "wrong"} | ({"score"} if pictures else set())
    if missing := needed - set(rival):
        raise ValueError(f"rival lacks {', '.join(sorted(missing))}")
    measure = _measure(*(rival[key] for key in ("correct", "wrong", "name", "unit")))
    counts = [[own[group]["count"] for group in ("correct", "wrong")] for own in (first, measure)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"rival must score the same inputs: {counts[0]} correct and wrong ones, got {counts[1]}"
        )
    if pictures:
        scores = as_vector(rival["score"], "rival['score']")
        if len(scores) != len(pictures["label"]):
            raise ValueError(f"rival scores {len(scores)} of {len(pictures['label'])} pictures")
        pictures["scores"].append(_short(scores))
    return measure


def _short(scores):
    return [float(f"{score:.6g}") for score in scores]


def _short_multiples(low, high):
    """Whole multiples of a step 1, 2 or 5 × 10^k that cover [low, high] in full bins."""
    if low >= high:
        raise ValueError("the scores are all the same: no threshold tells them apart")
    raw = (high - low) / POSITIONS
    power = 10.0 ** floor(log10(raw))
    step = next(size for size in (5, 2, 1) if size * power <= raw) * power
    step = float(f"{step:.0e}")
    first = floor(low / step)
    bins = ceil((high / step - first) / STEPS_PER_BIN)
    return first + np.arange(bins * STEPS_PER_BIN + 1), step


def _pictures(pictures):
    """What the page needs of the pictures: the file itself, its size, and each image's words."""
    missing = {"file", "score", "label", "predicted"} - set(pictures)
    if missing:
        raise ValueError(f"pictures lacks {', '.join(sorted(missing))}")
    path, scores = Path(pictures["file"]), as_vector(pictures["score"], "pictures['score']")
    image = path.read_bytes()
    if not image.startswith(PNG_SIGNATURE) or len(image) < 24:
        raise ValueError(f"{path} is no PNG file")
    width, height = struct.unpack(">II", image[16:24])
    names = {key: [str(name) for name in pictures[key]] for key in ("label", "predicted")}
    lengths = {key: len(values) for key, values in names.items()} | {"score": len(scores)}
    if any(length * height != width for length in lengths.values()):
        raise ValueError(
            f"{path} is {width} × {height} pixels, so it holds {width / height:g} square images, "
            f"but pictures has {lengths}"
        )
    return {
        "source": f"data:image/png;base64,{base64.b64encode(image).decode()}",
        "scores": [_short(scores)],  # a list for each measure
        **names,
    }
