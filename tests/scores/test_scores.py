"""The detectors against closed forms, SciPy's optimisers, naive loops and pytorch-ood."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pytorch_ood.detector import KNN, RMD
from pytorch_ood.detector import Mahalanobis as PeerMahalanobis
from pytorch_ood.detector import ViM as PeerViM
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import (
    Combined,
    Energy,
    LogLikelihood,
    Mahalanobis,
    MaxLogit,
    MaxSoftmax,
    NearestNeighbors,
    RelativeMahalanobis,
    Scorer,
    TemperatureScaling,
    ViM,
    ZhengHong,
)
from mistakes_lib.scores.vim import _usual_dim

SCORERS = [
    LogLikelihood(DiagonalGMM(2, random_state=0)),
    MaxSoftmax(),
    MaxLogit(),
    Energy(),
    TemperatureScaling(),
    Mahalanobis(),
    RelativeMahalanobis(),
    NearestNeighbors(k=10),
    ZhengHong(2, random_state=0),
    ViM(),
]
LEARNERS = [scorer for scorer in SCORERS if not isinstance(scorer, MaxSoftmax | MaxLogit | Energy)]
LABEL_LEARNERS = [scorer for scorer in SCORERS if scorer.needs_labels]


def by_name(scorer):
    return type(scorer).__name__


def blobs(n=300, d=5, c=3, seed=0):
    """Gaussian classes with correlated features under a head that is right most of the time."""
    rng = np.random.default_rng(seed)
    means = rng.normal(scale=3, size=(c, d))
    mixing = np.eye(d) + np.tril(rng.normal(scale=0.5, size=(d, d)), -1)
    labels = rng.integers(c, size=n)
    features = means[labels] + rng.normal(size=(n, d)) @ mixing
    head = means + rng.normal(size=(c, d))
    logits = features @ head.T - np.square(means).sum(axis=1) / 2
    return FeatureSet(features, logits, labels)


def under_another_head(batch):
    """The same features with the logits of a random linear layer."""
    head = np.random.default_rng(0).normal(size=(batch.features.shape[1], batch.logits.shape[1]))
    return FeatureSet(batch.features, batch.features @ head + 9, batch.labels)


def drawn_from_softmax(temperature, n=20_000, c=5, seed=0):
    """Labels drawn from softmax(z), logits T z: the optimal temperature is T."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, c))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return FeatureSet(np.zeros((n, 1)), temperature * logits, np.minimum(labels, c - 1))


def with_logits(logits, labels=None):
    return FeatureSet(np.zeros((len(logits), 1)), logits, labels)


# What holds for every scorer


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_every_scorer_gives_float64_scores_row_by_row(scorer):
    train, batch = blobs(), blobs(40, seed=1)
    scorer = clone(scorer).fit(train)
    scores = scorer.score(batch)
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scorer.score(batch[7:9]), scores[7:9], rtol=1e-6)
    unlabelled = FeatureSet(batch.features, batch.logits)
    np.testing.assert_array_equal(scorer.score(unlabelled), scores)


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_every_scorer_trusts_what_is_clearly_right_more(scorer):
    """The shared orientation: a class mean with a sharp logit above a far point with flat ones."""
    train = blobs()
    centre = train.features[train.labels == 0].mean(axis=0)
    sharp, flat = [20.0, 0.0, 0.0], [-20.0, -20.0, -20.0]
    pair = FeatureSet(np.stack([centre, centre + 1e3]), np.array([sharp, flat]))
    near, far = clone(scorer).fit(train).score(pair)
    assert near > far


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_class_agnostic_scorers_ignore_labels_and_logits(scorer):
    train, batch = blobs(), blobs(40, seed=1)
    shuffled = np.random.default_rng(0).permutation(train.labels)
    relabelled = FeatureSet(train.features, under_another_head(train).logits, shuffled)
    same = np.allclose(
        clone(scorer).fit(train).score(batch),
        clone(scorer).fit(relabelled).score(under_another_head(batch)),
        rtol=1e-6,
    )
    assert same == scorer.class_agnostic


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_every_scorer_says_what_it_is(scorer):
    assert scorer.name
    assert scorer.reads in (("features",), ("logits",), ("features", "logits"))
    assert scorer.fits_on in ("train", "validation")
    assert clone(scorer).get_params(deep=False).keys() == scorer.get_params(deep=False).keys()
    assert len({other.name for other in SCORERS}) == len(SCORERS)


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_another_number_of_columns_is_refused(scorer):
    fitted = clone(scorer).fit(blobs(d=5, c=3))
    others = {"features": blobs(9, d=4, c=3), "logits": blobs(9, d=5, c=4)}
    for part in scorer.reads:
        with pytest.raises(ValueError, match=rf"was fitted on \d {part}"):
            fitted.score(others[part])


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
@pytest.mark.parametrize("method", ["fit", "score"])
def test_a_bare_array_is_refused(scorer, method):
    with pytest.raises(TypeError, match="expects a FeatureSet, got ndarray"):
        getattr(clone(scorer), method)(np.zeros((3, 5)))


@pytest.mark.parametrize("scorer", LEARNERS, ids=by_name)
def test_scoring_before_fitting_is_refused(scorer):
    with pytest.raises(NotFittedError, match=r"not fitted yet: call fit\((train|validation)\)"):
        clone(scorer).score(blobs(9))


@pytest.mark.parametrize("scorer", LABEL_LEARNERS, ids=by_name)
def test_missing_labels_are_refused(scorer):
    train = blobs()
    with pytest.raises(ValueError, match=f"needs labels: .*{scorer.fits_on} split"):
        clone(scorer).fit(FeatureSet(train.features, train.logits))


def test_scorer_alone_scores_nothing():
    with pytest.raises(NotImplementedError):
        Scorer().score(blobs(9))


# Several scores together


def test_combined_is_scikit_learns_regression_on_standardised_scores():
    batch, other = blobs(), blobs(60, seed=1)
    parts = [Mahalanobis().fit(batch), MaxSoftmax().fit(batch)]
    combined = Combined(parts, C=0.5).fit(batch)
    columns, others = (
        np.stack([parts[0].score(b), parts[1].log_odds(b)], axis=1) for b in (batch, other)
    )
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5))
    reference.fit(columns, batch.correct)
    np.testing.assert_allclose(combined.score(other), reference.decision_function(others))


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
    assert (scorer.score(steep) == 1).mean() > 0.5
    assert len(np.unique(scorer.log_odds(steep))) == len(np.unique(batch.logits, axis=0))


def test_combined_learns_from_which_predictions_are_right_only():
    batch = blobs()
    wrong_labels = np.where(batch.correct, batch.labels, (batch.predictions + 1) % 3)
    other = FeatureSet(batch.features, batch.logits, wrong_labels)
    parts = [MaxSoftmax().fit(batch), MaxLogit().fit(batch)]
    first, second = (Combined(parts).fit(b).score(batch) for b in (batch, other))
    np.testing.assert_array_equal(first, second)


def test_combined_is_saved_with_its_parts(tmp_path):
    batch, other = blobs(), blobs(60, seed=1)
    parts = [LogLikelihood(DiagonalGMM(2, random_state=0)).fit(batch), MaxSoftmax().fit(batch)]
    combined = Combined(parts).fit(batch)
    combined.save(tmp_path / "combined")
    loaded = Scorer.load(tmp_path / "combined")
    np.testing.assert_array_equal(loaded.score(other), combined.score(other))


def test_combined_needs_parts_and_both_kinds_of_predictions():
    batch = blobs()
    with pytest.raises(ValueError, match="at least one fitted scorer"):
        Combined([]).fit(batch)
    with pytest.raises(ValueError, match="predictions are right: Combined learns from both"):
        Combined([MaxLogit()]).fit(batch[batch.correct])
    with pytest.raises(NotFittedError, match="not fitted"):
        Combined([MaxLogit()]).score(batch)


# Files


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_a_saved_scorer_scores_bit_for_bit_alike(scorer, tmp_path):
    fitted, batch = clone(scorer).fit(blobs()), blobs(50, seed=1)
    fitted.save(tmp_path / "own")
    loaded = type(scorer).load(tmp_path / "own")
    assert type(loaded) is type(scorer)
    np.testing.assert_array_equal(loaded.score(batch), fitted.score(batch))
    with pytest.raises(ValueError, match="was fitted on"):
        loaded.score(FeatureSet(np.zeros((2, 9)), np.zeros((2, 9))))
    Scorer.load(tmp_path / "own").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "own").read_bytes()


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_only_a_fitted_scorer_is_saved(scorer, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted"):
        clone(scorer).save(tmp_path / "scorer")
    assert not list(tmp_path.iterdir())


def test_parameters_outlive_the_file_but_for_device_and_open_seeds(tmp_path):
    scorer = ZhengHong(np.int64(3), device="cpu", random_state=np.random.RandomState(0))
    scorer.fit(blobs()).save(tmp_path / "scorer")
    loaded = ZhengHong.load(tmp_path / "scorer")
    assert loaded.get_params() == ZhengHong(3).get_params()
    Energy(2.5).fit(blobs()).save(tmp_path / "energy")
    assert Scorer.load(tmp_path / "energy").temperature == 2.5


def test_a_density_of_another_library_is_not_saved(tmp_path):
    scorer = LogLikelihood(GaussianMixture(1)).fit(blobs())
    with pytest.raises(TypeError, match="GaussianMixture cannot be saved: take one of DiagonalGMM"):
        scorer.save(tmp_path / "scorer")


def test_another_kind_of_file_is_refused(tmp_path):
    Mahalanobis().fit(blobs()).save(tmp_path / "scorer")
    with pytest.raises(ValueError, match="holds a Mahalanobis, not a ViM"):
        ViM.load(tmp_path / "scorer")
    DiagonalGMM(2, random_state=0).fit(blobs().features).save(tmp_path / "density")
    with pytest.raises(ValueError, match="holds a DiagonalGMM, not a Scorer or"):
        Scorer.load(tmp_path / "density")


# Logit scores


@given(arrays(np.float32, (6, 4), elements=st.floats(-60, 60, width=32)))
@settings(deadline=None)
def test_logit_scores_equal_their_closed_forms(logits):
    batch = with_logits(logits)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(
        MaxSoftmax().score(batch), softmax(exact, axis=1).max(axis=1), rtol=1e-12
    )
    np.testing.assert_array_equal(MaxLogit().score(batch), exact.max(axis=1))
    np.testing.assert_allclose(Energy().score(batch), logsumexp(exact, axis=1), atol=1e-12)
    np.testing.assert_allclose(
        Energy(temperature=7.0).score(batch), 7 * logsumexp(exact / 7, axis=1), atol=1e-11
    )


@given(
    arrays(np.int64, (5, 3), elements=st.integers(-50, 50)).map(lambda z: z.astype(np.float32)),
    st.integers(-1000, 1000),
)
@settings(deadline=None)
def test_a_shift_moves_energy_and_max_logit_but_not_max_softmax(logits, shift):
    batch, shifted = with_logits(logits), with_logits(logits + np.float32(shift))
    np.testing.assert_allclose(MaxSoftmax().score(shifted), MaxSoftmax().score(batch), rtol=1e-9)
    for scorer in (MaxLogit(), Energy()):
        np.testing.assert_allclose(
            scorer.score(shifted), scorer.score(batch) + shift, rtol=1e-9, atol=1e-9
        )


def test_logit_scores_do_not_overflow():
    batch = with_logits([[3e38, -3e38], [1e4, 1e4]])
    np.testing.assert_allclose(MaxSoftmax().score(batch), [1.0, 0.5])
    np.testing.assert_allclose(Energy().score(batch), [3e38, 1e4 + np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_energy_needs_a_positive_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        Energy(temperature).score(with_logits([[0.0, 1.0]]))


# Temperature scaling


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
    np.testing.assert_allclose(scorer.score(batch), probabilities.max(axis=1))


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
    assert np.isfinite(scorer.score(validation)).all()


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


# Log-likelihood


def test_log_likelihood_fits_a_clone_of_an_unfitted_density():
    train, batch = blobs(), blobs(40, seed=1)
    density = GaussianMixture(2, covariance_type="diag", random_state=0)
    scorer = LogLikelihood(density).fit(train)
    with pytest.raises(NotFittedError):
        check_is_fitted(density)  # the caller's object is left alone
    expected = clone(density).fit(train.features).score_samples(batch.features)
    np.testing.assert_allclose(scorer.score(batch), expected)


def test_log_likelihood_of_one_gaussian_equals_scipy():
    train, batch = blobs(), blobs(40, seed=1)
    features = train.features.astype(np.float64)
    peer = multivariate_normal(features.mean(axis=0), np.diag(features.var(axis=0)))
    scorer = LogLikelihood(DiagonalGMM(1)).fit(train)
    np.testing.assert_allclose(scorer.score(batch), peer.logpdf(batch.features), rtol=1e-4)


def test_log_likelihood_uses_a_fitted_density_as_it_is():
    train, batch = blobs(), blobs(40, seed=1)
    density = GaussianMixture(1).fit(blobs(seed=2).features)
    expected = density.score_samples(batch.features)
    np.testing.assert_array_equal(LogLikelihood(density).score(batch), expected)
    np.testing.assert_array_equal(LogLikelihood(density).fit(train).score(batch), expected)


def test_log_likelihood_refuses_a_density_of_other_features():
    density = GaussianMixture(1).fit(blobs(d=4).features)
    with pytest.raises(ValueError, match="features"):
        LogLikelihood(density).fit(blobs(d=5))


# Mahalanobis


def peer_outlier_scores(peer, train, batch):
    """What a detector of pytorch-ood says, in double precision; higher = more of an outlier."""
    torch.set_default_dtype(torch.float64)  # the peers work in the default dtype
    try:
        peer.fit_features(torch.tensor(train.features).double(), torch.tensor(train.labels))
        return peer.predict_features(torch.tensor(batch.features).double()).numpy()
    finally:
        torch.set_default_dtype(torch.float32)


def test_mahalanobis_equals_pytorch_ood():
    train, batch = blobs(), blobs(200, seed=1)
    # The peer's score is half the squared distance, higher = more of an outlier, and its Σ is not
    # divided by n (plus a ridge of 1e-6, far below the scatter here).
    expected = -2 * len(train) * peer_outlier_scores(PeerMahalanobis(None), train, batch)
    np.testing.assert_allclose(Mahalanobis().fit(train).score(batch), expected, rtol=1e-7)


def naive_mahalanobis(train, batch):
    features = train.features.astype(np.float64)
    classes = np.unique(train.labels)
    means = [features[train.labels == c].mean(axis=0) for c in classes]
    covariance = sum(
        np.outer(f - means[list(classes).index(y)], f - means[list(classes).index(y)])
        for f, y in zip(features, train.labels, strict=True)
    ) / len(train)
    precision = np.linalg.inv(covariance)
    return [
        max(-(f - m) @ precision @ (f - m) for m in means) for f in batch.features.astype(float)
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_mahalanobis_equals_a_naive_loop(seed, d, c):
    train, batch = blobs(60, d, c, seed), blobs(20, d, c, seed + 1)
    np.testing.assert_allclose(
        Mahalanobis().fit(train).score(batch), naive_mahalanobis(train, batch), rtol=1e-6
    )


def test_mahalanobis_is_safe_for_features_that_depend_on_each_other():
    """An affine map into more dimensions leaves Mahalanobis distances as they are."""
    train, batch = blobs(d=3), blobs(50, d=3, seed=1)
    rng = np.random.default_rng(0)
    embedding, offset = rng.normal(size=(3, 8)), rng.normal(size=8)

    def embed(batch):
        features = batch.features.astype(np.float64) @ embedding + offset
        constant = np.full((len(batch), 1), 0.3)
        return FeatureSet(np.hstack([features, constant]), batch.logits, batch.labels)

    scorer = Mahalanobis().fit(embed(train))
    assert scorer.whitening_.shape == (9, 3)
    np.testing.assert_allclose(
        scorer.score(embed(batch)), Mahalanobis().fit(train).score(batch), rtol=1e-4
    )


def test_mahalanobis_keeps_small_but_real_directions():
    """A feature a thousand times smaller than its neighbour counts as much."""
    train, batch = blobs(d=2), blobs(50, d=2, seed=1)
    scale = np.array([1.0, 1e-3])
    rescaled = [FeatureSet(s.features * scale, s.logits, s.labels) for s in (train, batch)]
    np.testing.assert_allclose(
        Mahalanobis().fit(rescaled[0]).score(rescaled[1]),
        Mahalanobis().fit(train).score(batch),
        rtol=1e-4,
    )


def test_mahalanobis_leaves_out_a_class_without_training_inputs():
    train, batch = blobs(c=3), blobs(50, c=3, seed=1)
    seen = train[train.labels != 1]
    scorer = Mahalanobis().fit(seen)
    np.testing.assert_array_equal(scorer.classes_, [0, 2])
    np.testing.assert_allclose(scorer.score(batch), naive_mahalanobis(seen, batch), rtol=1e-6)


def test_mahalanobis_refuses_features_without_spread():
    features = np.full((6, 3), 0.1)
    with pytest.raises(ValueError, match="do not vary within any class"):
        Mahalanobis().fit(FeatureSet(features, np.zeros((6, 2)), [0, 0, 0, 1, 1, 1]))


def test_mahalanobis_needs_a_positive_rcond():
    with pytest.raises(ValueError, match="rcond"):
        Mahalanobis(rcond=0.0).fit(blobs())


# Relative Mahalanobis


def test_relative_mahalanobis_equals_pytorch_ood():
    train, batch = blobs(), blobs(200, seed=1)
    # The peer's score is the relative distance, higher = more of an outlier; neither of its
    # covariances is divided by n.
    expected = -len(train) * peer_outlier_scores(RMD(None), train, batch)
    scores = RelativeMahalanobis().fit(train).score(batch)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-5)


def test_relative_mahalanobis_is_the_log_ratio_of_two_gaussians():
    """Twice log N(F; μ_c, Σ) − log N(F; μ_0, Σ_0), up to the constant of the determinants."""
    train, batch = blobs(), blobs(50, seed=1)
    features = train.features.astype(np.float64)
    means = np.stack([features[train.labels == c].mean(axis=0) for c in range(3)])
    within = np.cov((features - means[train.labels]).T, bias=True)
    background = multivariate_normal(features.mean(axis=0), np.cov(features.T, bias=True))
    classes = np.stack([multivariate_normal(m, within).logpdf(batch.features) for m in means])
    ratio = 2 * (classes.max(axis=0) - background.logpdf(batch.features))
    scores = RelativeMahalanobis().fit(train).score(batch)
    np.testing.assert_allclose(scores - scores[0], ratio - ratio[0], rtol=1e-6, atol=1e-6)


def test_relative_mahalanobis_ignores_a_direction_that_tells_no_classes_apart():
    train = blobs(2000, d=3)
    noise = np.random.default_rng(0).normal(size=(2000, 1))
    noise -= noise.mean()
    features = np.hstack([train.features, noise])
    scorer = RelativeMahalanobis().fit(FeatureSet(features, train.logits, train.labels))
    moved = features[:50] + np.array([0, 0, 0, 3.0])
    scores, moved = (scorer.score(FeatureSet(f, train.logits[:50])) for f in (features[:50], moved))
    assert np.abs(moved - scores).max() < 0.3  # the Mahalanobis distance grows by 9 and more


# Nearest neighbors


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 60))
@settings(deadline=None, max_examples=20)
def test_nearest_neighbors_equals_brute_force(seed, d, k):
    train, batch = blobs(60, d, seed=seed), blobs(20, d, seed=seed + 1)
    directions = []
    for features in (train.features, batch.features):
        exact = features.astype(np.float64)
        directions.append(exact / np.linalg.norm(exact, axis=1, keepdims=True))
    unit_train, unit = directions
    distances = np.linalg.norm(unit[:, None] - unit_train, axis=2)
    expected = -np.sort(distances, axis=1)[:, k - 1]
    np.testing.assert_allclose(
        NearestNeighbors(k).fit(train).score(batch), expected, rtol=1e-6, atol=1e-7
    )


def test_nearest_neighbors_equals_pytorch_ood():
    train, batch = blobs(), blobs(200, seed=1)
    expected = -peer_outlier_scores(KNN(None, k=50), train, batch)
    np.testing.assert_allclose(NearestNeighbors().fit(train).score(batch), expected, rtol=1e-6)


def test_nearest_neighbors_sees_the_direction_of_features_only():
    train, batch = blobs(), blobs(40, seed=1)
    longer = FeatureSet(batch.features * 7, batch.logits)
    scorer = NearestNeighbors().fit(train)
    np.testing.assert_allclose(scorer.score(longer), scorer.score(batch), rtol=1e-5)
    nothing = FeatureSet(np.zeros((1, 5)), np.zeros((1, 3)))  # no direction: all lie at distance 1
    np.testing.assert_allclose(scorer.score(nothing), [-1.0])


@pytest.mark.parametrize(
    ("k", "error", "complaint"),
    [(0, ValueError, "k == 0"), (2.5, TypeError, "k must be"), (61, ValueError, "there are 60")],
)
def test_nearest_neighbors_needs_a_possible_k(k, error, complaint):
    with pytest.raises(error, match=complaint):
        NearestNeighbors(k).fit(blobs(60))


# Zheng & Hong


def test_zheng_hong_with_one_component_equals_scipy():
    train, batch = blobs(), blobs(60, seed=1)
    features = train.features.astype(np.float64)
    expected = np.empty(60)
    for i, (row, c) in enumerate(zip(batch.features, batch.predictions, strict=True)):
        members = features[train.labels == c]
        peer = multivariate_normal(members.mean(axis=0), np.diag(members.var(axis=0)))
        expected[i] = peer.logpdf(row)
    np.testing.assert_allclose(ZhengHong(1).fit(train).score(batch), expected, rtol=1e-4)


def test_zheng_hong_equals_scikit_learns_mixture_of_each_class():
    """On classes of three clear clusters both find the one optimum, from starts of their own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=30, size=(2, 3, 5))
    labels, clusters = np.arange(400) % 2, rng.integers(3, size=400)
    features = centres[labels, clusters] + rng.normal(size=(400, 5))
    data = FeatureSet(features, np.eye(2)[labels], labels)
    train, batch = data[:300], data[300:]
    scores = ZhengHong(3, random_state=0).fit(train).score(batch)
    for c in range(2):
        peer = GaussianMixture(3, covariance_type="diag", n_init=5, random_state=0)
        peer.fit(train.features[train.labels == c].astype(np.float64))
        rows = batch.predictions == c
        expected = peer.score_samples(batch.features[rows].astype(np.float64))
        np.testing.assert_allclose(scores[rows], expected, rtol=1e-5)


def test_zheng_hong_asks_the_class_that_is_predicted():
    train = blobs()
    scorer = ZhengHong(2, random_state=0).fit(train)
    features = train.features[:9]
    for c in range(3):
        said = FeatureSet(features, np.tile(np.eye(3)[c], (9, 1)), train.labels[:9])
        expected = scorer.mixtures_[c].score_samples(features)
        np.testing.assert_array_equal(scorer.score(said), expected)


def test_zheng_hong_gives_small_classes_fewer_components():
    train = blobs()
    few = np.flatnonzero(train.labels == 1)[:4]
    kept = train[np.concatenate([few, np.flatnonzero(train.labels != 1)])]
    scorer = ZhengHong(10, random_state=0).fit(kept)
    assert [len(m.weights_) for m in scorer.mixtures_] == [10, 4, 10]
    assert np.isfinite(scorer.score(train)).all()


@pytest.mark.parametrize("left", [0, 1])
def test_zheng_hong_names_a_class_that_is_too_small(left):
    train = blobs()
    few = np.flatnonzero(train.labels == 1)[:left]
    kept = train[np.concatenate([few, np.flatnonzero(train.labels != 1)])]
    with pytest.raises(ValueError, match=f"class 1 has {left} training inputs"):
        ZhengHong().fit(kept)


def test_zheng_hong_needs_whole_components():
    with pytest.raises(ValueError, match="n_components == 0"):
        ZhengHong(0).fit(blobs())


# ViM


def linear_head(d=12, c=4, seed=0):
    """A head, and a training and another FeatureSet of features with a few broad directions."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(c, d)).astype(np.float32), rng.normal(size=c).astype(np.float32)
    mixing = rng.normal(size=(d, d)) * np.geomspace(3, 0.1, d)[:, None]

    def draw(n):
        features = (rng.normal(size=(n, d)) @ mixing).astype(np.float32)
        return FeatureSet(features, features @ weight.T + bias, rng.integers(c, size=n))

    return weight, bias, draw(500), draw(80)


@pytest.mark.parametrize("dim", [0, 3, 6, 11])
def test_vim_equals_pytorch_ood(dim):
    weight, bias, train, batch = linear_head()
    peer = PeerViM(None, d=dim, w=torch.tensor(weight), b=torch.tensor(bias))
    peer.fit_features(torch.tensor(train.features), torch.tensor(train.labels))
    expected = -peer.predict_features(torch.tensor(batch.features)).numpy()  # float32 throughout
    scorer = ViM(dim).fit(train)
    np.testing.assert_allclose(scorer.alpha_, peer.alpha, rtol=1e-3)
    np.testing.assert_allclose(scorer.score(batch), expected, rtol=1e-3, atol=2e-3)


def test_vim_finds_the_head_in_features_and_logits():
    weight, bias, train, _ = linear_head()
    np.testing.assert_allclose(weight @ ViM().fit(train).origin_ + bias, 0, atol=1e-4)


def test_vim_adds_a_virtual_class_to_the_softmax():
    """The paper scores by the probability of the virtual class; ours is the same ranking."""
    _, _, train, batch = linear_head()
    scorer = ViM().fit(train)
    energy = logsumexp(batch.logits.astype(np.float64), axis=1)
    virtual_logit = energy - scorer.score(batch)
    assert (virtual_logit >= 0).all()
    logits = np.column_stack([virtual_logit, batch.logits])
    probability = softmax(logits, axis=1)[:, 0]
    np.testing.assert_array_equal(np.argsort(-probability), np.argsort(scorer.score(batch)))
    fitted = logsumexp(train.logits.astype(np.float64), axis=1) - scorer.score(train)
    assert fitted.mean() == pytest.approx(train.logits.max(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize(("d", "dim"), [(4096, 1000), (2048, 1000), (768, 512), (342, 171), (1, 0)])
def test_vim_takes_the_papers_dimension(d, dim):
    assert _usual_dim(d) == dim


def test_vim_is_safe_for_dead_features():
    """Features that are always 0 change nothing, wherever they stand and whatever their weights."""
    _, _, train, batch = linear_head()

    def with_dead(batch):
        features = np.insert(batch.features, [0, 5, 5, 12], 0, axis=1)
        return FeatureSet(features, batch.logits, batch.labels)

    scores = ViM(6).fit(with_dead(train)).score(with_dead(batch))
    np.testing.assert_allclose(scores, ViM(6).fit(train).score(batch), rtol=1e-4, atol=1e-4)


def test_vim_refuses_what_it_cannot_use():
    _, _, train, _ = linear_head()
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no affine function of the features"):
        ViM().fit(FeatureSet(train.features, rng.normal(size=train.logits.shape)))
    with pytest.raises(ValueError, match="mean highest logit, which must be above 0"):
        ViM().fit(FeatureSet(train.features, train.logits - 1000))
    with pytest.raises(ValueError, match=r"dim == 12, must be <= 11"):
        ViM(12).fit(train)
    flat = np.repeat(train.features[:, :1], 5, axis=1)
    with pytest.raises(ValueError, match="leave no residual"):
        ViM(2).fit(FeatureSet(flat, flat[:, :3] + 9))
