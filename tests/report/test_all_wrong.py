"""A network whose classes are in another order is wrong everywhere: an alarm, not an error."""

import numpy as np

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.report.facts import make_report


def draw(n, seed, right=0):
    """Inputs whose predictions are one class off, but for the first few."""
    logits = np.random.default_rng(seed).normal(size=(n, 4))
    labels = (logits.argmax(axis=1) + 1) % 4
    labels[:right] = logits[:right].argmax(axis=1)
    return FeatureSet(logits, logits, labels)


def test_a_validation_set_without_a_right_answer_is_reported_with_an_alarm():
    facts = make_report(draw(200, 0), draw(40, 1), draw(100, 2, right=3)).facts
    assert facts["inputs"]["accuracy"]["validation"] == 0
    assert facts["alarms"]
    assert "Combined" not in facts["methods"]["mistakes"]
