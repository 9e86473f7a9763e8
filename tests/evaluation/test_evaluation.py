"""Areas, thresholds, calibration and risk against scikit-learn, torchmetrics and simulations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from mistakes_lib import (
    conformal_threshold,
    detection_report,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
    select_threshold,
)
from mistakes_lib.evaluation.detection import detection_reports

SCORES = st.lists(st.integers(-6, 6), min_size=1, max_size=30)


def two_groups(n=300, m=60, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, size=n), rng.normal(size=m)


# --- Detection ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(trusted=SCORES, suspect=SCORES)
def test_areas_equal_scikit_learns_with_failures_as_positive_class(trusted, suspect):
    report = detection_report(trusted, suspect, resamples=2, random_state=0)
    failure = [0] * len(trusted) + [1] * len(suspect)
    suspicion = [-score for score in (*trusted, *suspect)]
    assert report.auroc == pytest.approx(roc_auc_score(failure, suspicion))
    assert report.aupr == pytest.approx(average_precision_score(failure, suspicion))
    false_alarms, hits, _ = roc_curve(failure, suspicion, drop_intermediate=False)
    assert report.fpr95 == pytest.approx(false_alarms[hits >= 0.95].min())
    assert (report.n_trusted, report.n_suspect) == (len(trusted), len(suspect))


def test_a_perfect_and_a_reversed_detector():
    good = detection_report([3, 4], [1, 2], random_state=0)
    assert (good.auroc, good.aupr, good.fpr95) == (1, 1, 0)
    bad = detection_report([1, 2], [3, 4], random_state=0)
    assert (bad.auroc, bad.fpr95) == (0, 1)


def test_intervals_hold_the_estimates_and_narrow_with_more_inputs():
    small, large = (detection_report(*two_groups(n, n // 4), random_state=0) for n in (200, 20_000))
    for name in ("auroc", "aupr", "fpr95"):
        widths = []
        for report in (small, large):
            low, high = getattr(report, f"{name}_ci")
            assert low <= getattr(report, name) <= high
            widths.append(high - low)
        assert widths[1] < widths[0] / 4


@pytest.mark.slow
def test_bootstrap_interval_covers_the_truth():
    truth = detection_report(*two_groups(400_000, 80_000, seed=1), resamples=1)
    hits, trials = 0, 200
    for seed in range(trials):
        report = detection_report(
            *two_groups(seed=seed + 10), confidence=0.9, resamples=200, random_state=seed
        )
        hits += report.aupr_ci[0] <= truth.aupr <= report.aupr_ci[1]
    assert hits / trials > 0.9 - 4 * math.sqrt(0.09 / trials)


@settings(deadline=None, max_examples=20)
@given(trusted=SCORES, suspect=SCORES, other=SCORES)
def test_the_bootstrap_is_scikit_learns_areas_of_inputs_drawn_anew(trusted, suspect, other):
    """Also for several detectors at once, whether of as many inputs or not."""
    pairs = {"first": (trusted, suspect), "negated": ([-s for s in trusted], suspect)}
    pairs["of others"] = other, suspect
    reports = detection_reports(pairs, resamples=9, random_state=3)
    for name, (kept, flagged) in pairs.items():
        kept, flagged = np.array(kept), np.array(flagged)
        rng, areas = np.random.RandomState(3), []
        for _ in range(9):
            drawn = [each[rng.randint(len(each), size=len(each))] for each in (kept, flagged)]
            failure, suspicion = np.repeat([0, 1], list(map(len, drawn))), -np.concatenate(drawn)
            false_alarms, caught, _ = roc_curve(failure, suspicion, drop_intermediate=False)
            fpr95 = false_alarms[np.argmax(caught >= 0.95)]
            areas.append((average_precision_score(failure, suspicion), fpr95))
        (low, low95), (high, high95) = np.quantile(areas, [0.025, 0.975], axis=0)
        assert reports[name].aupr_ci == pytest.approx((low, high))
        assert reports[name].fpr95_ci == pytest.approx((low95, high95))


def test_seed_decides_the_bootstrap_alone():
    trusted, suspect = two_groups()
    first, same, other = (detection_report(trusted, suspect, random_state=s) for s in (0, 0, 1))
    assert first == same
    assert (first.auroc_ci, first.aupr) == (other.auroc_ci, other.aupr)
    assert first.aupr_ci != other.aupr_ci


@pytest.mark.parametrize(
    ("trusted", "suspect", "options", "complaint"),
    [
        ([], [1], {}, "trusted is empty"),
        ([1], [], {}, "suspect is empty"),
        ([1], [math.nan], {}, "suspect has a NaN"),
        ([1], [1], {"confidence": 0}, "confidence must lie"),
        ([1], [1], {"resamples": 0}, "resamples"),
    ],
)
def test_bad_input_to_the_report_is_named(trusted, suspect, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        detection_report(trusted, suspect, **options)


# --- Thresholds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["f1", "youden", "accuracy"])
def test_threshold_lies_near_the_best_of_a_large_sample(criterion):
    correct_scores, wrong_scores = two_groups(4000, 1000, shift=3.0)
    scores = np.r_[correct_scores, wrong_scores]
    correct = np.r_[np.ones(4000, bool), np.zeros(1000, bool)]
    threshold = select_threshold(scores, correct, criterion=criterion)

    def quality(value):
        flagged = scores < value
        hits, false_alarms = flagged[~correct].mean(), flagged[correct].mean()
        return {
            "f1": f1_score(~correct, flagged),
            "youden": hits - false_alarms,
            "accuracy": np.mean(flagged == ~correct),
        }[criterion]

    best = max(quality(value) for value in np.linspace(-2, 5, 200))
    assert quality(threshold.value) > best - 0.01
    assert threshold.performance == pytest.approx(best, abs=0.03)
    assert 0 < threshold.performance_std < 0.1


def test_threshold_is_between_separated_groups():
    threshold = select_threshold([1, 1, 2, 2, 8, 8, 9, 9], [0, 0, 0, 0, 1, 1, 1, 1], cv=2)
    assert 2 < threshold.value < 8
    assert (threshold.performance, threshold.performance_std) == (1, 0)


def test_performance_is_held_out():
    """Scores that know nothing must not look useful, however well a threshold fits them."""
    rng = np.random.default_rng(0)
    scores, correct = rng.normal(size=200), rng.random(200) < 0.5
    threshold = select_threshold(scores, correct, criterion="youden")
    assert abs(threshold.performance) < 0.2


@pytest.mark.parametrize(
    ("scores", "correct", "options", "complaint"),
    [
        ([1, 2, 3], [0, 1], {}, "correct has 2 entries, but there are 3 scores"),
        ([1, 2, 3], [0, 1, 2], {}, "true or false"),
        (range(10), [0] + [1] * 9, {}, "5 folds need at least 5 correct and 5 wrong"),
        (range(10), [0, 1] * 5, {"criterion": "best"}, "criterion must be one of f1"),
        (range(10), [0, 1] * 5, {"cv": 1}, "cv"),
    ],
)
def test_bad_input_to_select_threshold_is_named(scores, correct, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        select_threshold(scores, correct, **options)


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (20, 0.05), (99, 0.1), (250, 0.01)])
def test_conformal_threshold_keeps_its_promise(n, alpha):
    """False-alarm rate over many calibration sets: at most α, and at least α − 1 / (n + 1)."""
    rng = np.random.default_rng(n)
    trials = 4000
    rates = np.empty(trials)
    for i in range(trials):
        threshold = conformal_threshold(rng.exponential(size=n), alpha)
        rates[i] = 1 - math.exp(-max(threshold, 0))  # P(score < threshold), exactly
    margin = 4 * rates.std() / math.sqrt(trials)
    assert alpha - 1 / (n + 1) - margin <= rates.mean() <= alpha + margin


def test_conformal_threshold_flags_nothing_when_it_cannot_promise():
    assert conformal_threshold(np.arange(18.0), 0.05) == -math.inf
    assert conformal_threshold(np.arange(19.0), 0.05) == 0


@pytest.mark.parametrize(
    ("scores", "alpha", "complaint"),
    [([], 0.1, "is empty"), ([1.0, math.nan], 0.1, "index 1"), ([1.0], 1.5, "alpha must lie")],
)
def test_bad_input_to_conformal_threshold_is_named(scores, alpha, complaint):
    with pytest.raises(ValueError, match=complaint):
        conformal_threshold(scores, alpha)


# --- Calibration --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n_bins=st.integers(1, 20), scale=st.sampled_from([0.5, 2, 6]))
def test_ece_equals_torchmetrics(seed, n_bins, scale):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(scale=scale, size=(200, 4)), rng.integers(4, size=200)
    reference = multiclass_calibration_error(
        torch.tensor(softmax(logits, axis=1)), torch.tensor(labels), 4, n_bins=n_bins, norm="l1"
    )
    assert expected_calibration_error(logits, labels, n_bins=n_bins) == pytest.approx(
        reference.item(), abs=1e-6
    )


def test_probabilities_and_their_logits_give_the_same_error():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(3, size=50)
    probabilities = softmax(logits, axis=1)
    assert expected_calibration_error(labels=labels, probabilities=probabilities) == pytest.approx(
        expected_calibration_error(logits, labels)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_probabilities_of_half_precision_are_not_taken_for_logits(dtype):
    """500 rows of 1000 classes: their sums leave 1 by more than rounding in float32 explains."""
    rng = np.random.default_rng(0)
    logits, labels = 4 * rng.normal(size=(500, 1000)), rng.integers(1000, size=500)
    probabilities = softmax(logits, axis=1)
    expected = expected_calibration_error(labels=labels, probabilities=probabilities)
    assert expected > 0.1
    rounded = torch.tensor(probabilities).to(dtype)
    ours = expected_calibration_error(labels=labels, probabilities=rounded)
    assert ours == pytest.approx(expected, abs=0.01)


def test_what_is_given_is_never_guessed():
    for dtype in (torch.float16, torch.bfloat16):  # whose rows sum to 1 but nearly
        rounded = (3 * torch.randn(500, 1000)).softmax(dim=1).to(dtype)
        with pytest.warns(UserWarning, match="pass them as probabilities="):
            expected_calibration_error(rounded, np.zeros(500))
    with pytest.warns(UserWarning, match="pass them as probabilities="):
        assert expected_calibration_error([[1.0, 0.0]], [0]) == pytest.approx(1 / (1 + math.e))
    assert expected_calibration_error(labels=[0], probabilities=[[1.0, 0.0]]) == 0
    for values in ({}, {"logits": [[1.0, 0.0]], "probabilities": [[1.0, 0.0]]}):
        with pytest.raises(TypeError, match="give either logits or probabilities"):
            expected_calibration_error(labels=[0], **values)
    for wrong in ([[3.0, 1.0]], [[1.5, -0.5]]):
        with pytest.raises(ValueError, match="probabilities must not be negative and their rows"):
            expected_calibration_error(labels=[0], probabilities=wrong)


def test_a_calibrated_forecast_has_a_small_error():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=50_000)
    labels = (probabilities.cumsum(axis=1) < rng.random((50_000, 1))).sum(axis=1)
    error = expected_calibration_error(labels=labels.clip(max=2), probabilities=probabilities)
    assert error < 0.01


def test_bins_hold_every_prediction_once():
    three = [[1.0, 0.0], [0.5, 0.5], [0.6, 0.4]]
    bins = reliability_bins(labels=[0, 0, 1], probabilities=three, n_bins=10)
    assert bins.counts.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert bins.accuracy[[4, 5, 9]].tolist() == [1, 0, 1]
    assert np.isnan(bins.confidence[0])


@pytest.mark.parametrize("function", [expected_calibration_error, reliability_bins])
@pytest.mark.parametrize(
    ("values", "labels", "n_bins", "complaint"),
    [
        ([], [], 10, "is empty"),
        ([0.5, 0.5], [0, 1], 10, "must have shape"),
        ([[0.5, 0.5]], [2], 10, r"labels\[0\] is 2, outside 0…1"),
        ([[0.5, 0.5]], [0, 1], 10, "2 entries, but there are 1 rows"),
        ([[0.5, math.nan]], [0], 10, "NaN"),
        ([[0.5, 0.5]], [0], 0, "n_bins"),
    ],
)
def test_bad_input_to_calibration_is_named(function, values, labels, n_bins, complaint):
    with pytest.raises(ValueError, match=complaint):
        function(labels=labels, probabilities=values, n_bins=n_bins)


# --- Risk and coverage --------------------------------------------------------------------------


def test_risk_is_the_error_rate_among_the_kept():
    rng = np.random.default_rng(0)
    scores, correct = rng.normal(size=100), rng.random(100) < 0.8
    curve = risk_coverage(scores, correct)
    order = np.argsort(-scores)
    expected = [1 - correct[order[:k]].mean() for k in range(1, 101)]
    np.testing.assert_allclose(curve.risk, expected, atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 101) / 100)
    assert curve.aurc == pytest.approx(np.mean(expected))


@given(correct=st.lists(st.booleans(), min_size=1, max_size=30))
def test_equal_scores_have_the_same_risk_at_every_coverage(correct):
    curve = risk_coverage(np.zeros(len(correct)), correct)
    np.testing.assert_allclose(curve.risk, 1 - np.mean(correct))


def test_ties_are_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    scores, correct = rng.integers(0, 4, 40), rng.random(40) < 0.7
    broken = [risk_coverage(scores + 0.5 * rng.random(40), correct).aurc for _ in range(4000)]
    error = np.std(broken) / math.sqrt(len(broken))
    assert risk_coverage(scores, correct).aurc == pytest.approx(np.mean(broken), abs=5 * error)


def test_no_order_beats_the_oracle():
    rng = np.random.default_rng(0)
    correct = rng.random(50) < 0.7
    oracle = risk_coverage(correct.astype(float), correct).aurc
    assert oracle < min(risk_coverage(rng.random(50), correct).aurc for _ in range(100))


def test_bad_input_to_risk_coverage_is_named():
    with pytest.raises(ValueError, match="correct has 1 entries, but there are 2 scores"):
        risk_coverage([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="scores is empty"):
        risk_coverage([], [])
