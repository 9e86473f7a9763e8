"""Combined against scikit-learn's regression."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Combined, LogLikelihood, Mahalanobis, MaxLogit, MaxSoftmax, Scorer
from tests.helpers.batches import blobs


def test_combined_is_scikit_learns_regression_on_standardised_scores():
    batch, other = blobs(), blobs(60, seed=1)
    parts = [Mahalanobis().fit(batch), MaxSoftmax().fit(batch)]
    combined = Combined(parts, C=0.5).fit(batch)
    columns, others = (
        np.stack([parts[0].score_samples(b), parts[1].log_odds(b)], axis=1) for b in (batch, other)
    )
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5))
    reference.fit(columns, batch.correct)
    np.testing.assert_allclose(combined.score_samples(other), reference.decision_function(others))


def test_combined_learns_from_which_predictions_are_right_only():
    batch = blobs()
    wrong_labels = np.where(batch.correct, batch.labels, (batch.predictions + 1) % 3)
    other = FeatureSet(batch.features, batch.logits, wrong_labels)
    parts = [MaxSoftmax().fit(batch), MaxLogit().fit(batch)]
    first, second = (Combined(parts).fit(b).score_samples(batch) for b in (batch, other))
    np.testing.assert_array_equal(first, second)


def test_combined_is_saved_with_its_parts(tmp_path):
    batch, other = blobs(), blobs(60, seed=1)
    parts = [LogLikelihood(DiagonalGMM(2, random_state=0)).fit(batch), MaxSoftmax().fit(batch)]
    combined = Combined(parts).fit(batch)
    combined.save(tmp_path / "combined")
    loaded = Scorer.load(tmp_path / "combined")
    np.testing.assert_array_equal(loaded.score_samples(other), combined.score_samples(other))


def test_combined_needs_parts_and_both_kinds_of_predictions():
    batch = blobs()
    with pytest.raises(ValueError, match="at least one fitted scorer"):
        Combined([]).fit(batch)
    with pytest.raises(ValueError, match="predictions are right: Combined learns from both"):
        Combined([MaxLogit()]).fit(batch[batch.correct])
    with pytest.raises(NotFittedError, match="not fitted"):
        Combined([MaxLogit()]).score_samples(batch)
