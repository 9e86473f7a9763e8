"""Densities and scorers inside scikit-learn's pipelines and searches."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mistakes_lib import (
    Combined,
    DiagonalGMM,
    FeatureSet,
    LogLikelihood,
    MaxSoftmax,
    NearestNeighbors,
)
from mistakes_lib.scores.registry import METHODS

SCORERS = {m.key: m.make(DiagonalGMM(4, random_state=0), num_classes=2) for m in METHODS}
SIZES = [1, 2, 4]


@pytest.fixture(scope="module")
def batch():
    """Features that hold the logits; some labels are wrong, more of them far from the middle."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(240, 4)).astype(np.float32)
    wrong = rng.random(240) < 0.1 + 0.1 * (np.linalg.norm(features, axis=1) > 2)
    return FeatureSet(features, features[:, :2], features[:, :2].argmax(axis=1) ^ wrong)


# --- densities -----------------------------------------------------------------------------------


def starts(X, k):
    return {
        "weights_init": np.full(k, 1 / k),
        "means_init": X[:: len(X) // k][:k],
        "precisions_init": np.full((k, X.shape[1]), 4.0),
    }


@pytest.mark.parametrize("k", SIZES)
def test_it_takes_the_place_of_scikit_learns_mixture_in_a_pipeline(k):
    X = StandardScaler().fit_transform(load_iris().data)
    theirs = GaussianMixture(k, covariance_type="diag", **starts(X, k))
    ours = DiagonalGMM(k, **starts(X, k))
    fitted = [
        make_pipeline(StandardScaler(), mixture).fit(load_iris().data) for mixture in (theirs, ours)
    ]
    for method in ("predict", "predict_proba", "score_samples", "score"):
        expected, found = (getattr(pipeline, method)(load_iris().data) for pipeline in fitted)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    for criterion in ("aic", "bic"):
        expected, found = (getattr(pipeline[-1], criterion)(X) for pipeline in fitted)
        assert found == pytest.approx(expected)
    np.testing.assert_array_equal(clone(ours).fit_predict(X), clone(theirs).fit_predict(X))
    rows, components = fitted[1][-1].sample(5)
    assert rows.shape == (5, 4) and components.shape == (5,)


def test_a_search_finds_the_number_of_components_that_cross_validation_prefers():
    X = load_iris().data
    folds = KFold(5, shuffle=True, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), DiagonalGMM(random_state=0)),
        {"diagonalgmm__n_components": SIZES},
        cv=folds,
    ).fit(X)
    by_hand = [
        np.mean(
            [
                make_pipeline(StandardScaler(), DiagonalGMM(k, random_state=0))
                .fit(X[a])
                .score(X[b])
                for a, b in folds.split(X)
            ]
        )
        for k in SIZES
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand)
    assert search.best_params_["diagonalgmm__n_components"] == SIZES[np.argmax(by_hand)]


def test_a_likelihood_may_be_that_of_a_whole_pipeline(batch):
    density = make_pipeline(PCA(2), DiagonalGMM(2, random_state=0))
    expected = clone(density).fit(batch.features).score_samples(batch.features)
    scorer = LogLikelihood(density).fit(batch)
    np.testing.assert_array_equal(scorer.score_samples(batch), expected)


# --- scorers -------------------------------------------------------------------------------------


def auroc(scorer, batch):
    return roc_auc_score(batch.correct, scorer.score_samples(batch))


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_works_cloned_in_a_pipeline_and_in_cross_validation(name, batch):
    scorer = SCORERS[name]
    assert clone(scorer).get_params().keys() == scorer.get_params().keys()
    alone = clone(scorer).fit(batch).score_samples(batch)
    pipeline = make_pipeline(clone(scorer)).fit(batch)
    np.testing.assert_array_equal(pipeline.score_samples(batch), alone)
    folds = KFold(3)
    found = cross_val_score(scorer, batch, cv=folds)
    by_hand = [auroc(clone(scorer).fit(batch[a]), batch[b]) for a, b in folds.split(batch)]
    np.testing.assert_array_equal(found, by_hand)


@pytest.mark.parametrize(
    ("scorer", "parameter"),
    [
        (LogLikelihood(DiagonalGMM(random_state=0)), "density__n_components"),
        (NearestNeighbors(), "k"),
    ],
)
def test_a_search_over_a_scorer_chooses_by_its_mistakes(scorer, parameter, batch):
    search = GridSearchCV(scorer, {parameter: SIZES}, cv=3).fit(batch)
    by_hand = [
        np.mean(
            [
                auroc(clone(scorer).set_params(**{parameter: k}).fit(batch[a]), batch[b])
                for a, b in KFold(3).split(batch)
            ]
        )
        for k in SIZES
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand)
    assert search.best_params_ == {parameter: SIZES[np.argmax(by_hand)]}
    assert search.score(batch) == auroc(search.best_estimator_, batch)


def test_a_fitted_likelihood_stays_fitted_in_cross_validation(batch):
    density = DiagonalGMM(2, random_state=0).fit(batch.features[:60])
    scorer = LogLikelihood(density)
    expected = [auroc(scorer, batch[b]) for _, b in KFold(3).split(batch)]
    np.testing.assert_array_equal(cross_val_score(scorer, batch, cv=3), expected)
    assert clone(scorer).density is density
    with pytest.raises(ValueError, match="density__n_components: the density is fitted already"):
        scorer.set_params(density__n_components=4)


def test_a_search_over_combined_keeps_its_fitted_parts(batch):
    parts = [
        LogLikelihood(DiagonalGMM(2, random_state=0)).fit(batch[:60]),
        MaxSoftmax().fit(batch),
    ]
    strengths = [0.01, 1.0, 100.0]
    search = GridSearchCV(Combined(parts), {"C": strengths}, cv=3).fit(batch)
    by_hand = [
        np.mean(
            [
                auroc(Combined(parts, C=strength).fit(batch[a]), batch[b])
                for a, b in KFold(3).split(batch)
            ]
        )
        for strength in strengths
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand)
    assert search.best_params_ == {"C": strengths[np.argmax(by_hand)]}
    assert search.best_estimator_.scorers == parts


def test_a_feature_set_is_split_like_an_array(batch):
    ours = train_test_split(batch, test_size=0.25, random_state=0)
    theirs = train_test_split(batch.features, test_size=0.25, random_state=0)
    for part, features in zip(ours, theirs, strict=True):
        assert isinstance(part, FeatureSet)
        np.testing.assert_array_equal(part.features, features)
