"""The U-test against SciPy, mpmath and scikit-learn; the interval by its coverage."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from mistakes_lib import auroc_interval, mann_whitney

# Whole numbers, so that there are ties within and between the groups.
SCORES = st.lists(st.integers(-8, 8), min_size=1, max_size=40)


@given(correct=SCORES, wrong=SCORES)
def test_equals_scipy_ties_included(correct, wrong):
    result = mann_whitney(correct, wrong)
    reference = mannwhitneyu(correct, wrong, method="asymptotic", use_continuity=False)
    assert result.u_correct == reference.statistic
    assert result.u_wrong == len(correct) * len(wrong) - reference.statistic
    assert result.u == min(result.u_correct, result.u_wrong)
    if len({*correct, *wrong}) > 1:
        assert result.p_value == pytest.approx(reference.pvalue, rel=1e-9)


@given(correct=SCORES, wrong=SCORES)
def test_auroc_equals_scikit_learns_and_lies_in_its_interval(correct, wrong):
    result = mann_whitney(correct, wrong)
    labels = [1] * len(correct) + [0] * len(wrong)
    assert result.auroc == pytest.approx(roc_auc_score(labels, [*correct, *wrong]))
    low, high = result.auroc_ci
    assert 0 <= low <= result.auroc <= high <= 1


@given(correct=SCORES, wrong=SCORES)
def test_swapping_the_groups_mirrors_the_result(correct, wrong):
    result, mirrored = mann_whitney(correct, wrong), mann_whitney(wrong, correct)
    assert mirrored.z == pytest.approx(-result.z)
    assert mirrored.p_value == pytest.approx(result.p_value)
    low, high = result.auroc_ci
    assert mirrored.auroc_ci == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("n", "shift"), [(50, 0.1), (500, 1.0), (5000, 3.0), (20000, 1.5)])
def test_log10_p_equals_mpmath_also_where_p_underflows(n, shift):
    rng = np.random.default_rng(n)
    result = mann_whitney(rng.normal(shift, size=n), rng.normal(size=n))
    with mpmath.workdps(60):
        exact = mpmath.log10(mpmath.erfc(abs(mpmath.mpf(result.z)) / mpmath.sqrt(2)))
    assert result.log10_p == pytest.approx(float(exact), rel=1e-10)
    assert result.p_value == pytest.approx(10**result.log10_p, rel=1e-9)
    if n == 20000:
        assert result.p_value == 0 and result.log10_p < -1000


def test_hand_worked_case():
    result = mann_whitney([3, 5, 6], [1, 4])
    assert (result.u_correct, result.u_wrong, result.u) == (5, 1, 1)
    assert result.z == pytest.approx((5 - 3) / math.sqrt(3 * 2 * 6 / 12))
    assert result.auroc == pytest.approx(5 / 6)


def test_all_scores_equal_is_no_evidence():
    result = mann_whitney([1.0] * 5, [1.0] * 7)
    assert (result.z, result.p_value, result.log10_p, result.auroc) == (0, 1, 0, 0.5)


def test_error_is_delongs():
    """Against DeLong's structural components, written out as a matrix of pairs."""
    rng = np.random.default_rng(0)
    correct, wrong = rng.integers(0, 30, 60) + 5.0, rng.integers(0, 30, 45) + 0.0
    pairs = (correct[:, None] > wrong) + 0.5 * (correct[:, None] == wrong)
    auroc = pairs.mean()
    variance = np.var(pairs.mean(axis=1), ddof=1) / 60 + np.var(pairs.mean(axis=0), ddof=1) / 45
    half = norm.isf(0.05) * math.sqrt(variance) / (auroc * (1 - auroc))
    expected = [1 / (1 + math.exp(-(math.log(auroc / (1 - auroc)) + s * half))) for s in (-1, 1)]
    assert auroc_interval(correct, wrong, confidence=0.9) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("auroc", [0.55, 0.8, 0.97])
@pytest.mark.parametrize(("n", "m"), [(400, 40), (60, 60)])
def test_interval_covers_the_truth_as_often_as_it_says(auroc, n, m):
    rng = np.random.default_rng(0)
    shift = norm.ppf(auroc) * math.sqrt(2)  # AUROC of two normals of variance 1
    trials = 600
    hits = 0
    for _ in range(trials):
        low, high = auroc_interval(rng.normal(shift, size=n), rng.normal(size=m), confidence=0.9)
        hits += low <= auroc <= high
    # Four standard errors of a share of 600, and the asymptotics' own share.
    assert hits / trials == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / trials) + 0.01)


def test_p_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    p = [mann_whitney(*rng.normal(size=(2, 40))).p_value for _ in range(2000)]
    share = np.mean(np.array(p) < 0.05)
    assert share == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 2000))


def test_perfect_separation_leaves_room_for_doubt():
    low, high = auroc_interval(np.arange(5, 25), np.arange(5))
    assert high == 1 and 0.6 < low < 0.99
    narrow, _ = auroc_interval(np.arange(1000) + 1000, np.arange(500))
    assert low < narrow < 1
    assert auroc_interval([0.0], [1.0])[0] == 0


@settings(max_examples=30)
@given(confidence=st.floats(0.5, 0.98))
def test_more_confidence_widens(confidence):
    rng = np.random.default_rng(0)
    correct, wrong = rng.normal(1, size=50), rng.normal(size=20)
    inner = auroc_interval(correct, wrong, confidence=confidence)
    outer = auroc_interval(correct, wrong, confidence=confidence + 0.01)
    assert outer[0] < inner[0] < inner[1] < outer[1]


@pytest.mark.parametrize("function", [mann_whitney, auroc_interval])
@pytest.mark.parametrize(
    ("correct", "wrong", "options", "complaint"),
    [
        ([], [1.0], {}, "correct is empty"),
        ([1.0], [], {}, "wrong is empty"),
        ([[1.0]], [1.0], {}, "correct must be one-dimensional"),
        ([1.0], [1.0, 2.0, float("nan")], {}, "wrong has a NaN.*index 2"),
        ([float("inf")], [1.0], {}, "correct has a NaN or an infinity"),
        ([1.0], [1.0], {"confidence": 1.0}, "confidence must lie strictly between 0 and 1"),
    ],
)
def test_bad_input_is_named(function, correct, wrong, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        function(correct, wrong, **options)


def test_words_are_no_scores():
    with pytest.raises(TypeError, match="correct must be numeric"):
        mann_whitney(["high", "low"], [1.0])
