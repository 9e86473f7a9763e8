"""One score made of several: what the likelihood knows that confidence does not."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores.base import Scorer

__all__ = ["Combined"]


class Combined(Scorer):
    """Log-odds of a right prediction, by logistic regression on the scores of fitted detectors.

    A part that scores by a probability enters by its log-odds: probabilities crowd so near 1 that a
    linear function of them cannot tell 99 % from 99.99 %. The scores are standardised on the split
    that it is fitted on. Sees the validation split with
    its labels, of which it uses only which predictions are right, and what its parts see.

    ``clone`` keeps the parts as they are, so that cross-validation and searches over ``C`` work.

    Args:
        scorers: list of fitted scorers.
        C: inverse strength of the L2 penalty on the coefficients.

    Attributes:
        mean_, scale_: of each part's scores on the fitted split, float64 (s,).
        coef_: weight of each standardised score, float64 (s,).
        intercept_: log-odds where all scores have their mean.

    Raises:
        ValueError: at ``fit``, all predictions are right or all are wrong, or there are no scorers.

    Example:
        >>> from mistakes_lib.scores import MaxLogit, MaxSoftmax
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=(200, 3)) * rng.uniform(0, 4, size=(200, 1))
        >>> labels = np.where(rng.random(200) < 0.6, logits.argmax(axis=1), 0)
        >>> batch = FeatureSet(logits, logits, labels)
        >>> parts = [MaxSoftmax().fit(batch), MaxLogit().fit(batch)]
        >>> Combined(parts).fit(batch).coef_.shape
        (2,)
    """

    name = "Combined"
    reads = ("features", "logits")
    needs_labels = True
    fits_on = "validation"

    def __init__(self, scorers, C=1.0):
        self.scorers = scorers
        self.C = C

    def __sklearn_clone__(self):
        """The same parts, fitted as they are: a search learns their weights anew, not the parts."""
        parameters = self.get_params(deep=False)
        return type(self)(**parameters | {"scorers": list(self.scorers)})

    def _fit(self, features, logits, labels):
        if not self.scorers:
            raise ValueError("Combined needs at least one fitted scorer")
        batch = FeatureSet(features, logits, labels)
        if batch.correct.all() or not batch.correct.any():
            raise ValueError(
                f"all {len(batch)} predictions are {'right' if batch.correct[0] else 'wrong'}: "
                "Combined learns from both kinds, so fit it on more inputs"
            )
        scores = self._scores(features, logits)  # (n, s)
        self.mean_, self.scale_ = scores.mean(axis=0), scores.std(axis=0)
        self.scale_[self.scale_ == 0] = 1.0
        regression = LogisticRegression(C=self.C)
        regression.fit((scores - self.mean_) / self.scale_, batch.correct)
        self.coef_, self.intercept_ = regression.coef_[0], float(regression.intercept_[0])

    def _score(self, features, logits):
        self._check_fitted("coef_")
        scores = (self._scores(features, logits) - self.mean_) / self.scale_
        return scores @ self.coef_ + self.intercept_

    def _scores(self, features, logits):
        batch = FeatureSet(features, logits)
        return np.stack([_evidence(scorer, batch) for scorer in self.scorers], axis=1)

    def _parameters(self):
        return {"scorers": None, "C": float(self.C)}  # the fitted ones take their place

    def _fitted(self):
        arrays, facts = super()._fitted()
        parts = [scorer.pack() for scorer in self.scorers]
        for number, (own, _) in enumerate(parts):
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
        return arrays, facts | {"parts": [metadata for _, metadata in parts]}

    def _restore(self, arrays, metadata):
        own = {name: array for name, array in arrays.items() if "." not in name}
        super()._restore(own, metadata)
        self.scorers = []
        for number, facts in enumerate(metadata["parts"]):
            prefix = f"{number}."
            part = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            self.scorers.append(Scorer.unpack(part, facts))


def _evidence(scorer, batch):
    """A part's scores (n,), on the scale on which evidence adds up."""
    return scorer.log_odds(batch) if hasattr(scorer, "log_odds") else scorer.score_samples(batch)
