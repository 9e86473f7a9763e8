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
    DiagonalGMM,
    Energy,
    FeatureSet,
    LogLikelihood,
    Mahalanobis,
    MaxLogit,
    MaxSoftmax,
    NearestNeighbors,
    RelativeMahalanobis,
    TemperatureScaling,
    ViM,
    ZhengHong,
)

SCORERS = {
    "likelihood": LogLikelihood(DiagonalGMM(2, random_state=0)),
    "Zheng & Hong": ZhengHong(2, random_state=0),
    "Mahalanobis": Mahalanobis(),
    "relative": RelativeMahalanobis(),
    "neighbors": NearestNeighbors(3),
    "ViM": ViM(2),
    "calibrated": TemperatureScaling(),
    "softmax": MaxSoftmax(),
    "logit": MaxLogit(),
    "energy": Energy(),
}
SIZES = [1, 2, 4]


def mistake_auroc(scorer, batch, y=None):
    return roc_auc_score(batch.correct, scorer.score(batch))


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
    np.testing.assert_array_equal(LogLikelihood(density).fit(batch).score(batch), expected)


# --- scorers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_works_cloned_in_a_pipeline_and_in_cross_validation(name, batch):
    scorer = SCORERS[name]
    assert clone(scorer).get_params().keys() == scorer.get_params().keys()
    alone = clone(scorer).fit(batch).score(batch)
    pipeline = make_pipeline(clone(scorer)).fit(batch)
    np.testing.assert_array_equal(pipeline.score(batch), alone)
    folds = KFold(3)
    found = cross_val_score(scorer, batch, cv=folds, scoring=mistake_auroc)
    by_hand = [mistake_auroc(clone(scorer).fit(batch[a]), batch[b]) for a, b in folds.split(batch)]
    np.testing.assert_array_equal(found, by_hand)


@pytest.mark.parametrize(
    ("scorer", "parameter"),
    [
        (LogLikelihood(DiagonalGMM(random_state=0)), "density__n_components"),
        (NearestNeighbors(), "k"),
    ],
)
def test_a_search_over_a_scorer_chooses_by_its_mistakes(scorer, parameter, batch):
    search = GridSearchCV(scorer, {parameter: SIZES}, cv=3, scoring=mistake_auroc).fit(batch)
    by_hand = [
        cross_val_score(
            clone(scorer).set_params(**{parameter: k}), batch, cv=3, scoring=mistake_auroc
        ).mean()
        for k in SIZES
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand)
    assert search.best_params_ == {parameter: SIZES[np.argmax(by_hand)]}
    np.testing.assert_array_equal(search.score(batch), mistake_auroc(search.best_estimator_, batch))


def test_a_feature_set_is_split_like_an_array(batch):
    ours = train_test_split(batch, test_size=0.25, random_state=0)
    theirs = train_test_split(batch.features, test_size=0.25, random_state=0)
    for part, features in zip(ours, theirs, strict=True):
        assert isinstance(part, FeatureSet)
        np.testing.assert_array_equal(part.features, features)
