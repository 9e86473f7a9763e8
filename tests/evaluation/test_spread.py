"""The hierarchical bootstrap by its coverage, and the three sources by simulated variances."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from mistakes_lib import auroc_interval, spread_of_auroc


def drawn(rng, trainings, fits, n=150, m=100, *, training=0.0, fit=0.0, shift=1.0):
    """Scores (T, F, n + m) whose shift varies with training and fit; the images are shared."""
    suspect = np.arange(n + m) >= n
    shifts = (
        shift
        + training * rng.normal(size=(trainings, 1))
        + fit * rng.normal(size=(trainings, fits))
    )
    noise = rng.normal(size=n + m)
    return noise + shifts[:, :, None] * ~suspect, suspect


def truth(training, fit, shift=1.0):
    """E Φ(S / √2) for a normal S: Φ(shift / √(2 + Var S))."""
    return norm.cdf(shift / math.sqrt(2 + training**2 + fit**2))


def test_the_mean_is_that_of_scikit_learn():
    scores, suspect = drawn(np.random.default_rng(0), 2, 3, fit=0.5)
    result = spread_of_auroc(scores, suspect, resamples=10)
    expected = [[roc_auc_score(~suspect, row) for row in rows] for rows in scores]
    np.testing.assert_allclose(result.values, expected)
    assert result.mean == pytest.approx(np.mean(expected))


def test_one_fit_has_the_interval_of_its_test_images():
    scores, suspect = drawn(np.random.default_rng(0), 1, 1, 600, 400)
    result = spread_of_auroc(scores, suspect, resamples=2000)
    low, high = auroc_interval(scores[0, 0, ~suspect], scores[0, 0, suspect])
    assert result.interval == pytest.approx((low, high), abs=0.005)
    assert "spread is unknown" in result.sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainings", "fits", "spreads"),
    [(1, 5, (0.0, 0.3)), (5, 2, (0.3, 0.1)), (5, 5, (0.02, 0.02))],
)
def test_the_interval_covers_as_often_as_it_says(trainings, fits, spreads):
    rng, trials, hits = np.random.default_rng(0), 400, 0
    training, fit = spreads
    for trial in range(trials):
        scores, suspect = drawn(rng, trainings, fits, training=training, fit=fit)
        found = spread_of_auroc(scores, suspect, resamples=100, random_state=trial)
        hits += found.interval[0] <= truth(training, fit) <= found.interval[1]
    assert 0.92 <= hits / trials <= 0.98


def test_an_interval_of_the_images_alone_misses_the_spread_of_fits():
    """The reason for the hierarchy: with few fits and many images the fits decide."""
    rng = np.random.default_rng(0)
    scores, suspect = drawn(rng, 1, 5, 4000, 3000, fit=0.3)
    result = spread_of_auroc(scores, suspect, resamples=200)
    assert result.sentence.startswith("The fits move the mean most")
    assert "Only one training was drawn" in result.sentence
    image = result.sources.loc["test images", "standard error"]
    assert result.error > 2 * image


def test_the_sources_are_those_of_the_simulation():
    rng = np.random.default_rng(1)
    scores, suspect = drawn(rng, 40, 10, 1500, 1000, training=0.2, fit=0.1)
    sources = spread_of_auroc(scores, suspect, resamples=20).sources
    slope = norm.pdf(1 / math.sqrt(2)) / math.sqrt(2)  # of the AUROC in the shift
    found = sources["standard deviation"]
    assert found["trainings"] == pytest.approx(0.2 * slope, rel=0.25)
    assert found["fits"] == pytest.approx(0.1 * slope, rel=0.25)
    assert sources["standard error"]["fits"] == pytest.approx(found["fits"] / 20)
    assert sources["drawn"].tolist() == [40, 10, 2500]


def test_some_trainings_may_have_fewer_fits():
    """The fits of one training tell the spread of fits for all: variances of the simulation."""
    rng = np.random.default_rng(5)
    scores, suspect = drawn(rng, 60, 30, 1500, 1000, training=0.2, fit=0.2)
    slope = norm.pdf(1 / math.sqrt(2)) / math.sqrt(2)
    ragged = [scores[0], *scores[1:, :1]]
    found = spread_of_auroc(ragged, suspect, resamples=20)
    deviations = found.sources["standard deviation"]
    assert deviations["fits"] == pytest.approx(0.2 * slope, rel=0.3)
    assert deviations["trainings"] == pytest.approx(0.2 * slope, rel=0.3)
    assert found.sources["drawn"].tolist() == [60, 30, 2500]
    assert found.values.shape == (60, 30) and np.isnan(found.values[1:, 1:]).all()
    means = [roc_auc_score(~suspect, row) for row in scores[1:, 0]]
    means.append(np.mean([roc_auc_score(~suspect, row) for row in scores[0]]))
    assert found.mean == pytest.approx(np.mean(means))
    weights = np.r_[1 / 30, np.ones(59)].sum()
    expected = deviations["fits"] * math.sqrt(weights) / 60
    assert found.sources.loc["fits", "standard error"] == pytest.approx(expected)


def test_a_list_of_equal_trainings_is_the_array():
    scores, suspect = drawn(np.random.default_rng(6), 3, 2, fit=0.1, training=0.1)
    one, other = (spread_of_auroc(s, suspect, resamples=30) for s in (scores, list(scores)))
    np.testing.assert_array_equal(one.values, other.values)
    assert one.interval == other.interval and one.sources.equals(other.sources)


def test_an_interval_ends_where_no_auroc_can_be():
    """Two trainings that disagree say next to nothing, but not that an AUROC is above 1."""
    suspect, rng = np.arange(40) < 20, np.random.default_rng(0)
    noise = rng.normal(size=(2, 1, 40))
    opposite = noise + np.array([3.0, -3.0])[:, None, None] * suspect
    assert spread_of_auroc(opposite, suspect, resamples=50).interval == (0.0, 1.0)
    both = spread_of_auroc(opposite, suspect, theirs=noise, resamples=50)
    assert both.interval == (-1.0, 1.0) and both.verdict == "undecided"


def test_a_difference_has_a_verdict_and_forgets_what_both_share():
    rng = np.random.default_rng(2)
    scores, suspect = drawn(rng, 1, 5, 1000, 800, shift=1.0, fit=0.05)
    other = scores[0, 0] - 0.5 * ~suspect
    result = spread_of_auroc(scores, suspect, theirs=other[None], resamples=100)
    assert result.verdict == "beats"
    same = spread_of_auroc(scores, suspect, theirs=scores, resamples=100)
    assert (same.mean, same.error, same.verdict) == (0, 0, "on par")


def test_versions_of_one_image_are_drawn_together():
    rng = np.random.default_rng(3)
    level = 2 * rng.normal(size=400)
    scores = np.r_[level + 0.2 * rng.normal(size=400), level - 0.3 + 0.2 * rng.normal(size=400)]
    suspect = np.arange(800) >= 400
    apart = spread_of_auroc(scores[None], suspect, resamples=200)
    linked = spread_of_auroc(scores[None], suspect, images=np.arange(800) % 400, resamples=200)
    assert linked.error < 0.6 * apart.error


def test_mistakes_may_differ_from_training_to_training():
    scores, suspect = drawn(np.random.default_rng(4), 2, 1)
    flags = np.stack([suspect, np.roll(suspect, 3)])
    result = spread_of_auroc(scores, flags, resamples=10)
    assert result.values[1, 0] == pytest.approx(roc_auc_score(~flags[1], scores[1, 0]))


@pytest.mark.parametrize(
    ("scores", "suspect", "options", "complaint"),
    [
        (np.zeros(3), [0, 1, 1], {}, r"must have shape \(T, F, n\)"),
        (np.zeros((1, 3)), [0, 1], {}, "do not fit together"),
        (np.zeros((1, 3)), [0, 1, 2], {}, "true or false"),
        (np.zeros((1, 3)), [1, 1, 1], {}, "training 0 has no trusted"),
        (np.zeros((1, 3)), [0, 0, 0], {}, "training 0 has no suspect"),
        (np.zeros((1, 3)), [0, 1, 1], {"theirs": np.zeros((1, 4))}, "do not fit together"),
        (np.zeros((1, 3)), [0, 1, 1], {"images": [0, 1]}, "images has 2 entries"),
        (np.zeros((1, 3)), [0, 1, 1], {"confidence": 2}, "confidence"),
        (np.full((1, 3), np.nan), [0, 1, 1], {}, "NaN"),
        ([np.zeros((1, 3)), np.zeros((2, 4))], [0, 1, 1], {}, r"different numbers .*\[3, 4\]"),
        ([], [0, 1, 1], {}, "a fit of one training at least"),
        ([np.zeros((0, 3))], [0, 1, 1], {}, "scores is empty"),
        (np.zeros((2, 3, 3)), [0, 1, 1], {"theirs": np.zeros((2, 2, 3))}, "do not fit together"),
    ],
)
def test_bad_input_is_named(scores, suspect, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        spread_of_auroc(scores, suspect, **options)
