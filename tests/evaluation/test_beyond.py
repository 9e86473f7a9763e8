"""What one score adds to another: bins and groups by hand, the ratio against closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, kstest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from mistakes_lib import auroc_by_group, auroc_within, likelihood_ratio_test


def test_bins_by_hand():
    """Two bins of four by the other score; within each our score decides alone."""
    by = [1, 2, 3, 4, 5, 6, 7, 8]
    scores = [5, 4, 3, 2, 1, 2, 3, 4]
    correct = [1, 1, 0, 0, 0, 1, 1, 0]
    table = auroc_within(scores, correct, by, n_bins=2)
    assert table.index.tolist() == [1, 2] and table.inputs.tolist() == [4, 4]
    assert table.mistakes.tolist() == [2, 2]
    assert table.AUROC.tolist() == [1.0, 0.5]
    assert (table.low <= table.AUROC).all() and (table.high >= table.AUROC).all()


def test_within_bins_a_copy_of_the_other_score_knows_little_and_the_truth_much():
    rng = np.random.default_rng(0)
    confidence, hunch = rng.normal(size=(2, 20_000))
    correct = rng.random(20_000) < 1 / (1 + np.exp(-confidence - hunch))
    copy, other = (auroc_within(s, correct, confidence).AUROC for s in (confidence, hunch))
    assert roc_auc_score(correct, confidence) > 0.65
    assert (copy[2:9] < 0.55).all() and (other > 0.6).all()


def test_groups_are_scikit_learns_areas():
    rng = np.random.default_rng(0)
    scores, correct, groups = rng.normal(size=90), rng.random(90) < 0.6, np.arange(90) % 3
    table = auroc_by_group(scores, correct, groups, names=["a", "b", "c"])
    for number, name in enumerate("abc"):
        own = groups == number
        assert table.AUROC[name] == pytest.approx(roc_auc_score(correct[own], scores[own]))
    assert np.isnan(auroc_by_group([1.0, 2.0], [1, 1], [0, 0]).AUROC[0])


def test_the_ratio_is_that_of_scikit_learns_regressions():
    rng = np.random.default_rng(1)
    base, added = rng.normal(size=(500, 2)), rng.normal(size=(500, 1))
    correct = rng.random(500) < 1 / (1 + np.exp(-base[:, 0] - 0.3 * added[:, 0]))
    result = likelihood_ratio_test(base, added[:, 0], correct)
    losses = []
    for columns in (base, np.hstack([base, added])):
        peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(columns, correct)
        losses.append(log_loss(correct, peer.predict_proba(columns), normalize=False))
    assert result.statistic == pytest.approx(2 * (losses[0] - losses[1]), abs=1e-5)
    assert result.p_value == pytest.approx(chi2.sf(result.statistic, 1))
    np.testing.assert_allclose(result.coefficients, peer.coef_[0] * columns.std(axis=0), atol=1e-4)


def test_the_ratio_of_two_groups_by_hand():
    """Flags alone: the fitted probabilities are the shares in the groups and their crossings."""
    base = np.repeat([0, 0, 1, 1], [40, 60, 50, 50])
    added = np.r_[np.arange(100) % 2, np.arange(100) % 2]
    correct = np.random.default_rng(0).random(200) < 0.3 + 0.3 * added
    result = likelihood_ratio_test(added, base * added + 0.0, correct)

    def fitted(groups):
        total = 0.0
        for group in np.unique(groups):
            own = correct[groups == group]
            right, wrong = own.sum(), (~own).sum()
            total += right * math.log(right / len(own)) + wrong * math.log(wrong / len(own))
        return total

    expected = 2 * (fitted(added + base * added) - fitted(added))
    assert result.statistic == pytest.approx(expected, abs=1e-6)


def test_without_anything_to_add_the_p_values_are_uniform():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        base, added = rng.normal(size=(2, 300))
        correct = rng.random(300) < 1 / (1 + np.exp(-base))
        p_values.append(likelihood_ratio_test(base, added, correct).p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: auroc_within([1, 2], [0, 1], [1]), "by has 1 entries, but there are 2"),
        (lambda: auroc_within([1, 2], [0, 1], [1, 2], n_bins=3), "n_bins"),
        (lambda: auroc_by_group([1, 2], [0, 1], [0, 1], names=["a"]), "outside 0…0"),
        (lambda: likelihood_ratio_test([1, 2], [1, 1], [0, 1]), "added: score 0 is constant"),
        (lambda: likelihood_ratio_test([1, 2], [1, 3], [1, 1]), "right and wrong predictions"),
        (lambda: likelihood_ratio_test([1, 2], [1, 3, 4], [1, 0]), "added has 3 rows"),
        (lambda: likelihood_ratio_test([1, 2, 3, 4], [1, 3, 2, 0], [0, 0, 1, 1]), "separate"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
