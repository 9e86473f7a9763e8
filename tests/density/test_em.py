"""The E-step that evaluates few components against the one that evaluates all, and SciPy."""

import pickle
import threading
from time import sleep

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm

from mistakes_lib.density.gmm.candidates import with_squares
from mistakes_lib.density.gmm.em import (
    Expectation,
    Mixture,
    Statistics,
    maximise,
    one_hot_statistics,
    sum_statistics,
)
from mistakes_lib.support.threads import in_order


def mixture_and_rows(k=64, d=40, n=200, *, seed=0, spread=0.5, shift=0.0, scales=1.0):
    """K Gaussians of ``spread`` around centres at distance √d or so, and rows drawn from them."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * scales + shift
    variances = (spread * rng.uniform(0.5, 1.5, size=(k, d)) * scales) ** 2
    weights = rng.dirichlet(np.ones(k))
    drawn = rng.choice(k, size=n, p=weights)
    rows = means[drawn] + rng.normal(size=(n, d)) * np.sqrt(variances[drawn])
    return Mixture(*(torch.from_numpy(a) for a in (weights, means, variances))), rows


def in_full(mixture):
    """An E-step that never looks for the few."""
    step = Expectation(mixture)
    step.candidates = None
    return step


def by_scipy(mixture, rows):
    """Log-joint (n, K), one component and one feature after the other."""
    weights, means, variances = (a.numpy() for a in vars(mixture).values())
    return np.stack(
        [
            np.log(weights[c]) + norm.logpdf(rows, means[c], np.sqrt(variances[c])).sum(axis=1)
            for c in range(len(weights))
        ],
        axis=1,
    )


def assert_same(ours, reference):
    np.testing.assert_allclose(ours.log_likelihood, reference.log_likelihood, 1e-9, 1e-8)
    np.testing.assert_allclose(ours.counts, reference.counts, rtol=1e-8, atol=1e-9)
    tolerance = 1e-10 * reference.moments.abs().max()
    np.testing.assert_allclose(ours.moments, reference.moments, rtol=1e-8, atol=tolerance)
    assert ours.n == reference.n


def assert_few_equal_all(mixture, rows):
    rows = torch.from_numpy(rows)
    few, every = Expectation(mixture), in_full(mixture)
    assert_same(few.statistics([rows]), every.statistics([rows]))
    np.testing.assert_allclose(few.log_likelihood([rows]), every.log_likelihood([rows]), 1e-9, 1e-8)
    return finds_few(few, rows)


def finds_few(step, rows):
    """Whether an E-step evaluates few components of these rows."""
    return step._pairs(with_squares(torch.as_tensor(rows))) is not None


def test_the_few_that_matter_give_what_all_give():
    mixture, rows = mixture_and_rows()
    assert assert_few_equal_all(mixture, rows), "the short way was not taken"


def test_both_ways_equal_scipy():
    mixture, rows = mixture_and_rows()
    expected = by_scipy(mixture, rows)
    for step in (Expectation(mixture), in_full(mixture)):
        ours = step.log_likelihood([torch.from_numpy(rows)])
        np.testing.assert_allclose(ours, logsumexp(expected, axis=1), rtol=1e-10)
    np.testing.assert_allclose(step.log_joint(torch.from_numpy(rows)), expected, rtol=1e-9)


@given(
    st.integers(32, 90),
    st.integers(1, 60),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.003, 0.05, 0.5, 3.0]),
)
@settings(deadline=None, max_examples=40)
def test_they_agree_whatever_the_overlap(k, d, seed, spread):
    assert_few_equal_all(*mixture_and_rows(k, d, 50, seed=seed, spread=spread))


@pytest.mark.parametrize("scales", [1e-12, 1e12, np.logspace(-15, 15, 40)])
def test_units_of_the_features_do_not_matter(scales):
    assert assert_few_equal_all(*mixture_and_rows(scales=scales))


def narrow_twins():
    """Pairs of nearly equal components, so narrow and far out that float32 errs by many nats.

    The pairs lie apart by far more than it errs.
    """
    single, rows = mixture_and_rows(k=32, spread=3e-4, shift=0.3)
    nudge = 0.3 * single.variances.sqrt() * (-1) ** torch.arange(40)
    weights = torch.cat([single.weights, single.weights]) / 2
    means = torch.cat([single.means, single.means + nudge])
    return Mixture(weights, means, single.variances.repeat(2, 1)), rows


def test_what_float32_cannot_tell_apart_is_evaluated():
    mixture, rows = narrow_twins()
    step = Expectation(mixture)
    ours = step.log_likelihood([torch.from_numpy(rows)])
    expected = logsumexp(by_scipy(mixture, rows), axis=1)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)  # as [x, x²] W in float64
    assert finds_few(step, rows)


def test_without_room_for_rounding_some_would_be_missed():
    mixture, rows = narrow_twins()
    careless = Expectation(mixture)
    for bound, _ in careless.candidates.stages:
        product, error = bound.product, bound.error
        bound.product = lambda some, product=product, error=error: product(some) - error
        bound.rounding = 0.0
    ours = careless.log_likelihood([torch.from_numpy(rows)])
    expected = logsumexp(by_scipy(mixture, rows), axis=1)
    assert np.abs(ours.numpy() - expected).max() > 1e-3 and finds_few(careless, rows)


def test_components_so_narrow_that_the_product_cancels_are_evaluated_by_their_distance():
    mixture, rows = mixture_and_rows(spread=3e-6, shift=100.0)
    step = Expectation(mixture)
    assert step.cancels.all() and finds_few(step, rows)
    expected = logsumexp(by_scipy(mixture, rows), axis=1)
    ours = step.log_likelihood([torch.from_numpy(rows)])
    np.testing.assert_allclose(ours, expected, rtol=1e-10)
    in_one_product = in_full(mixture).log_likelihood([torch.from_numpy(rows)]).numpy()
    assert np.abs(in_one_product - expected).max() > 1e-3


def test_rows_very_far_away_and_components_without_weight():
    mixture, rows = mixture_and_rows()
    rows[:2] *= 1e4
    weights = mixture.weights.clone()
    weights[:3] = 0
    unused = Mixture(weights / weights.sum(), mixture.means, mixture.variances)
    assert assert_few_equal_all(unused, rows)


def test_beyond_float32_all_components_are_evaluated():
    mixture, rows = mixture_and_rows()
    rows[7] = 1e25
    assert not assert_few_equal_all(mixture, rows)


def test_statistics_of_blocks_add_up():
    mixture, rows = mixture_and_rows()
    step, rows = Expectation(mixture), torch.from_numpy(rows)
    blocks = [step.statistics([block]) for block in rows.split([1, 99, 100])]
    assert_same(sum_statistics(blocks), step.statistics([rows]))


def test_one_hot_statistics_are_sums_by_component():
    rows = torch.tensor([[1.0, 2], [3, 4], [5, 6]], dtype=torch.float64)
    found = one_hot_statistics(rows, torch.tensor([2, 0, 2]), 3)
    assert found.counts.tolist() == [1, 0, 2] and found.n == 3
    assert found.moments.tolist() == [[3, 4, 9, 16], [0, 0, 0, 0], [6, 8, 26, 40]]


def test_maximise_takes_weighted_moments():
    """Two rows, one shared equally by both components, worked by hand."""
    rows = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    responsibility = torch.tensor([[1.0, 0.5], [0.0, 0.5]], dtype=torch.float64)
    counts, moments = responsibility.sum(dim=1), responsibility @ with_squares(rows)
    before = Mixture(torch.ones(2), torch.zeros(2, 1), torch.ones(2, 1))
    after = maximise(Statistics(2, torch.zeros(()), counts, moments), before, 0.25)
    np.testing.assert_allclose(after.weights, [0.75, 0.25])
    np.testing.assert_allclose(after.means, [[2 / 3], [2.0]])
    np.testing.assert_allclose(after.variances, [[4 / 3 - 4 / 9 + 0.25], [0.25]])


def test_packed_statistics_come_back():
    mixture, rows = mixture_and_rows()
    found = Expectation(mixture).statistics([torch.from_numpy(rows)])
    assert_same(Statistics.unpacked(found.packed(), rows.shape[1]), found)


def test_what_is_pickled_evaluates_the_same():
    mixture, rows = mixture_and_rows()
    step, rows = Expectation(mixture), [torch.from_numpy(rows)]
    again = pickle.loads(pickle.dumps(step))
    assert torch.equal(again.log_likelihood(rows), step.log_likelihood(rows))


def test_some_features_rule_out_most_components():
    """The first product sees an eighth of 160 features; what it leaves is what matters."""
    mixture, rows = mixture_and_rows(k=80, d=160, spread=0.1)
    step = Expectation(mixture)
    assert len(step.candidates.stages) == 2
    assert assert_few_equal_all(mixture, rows)
    assert len(step._pairs(with_squares(torch.from_numpy(rows)))[0]) < 2 * len(rows)


def test_rows_that_wait_for_their_moments_are_not_lost(monkeypatch):
    """Little memory: the moments are summed after every few blocks."""
    monkeypatch.setattr("mistakes_lib.density.gmm.em.WAITING_BYTES", 16 * 40 * 50)
    mixture, rows = mixture_and_rows(n=333)
    blocks = torch.from_numpy(rows).split(20)
    assert_same(Expectation(mixture).statistics(blocks), in_full(mixture).statistics(blocks))


# --- threads -------------------------------------------------------------------------------------


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_parts_come_in_order_each_on_one_thread():
    def work(number):
        sleep(0.01 * (5 - number % 5))  # later ones end first
        return number, torch.get_num_threads(), threading.get_ident()

    found = list(in_order(work, range(10), torch.device("cpu")))
    assert [number for number, _, _ in found] == list(range(10))
    assert {threads for _, threads, _ in found} == {1}
    assert threading.get_ident() not in {ident for _, _, ident in found}
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_what_fails_on_a_thread_is_said_and_threads_are_as_before():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 / x, [1, 0, 2], torch.device("cpu")))
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_parts_are_not_all_held_at_once():
    taken, ended = [], []

    def parts():
        for number in range(50):
            taken.append(number)
            assert len(taken) - len(ended) <= 5  # three threads, one more, and this one
            yield number

    for _ in in_order(lambda x: x, parts(), torch.device("cpu")):
        ended.append(0)
    assert len(taken) == 50
