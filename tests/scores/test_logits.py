"""Scores of logits against closed forms and SciPy's optimiser."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Energy, MaxLogit, MaxSoftmax, TemperatureScaling
from tests.helpers.batches import blobs


def drawn_from_softmax(temperature, n=20_000, c=5, seed=0):
    """Labels drawn from softmax(z), logits T z: the optimal temperature is T."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, c))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return FeatureSet(np.zeros((n, 1)), temperature * logits, np.minimum(labels, c - 1))


def with_logits(logits, labels=None):
    return FeatureSet(np.zeros((len(logits), 1)), logits, labels)


@given(arrays(np.float32, (6, 4), elements=st.floats(-60, 60, width=32)))
@settings(deadline=None)
def test_logit_scores_equal_their_closed_forms(logits):
    batch = with_logits(logits)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(
        MaxSoftmax().score_samples(batch), softmax(exact, axis=1).max(axis=1), rtol=1e-12
    )
    np.testing.assert_array_equal(MaxLogit().score_samples(batch), exact.max(axis=1))
    np.testing.assert_allclose(Energy().score_samples(batch), logsumexp(exact, axis=1), atol=1e-12)
    np.testing.assert_allclose(
        Energy(temperature=7.0).score_samples(batch), 7 * logsumexp(exact / 7, axis=1), atol=1e-11
    )


@given(
    arrays(np.int64, (5, 3), elements=st.integers(-50, 50)).map(lambda z: z.astype(np.float32)),
    st.integers(-1000, 1000),
)
@settings(deadline=None)
def test_a_shift_moves_energy_and_max_logit_but_not_max_softmax(logits, shift):
    batch, shifted = with_logits(logits), with_logits(logits + np.float32(shift))
    np.testing.assert_allclose(
        MaxSoftmax().score_samples(shifted), MaxSoftmax().score_samples(batch), rtol=1e-9
    )
    for scorer in (MaxLogit(), Energy()):
        np.testing.assert_allclose(
            scorer.score_samples(shifted), scorer.score_samples(batch) + shift, rtol=1e-9, atol=1e-9
        )


def test_logit_scores_do_not_overflow():
    batch = with_logits([[3e38, -3e38], [1e4, 1e4]])
    np.testing.assert_allclose(MaxSoftmax().score_samples(batch), [1.0, 0.5])
    np.testing.assert_allclose(Energy().score_samples(batch), [3e38, 1e4 + np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_energy_needs_a_positive_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        Energy(temperature).score_samples(with_logits([[0.0, 1.0]]))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_scaling_recovers_a_known_temperature(temperature):
    scorer = TemperatureScaling().fit(drawn_from_softmax(temperature))
    assert scorer.temperature_ == pytest.approx(temperature, rel=0.03)  # 20,000 labels


@given(
    arrays(np.float32, (30, 4), elements=st.floats(-20, 20, width=16)),
    arrays(np.int64, 30, elements=st.integers(0, 3)),
)
@settings(deadline=None, max_examples=50)
def test_temperature_scaling_lowers_the_nll_and_keeps_predictions(logits, labels):
    batch = with_logits(logits, labels)
    scorer = TemperatureScaling().fit(batch)
    assert scorer.nll_after_ <= scorer.nll_before_
    probabilities = scorer.calibrated_probabilities(batch)
    # A tie of the logits stays a tie; both then take the first class.
    rows = np.arange(len(batch))
    np.testing.assert_array_equal(probabilities[rows, batch.predictions], probabilities.max(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(scorer.score_samples(batch), probabilities.max(axis=1))


def test_temperature_scaling_keeps_every_prediction_of_an_overconfident_network():
    validation, test = drawn_from_softmax(6.0, seed=1), drawn_from_softmax(6.0, seed=2)
    scorer = TemperatureScaling().fit(validation)
    predictions = scorer.calibrated_probabilities(test).argmax(axis=1)
    np.testing.assert_array_equal(predictions, test.predictions)
    assert scorer.nll_after_ < 0.7 * scorer.nll_before_


@pytest.mark.parametrize("seed", range(3))
def test_temperature_scaling_equals_a_bounded_scalar_search(seed):
    validation = blobs(seed=seed)
    rows = np.arange(len(validation))

    def nll(log_temperature):
        scaled = validation.logits.astype(np.float64) / np.exp(log_temperature)
        return (logsumexp(scaled, axis=1) - scaled[rows, validation.labels]).mean()

    best = minimize_scalar(nll, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    scorer = TemperatureScaling().fit(validation)
    assert np.log(scorer.temperature_) == pytest.approx(best.x, abs=1e-4)
    assert scorer.nll_after_ == pytest.approx(best.fun, rel=1e-9)
    assert scorer.nll_before_ == pytest.approx(nll(0.0), rel=1e-12)


def test_temperature_scaling_is_finite_where_every_prediction_is_right():
    validation = with_logits(np.eye(3) * 5, [0, 1, 2])
    scorer = TemperatureScaling().fit(validation)
    assert 0 < scorer.temperature_ < 1
    assert np.isfinite(scorer.score_samples(validation)).all()


def test_temperature_scaling_warns_when_it_stops_early():
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        TemperatureScaling(max_iter=1).fit(drawn_from_softmax(20.0, n=500))


@pytest.mark.parametrize(("max_iter", "error"), [(0, ValueError), (2.5, TypeError)])
def test_temperature_scaling_needs_whole_iterations(max_iter, error):
    with pytest.raises(error, match="max_iter"):
        TemperatureScaling(max_iter=max_iter).fit(blobs())


def test_calibrated_probabilities_check_their_input():
    with pytest.raises(NotFittedError, match="call fit"):
        TemperatureScaling().calibrated_probabilities(blobs())
    with pytest.raises(ValueError, match="was fitted on 3 logits"):
        TemperatureScaling().fit(blobs()).calibrated_probabilities(blobs(9, c=4))


@pytest.mark.parametrize("scorer", [MaxSoftmax(), TemperatureScaling()])
def test_log_odds_are_those_of_the_score_and_do_not_saturate(scorer):
    batch = blobs()
    scorer.fit(batch)
    temperature = getattr(scorer, "temperature_", 1.0)
    with mpmath.workdps(80):
        odds = []
        for row in batch.logits[:20] / temperature:
            powers = sorted(mpmath.exp(float(value)) for value in row)
            odds.append(float(mpmath.log(powers[-1] / sum(powers[:-1]))))
    np.testing.assert_allclose(scorer.log_odds(batch)[:20], odds, rtol=1e-5)
    steep = FeatureSet(batch.features, batch.logits * 1000, batch.labels)
    assert (scorer.score_samples(steep) == 1).mean() > 0.5
    assert len(np.unique(scorer.log_odds(steep))) == len(np.unique(batch.logits, axis=0))
