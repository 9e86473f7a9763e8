"""What makes a report's numbers doubtful: each alarm with its likeliest cause and the cure."""

from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from mistakes_lib.support.blocks import row_blocks

__all__ = ["find_alarms", "order_of_outputs"]

NEAR_CHANCE = 0.25  # share of the way from chance to all right
FAR_ABOVE = 0.02  # validation accuracy less test accuracy, beyond what chance explains
STRICT = 0.999  # of the test for that


def find_alarms(train, validation, test, detector, *, classes=None, confidence=0.95):
    """Look for signs that the network was not given what it knows, or has seen what is held out.

    Args:
        train, validation, test: FeatureSets with labels.
        detector: the report's facts on its detector: ``promised`` and ``false_alarms``.
        classes: names of the outputs, in their order; by default their numbers.
        confidence: of the interval of the false alarms, in (0, 1).

    Returns:
        list of dicts with the keys alarm, cause and cure, sentences for the reader.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> logits = np.tile([[0.0, 3], [3, 0]], (20, 1))
        >>> swapped = FeatureSet(np.zeros((40, 1)), logits, [0, 1] * 20)
        >>> said = {"promised": 0.05, "false_alarms": 0.05}
        >>> find_alarms(swapped, swapped, swapped, said, classes=["cat", "dog"])[0]["cure"]
        'name the outputs in this order, one a line, in a file for --classes: dog, cat'
    """
    found = [
        _low_accuracy(train, classes),
        _seen_validation(validation, test),
        _broken_promise(validation, test, detector, confidence),
        _same_inputs({"training": train, "validation": validation, "test": test}),
    ]
    return [alarm for alarm in found if alarm]


def order_of_outputs(batch):
    """The class that each output fits best, one to one.

    Args:
        batch: FeatureSet of n inputs with labels.

    Returns:
        (order, accuracy): int (c,), the class of each output, and the accuracy if they had been in
        this order.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> batch = FeatureSet(np.zeros((2, 1)), [[0.0, 3.0], [3.0, 0.0]], [0, 1])
        >>> order_of_outputs(batch)
        (array([1, 0]), 1.0)
    """
    c = batch.logits.shape[1]
    counts = np.zeros((c, c))  # outputs × classes
    np.add.at(counts, (batch.predictions, batch.labels), 1)
    # Outputs that nothing decides stay where they are.
    outputs, order = linear_sum_assignment(counts + 1e-6 * np.eye(c), maximize=True)
    return order, float(counts[outputs, order].sum() / len(batch))


def _low_accuracy(train, classes):
    accuracy = train.accuracy
    present = np.bincount(train.labels)
    chance = float(present.max() / len(train))
    order, best = order_of_outputs(train)
    if best > max(0.5, accuracy + 0.2):
        names = classes or [str(i) for i in range(train.logits.shape[1])]
        return {
            "alarm": f"accuracy on training images is {accuracy:.1%}, and would be {best:.1%} with "
            "the outputs in another order",
            "cause": "the classes are in another order than the network's outputs, as where a "
            "toolkit sorts folders 1, 2, … 10 by number, or labels begin with 1",
            "cure": "name the outputs in this order, one a line, in a file for --classes: "
            + ", ".join(str(names[i]) for i in order),
        }
    if accuracy < chance + NEAR_CHANCE * (1 - chance):
        return {
            "alarm": f"accuracy on training images is {accuracy:.1%}, near chance ({chance:.1%})",
            "cause": "the network was trained on images of another size or normalisation, on other "
            "classes, or these are not its weights",
            "cure": "give what it was trained with: --size, --mean and --std, --classes, --weights",
        }
    return None


def _seen_validation(validation, test):
    shares, counts = (validation.accuracy, test.accuracy), (len(validation), len(test))
    pooled = (shares[0] * counts[0] + shares[1] * counts[1]) / sum(counts)
    error = np.sqrt(pooled * (1 - pooled) * sum(1 / n for n in counts))
    gap = shares[0] - shares[1]
    if gap <= FAR_ABOVE or gap <= norm.ppf(STRICT) * error:
        return None
    return {
        "alarm": f"validation accuracy {shares[0]:.1%} is far above test accuracy {shares[1]:.1%}",
        "cause": "the network was trained on its validation images, so temperature and threshold "
        "are fitted on memorised images and are not to be trusted",
        "cure": "give images that it has not seen in a folder validation, or let half of the test "
        "images be those: --validation-from-test",
    }


def _broken_promise(validation, test, detector, confidence):
    promised, measured = detector["promised"], detector["false_alarms"]
    if promised is None or measured is None:
        return None
    # The threshold is chosen on the one set and judged on the other: both vary.
    n, m = test.correct.sum(), validation.correct.sum()
    error = np.sqrt(promised * (1 - promised) * (1 / n + 1 / m))
    half = norm.ppf((1 + confidence) / 2) * error
    if abs(measured - promised) <= half:
        return None
    direction = "more" if measured > promised else "fewer"
    return {
        "alarm": f"{measured:.1%} of the correct test predictions are flagged, {direction} than "
        f"the {promised:.1%} promised (up to {half:.1%} apart is chance)",
        "cause": "validation and test images are not of one kind: the network has seen one of "
        "them, or they come from different sources",
        "cure": "draw validation and test images from the same held-out ones, or let half of the "
        "test images be validation images: --validation-from-test",
    }


def _same_inputs(sets):
    for (name, one), (other, two) in combinations(sets.items(), 2):
        if one.features.shape == two.features.shape and _equal(one.features, two.features):
            return {
                "alarm": f"the {name} set and the {other} set hold the same inputs",
                "cause": "one file or folder was given twice",
                "cure": "give inputs of their own for each: what is chosen on some must be judged "
                "on others",
            }
    return None


def _equal(one, two):
    """Whether two arrays (n, d), which may be mapped from files, are the same; stops early."""
    return all(np.array_equal(one[rows], two[rows]) for rows in row_blocks(len(one)))
