"""The attacks of a run by one who knows the detector, against the functions that make them."""

import numpy as np
import pytest
import torch

from mistakes_lib.attacks import adaptive_bim, feature_match, hinge_attack
from mistakes_lib.features.feature_set import extract_features
from tests.helpers.runs import digits

OPTIONS = {"eps": 32 / 255, "device": "cpu"}


def assert_attacked(run, name, attack):
    """That a stored attack by one who knows the detector is this one."""
    rows = run.attacked[:5]
    images = torch.from_numpy(digits().images[rows]).float() / 255
    labels, classifier = digits().labels[rows], run.classifier()
    stored = run.adaptive_attack(name)
    again = extract_features(classifier, attack(classifier, images, labels), device="cpu")
    np.testing.assert_allclose(stored.logits, again.logits, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(stored.labels, labels)


@pytest.mark.parametrize("weight", [0, 2.5])
def test_the_adaptive_attack_climbs_the_runs_mixture(run, weight):
    options = OPTIONS | {"weight": weight, "iterations": 3}
    assert_attacked(
        run, weight, lambda net, *batch: adaptive_bim(net, run.density(2), *batch, **options)
    )
    with pytest.raises(FileNotFoundError, match="has no attacks/adaptive-7"):
        run.adaptive_attack(7)


def test_the_hinge_aims_at_the_threshold_of_validation_images(run):
    density = run.density(2)
    scores = density.score_samples(run.features("validation").features)
    options = OPTIONS | {"threshold": np.quantile(scores, 0.05), "weight": 0.3, "iterations": 4}
    assert_attacked(
        run, "hinge-0.3", lambda net, *batch: hinge_attack(net, density, *batch, **options)
    )


def test_the_match_takes_features_of_validation_images_of_another_class(run):
    clean, known = run.features("test")[run.attacked[:5]], run.features("validation")
    targets = []
    for features, label in zip(clean.features, clean.labels, strict=True):
        elsewhere = known.features[known.predictions != label]
        targets.append(elsewhere[np.linalg.norm(elsewhere - features, axis=1).argmin()])
    options = OPTIONS | {"targets": np.array(targets), "iterations": 4}
    assert_attacked(run, "match", lambda net, *of: feature_match(net, *of, **options))
