"""Paired differences against DeLong's definition, closed forms, hand-worked cases and coverage."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import roc_auc_score

from mistakes_lib import auroc_interval, compare_scores, holm, paired_difference, tally_verdicts
from mistakes_lib.evaluation.paired import VERDICT_WORDS, resampled_aurocs, verdict_word


def two_scores(rng, n, m, shifts=(1.0, 0.7), shared=0.6):
    """Normal scores of n trusted and m suspect inputs by two methods with correlated errors."""
    pairs = [([], []) for _ in shifts]
    for kind, size in enumerate((n, m)):
        common = rng.normal(size=size)
        for pair, shift in zip(pairs, shifts, strict=True):
            own = rng.normal(size=size)
            noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
            pair[kind].append(noise + shift * (kind == 0))
    return [tuple(np.concatenate(part) for part in pair) for pair in pairs]


def delong_by_definition(ours, theirs):
    """Variance of the AUROC difference from the n × m matrices of pairs (DeLong et al. 1988)."""
    gaps = []
    for trusted, suspect in (ours, theirs):
        wins = np.zeros((len(trusted), len(suspect)))
        for i, j in itertools.product(range(len(trusted)), range(len(suspect))):
            wins[i, j] = (trusted[i] > suspect[j]) + 0.5 * (trusted[i] == suspect[j])
        gaps.append(wins)
    rows = np.cov(gaps[0].mean(axis=1), gaps[1].mean(axis=1))
    columns = np.cov(gaps[0].mean(axis=0), gaps[1].mean(axis=0))
    total = rows / gaps[0].shape[0] + columns / gaps[0].shape[1]
    return total[0, 0] + total[1, 1] - 2 * total[0, 1]


def test_variance_is_delongs_ties_included():
    rng = np.random.default_rng(0)
    ours = rng.integers(2, 9, 40).astype(float), rng.integers(0, 7, 25).astype(float)
    theirs = rng.integers(1, 9, 40).astype(float), rng.integers(0, 9, 25).astype(float)
    result = paired_difference(ours, theirs)
    assert result.error**2 == pytest.approx(delong_by_definition(ours, theirs), rel=1e-10)
    labels = [1] * 40 + [0] * 25
    assert result.ours == pytest.approx(roc_auc_score(labels, np.concatenate(ours)))
    assert result.theirs == pytest.approx(roc_auc_score(labels, np.concatenate(theirs)))


def test_a_case_worked_by_hand():
    """Ours: 3 of 4 pairs; theirs: all. Gaps of the trusted −1/2, 0; of the suspect 0, −1/2."""
    result = paired_difference(([2.0, 4.0], [1.0, 3.0]), ([2.0, 4.0], [1.0, 0.0]))
    assert (result.ours, result.theirs, result.difference) == (0.75, 1.0, -0.25)
    error = math.sqrt(0.125 / 2 + 0.125 / 2)
    assert result.error == pytest.approx(error)
    assert result.interval == pytest.approx((-0.25 - 1.959964 * error, -0.25 + 1.959964 * error))
    assert result.p_value == pytest.approx(math.erfc(0.25 / error / math.sqrt(2)))
    assert result.verdict == "undecided"


def test_the_same_score_twice_is_on_par():
    pair = two_scores(np.random.default_rng(0), 30, 20)[0]
    for linked in (False, True):
        pair = pair if not linked else (pair[0][:20], pair[1])
        result = paired_difference(pair, pair, linked=linked)
        assert (result.difference, result.error, result.p_value) == (0, 0, 1)
        assert result.verdict == "on par"


def test_swapping_the_methods_mirrors_the_result():
    ours, theirs = two_scores(np.random.default_rng(1), 300, 200, shifts=(1.5, 0.5))
    result, mirrored = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert (result.verdict, mirrored.verdict) == ("beats", "loses")
    assert mirrored.p_value == pytest.approx(result.p_value)
    assert mirrored.interval == pytest.approx((-result.interval[1], -result.interval[0]))


def test_a_paired_interval_covers_as_often_as_it_says():
    rng, trials, hits = np.random.default_rng(0), 1000, 0
    truth = norm.cdf(1.0 / math.sqrt(2)) - norm.cdf(0.7 / math.sqrt(2))
    for _ in range(trials):
        low, high = paired_difference(*two_scores(rng, 120, 80)).interval
        hits += low <= truth <= high
    assert hits / trials == pytest.approx(0.95, abs=0.015)


def attacked(rng, n, effects=(0.5, 0.3)):
    """Scores of n images by two methods, clean and attacked: an image's own level stays."""
    level, pairs = rng.normal(size=n), []
    for effect in effects:
        clean = level + 0.3 * rng.normal(size=n)
        pairs.append((clean, level - effect + 0.3 * rng.normal(size=n)))
    return pairs


@pytest.mark.slow
def test_a_linked_interval_covers_as_often_as_it_says():
    """Two images' levels differ by N(0, 2), and so do the scores, with what the methods add."""
    rng, trials, hits, alone = np.random.default_rng(0), 1000, 0, 0
    scale = math.sqrt(2 * (1 + 0.09))
    truths = [norm.cdf(effect / scale) for effect in (0.5, 0.3)]
    for trial in range(trials):
        ours, theirs = attacked(rng, 200)
        result = paired_difference(ours, theirs, linked=True, resamples=100, random_state=trial)
        hits += result.interval[0] <= truths[0] - truths[1] <= result.interval[1]
        low, high = auroc_interval(*ours, linked=True)
        alone += low <= truths[0] <= high
    assert hits / trials == pytest.approx(0.95, abs=0.015)
    assert alone / trials == pytest.approx(0.95, abs=0.015)


def test_linked_versions_are_known_better_than_independent_groups():
    ours, _ = attacked(np.random.default_rng(0), 400)
    (low, high), (l_linked, h_linked) = auroc_interval(*ours), auroc_interval(*ours, linked=True)
    assert h_linked - l_linked < 0.6 * (high - low)


def test_the_bootstrap_agrees_with_scipys():
    ours, theirs = attacked(np.random.default_rng(3), 150)

    def gap(rows):
        wins = [np.greater.outer(c[rows], a[rows]).mean() for c, a in (ours, theirs)]
        return wins[0] - wins[1]

    options = {"n_resamples": 1000, "vectorized": False, "method": "percentile"}
    peer = bootstrap((np.arange(150),), gap, rng=np.random.default_rng(0), **options)
    result = paired_difference(ours, theirs, linked=True, resamples=3000, random_state=0)
    assert result.error == pytest.approx(peer.standard_error, rel=0.1)


def test_resampled_aurocs_equal_those_of_repeated_inputs():
    rng = np.random.default_rng(0)
    trusted, suspect = rng.integers(0, 6, 12) * 1.0, rng.integers(0, 5, 9) * 1.0
    a, b = rng.integers(0, 3, (4, 12)), rng.integers(0, 3, (4, 9))
    for value, i, j in zip(resampled_aurocs(trusted, suspect, a, b), a, b, strict=True):
        x, y = np.repeat(trusted, i), np.repeat(suspect, j)
        assert value == pytest.approx(roc_auc_score([1] * len(x) + [0] * len(y), np.r_[x, y]))
    assert np.isnan(resampled_aurocs([1.0, 2.0], [1.0], [[0, 0]], [[1]])).all()


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.01, "beats"),
        (-0.01, -0.001, "loses"),
        (-0.02, 0.02, "on par"),
        (-0.021, 0.0, "undecided"),
        (0.0, 0.021, "undecided"),
    ],
)
def test_the_word_follows_the_interval(low, high, word):
    assert verdict_word(low, high) == word


def test_fewer_inputs_never_make_two_scores_equal():
    """Lack of power is undecided: it was the old rule's way to "reproduced"."""
    rng = np.random.default_rng(0)
    assert paired_difference(*two_scores(rng, 12, 9, shifts=(1.0, 1.0))).verdict == "undecided"
    many = paired_difference(*two_scores(rng, 20_000, 20_000, shifts=(1.0, 1.0)))
    assert many.verdict == "on par"


# --- families ------------------------------------------------------------------------------------


def test_holm_by_hand():
    corrected = holm([0.01, 0.04, 0.03, 0.005])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([0.2]).tolist() == [0.2]


def test_holm_keeps_the_familys_promise():
    """All hypotheses true and dependent: some is rejected in at most 5 % of the families."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4000, 1))
    p_values = 2 * norm.sf(np.abs(0.7 * common + math.sqrt(0.51) * rng.normal(size=(4000, 8))))
    false_alarms = np.mean([holm(row).min() <= 0.05 for row in p_values])
    assert 0.02 < false_alarms < 0.05 + 0.011
    assert np.mean(p_values.min(axis=1) <= 0.05) > 0.2  # without the correction


def test_a_family_is_corrected_as_a_whole():
    rng = np.random.default_rng(2)
    settings = {}
    for setting in range(12):
        sharp, blunt = two_scores(rng, 300, 200, shifts=(1.0, 0.83))
        settings[setting] = {"ours": sharp, "other": blunt}
    table = compare_scores(settings, "ours")
    single = [paired_difference(p["ours"], p["other"]) for p in settings.values()]
    assert table.p.tolist() == pytest.approx(holm([r.p_value for r in single]))
    assert table.difference.tolist() == pytest.approx([r.difference for r in single])
    beaten = [p <= 0.05 and r.difference > 0 for p, r in zip(table.p, single, strict=True)]
    assert (table.verdict == "beats").tolist() == beaten
    assert 0 < sum(beaten) < sum(r.verdict == "beats" for r in single)
    tally = tally_verdicts(table)
    assert tally.columns.tolist() == list(VERDICT_WORDS)
    assert tally.loc["other"].sum() == 12 and tally.loc["other", "beats"] == sum(beaten)
    assert "95 % interval" in table


def test_a_family_may_be_linked_in_some_settings_only():
    rng = np.random.default_rng(2)
    ours, theirs = attacked(rng, 80)
    pairs = {"a": ours, "b": theirs}
    table = compare_scores({"attack": pairs, "other": pairs}, "a", linked={"attack"})
    assert table["95 % interval"].nunique() == 2


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (
            lambda: paired_difference(([1.0, 2.0], [0.0, 1.0]), ([1.0], [0.0, 1.0])),
            "theirs has one",
        ),
        (
            lambda: paired_difference(([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0, 3.0], [0.0, 1.0])),
            "ours has 2 trusted inputs, but theirs has 3",
        ),
        (lambda: paired_difference([1.0], ([1.0, 2.0], [0.0, 1.0])), "ours must be a pair"),
        (
            lambda: paired_difference(([1.0, math.nan], [0, 1]), ([1.0, 2.0], [0.0, 1.0])),
            "NaN.*index 1",
        ),
        (
            lambda: paired_difference(*[([1.0, 2.0, 3.0], [0.0, 1.0])] * 2, linked=True),
            "3 trusted and 2 suspect",
        ),
        (lambda: paired_difference(*[([1.0, 2.0], [0.0, 1.0])] * 2, margin=0), "margin"),
        (lambda: auroc_interval([1.0, 2.0], [0.0], linked=True), "2 and 1"),
        (lambda: verdict_word(1, 0), "low must not lie above high"),
        (lambda: holm([]), "empty"),
        (lambda: holm([1.2]), r"\[0, 1\]"),
        (lambda: compare_scores({}, "x"), "settings is empty"),
        (lambda: compare_scores({"s": {"a": ([1, 2], [0, 1])}}, "x"), "has no method 'x': a"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_a_tally_names_methods_in_the_order_of_the_table():
    index = pd.MultiIndex.from_tuples([(1, "z"), (1, "a"), (2, "z")], names=["setting", "method"])
    tally = tally_verdicts(pd.DataFrame({"verdict": ["loses", "beats", "undecided"]}, index))
    assert tally.index.tolist() == ["z", "a"]
    assert tally.loc["z"].tolist() == [0, 1, 0, 1]
