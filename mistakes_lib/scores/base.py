"""What all detectors share: the estimator contract, and checks of what comes in."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.features import FeatureSet

__all__ = ["Scorer"]


class Scorer(BaseEstimator):
    """What all detectors share: ``fit`` on a FeatureSet, ``score`` others, check what comes in.

    A detector says what it is by four class attributes and fills in ``_score`` and, if it learns,
    ``_fit``. It is a scikit-learn estimator: ``clone`` and ``get_params`` work.

    Attributes:
        name: short name for tables and legends.
        reads: the parts of a FeatureSet that it looks at, "features", "logits" or both, in the
            order in which ``_fit`` and ``_score`` take them.
        class_agnostic: it looks at no classes at all, neither labels nor logits (§1).
        needs_labels: ``fit`` needs the labels of its FeatureSet.
        fits_on: "train" or "validation", the split to give to ``fit``.
    """

    name = None
    reads = ("features",)
    class_agnostic = False
    needs_labels = False
    fits_on = "train"

    def fit(self, train):
        """Learn from a FeatureSet of the split named by ``fits_on``.

        Args:
            train: FeatureSet of n inputs.

        Returns:
            The scorer itself.

        Raises:
            TypeError: ``train`` is no FeatureSet.
            ValueError: labels are needed, but ``train`` has none.
        """
        values = self._read(train)
        if self.needs_labels and train.labels is None:
            raise ValueError(
                f"{type(self).__name__}.fit needs labels: "
                f"pass the FeatureSet of the {self.fits_on} split with its labels"
            )
        self._fit(*values, train.labels)
        self.n_columns_ = tuple(part.shape[1] for part in values)
        return self

    def score(self, batch):
        """Score a FeatureSet.

        Args:
            batch: FeatureSet of n inputs; its labels are never looked at.

        Returns:
            float64 (n,), higher = more trustworthy.

        Raises:
            TypeError: ``batch`` is no FeatureSet.
            ValueError: it has another number of features or classes than ``fit`` saw.
            sklearn.exceptions.NotFittedError: ``fit`` must come first.
        """
        return np.asarray(self._score(*self._read_like_fitted(batch)), dtype=np.float64)

    def _read(self, batch):
        if not isinstance(batch, FeatureSet):
            raise TypeError(
                f"{type(self).__name__} expects a FeatureSet, got {type(batch).__name__}: "
                "make one with extract_features or FeatureSet(features, logits, labels)"
            )
        return [getattr(batch, part) for part in self.reads]

    def _read_like_fitted(self, batch):
        values = self._read(batch)
        columns = [part.shape[1] for part in values]
        expected = getattr(self, "n_columns_", columns)
        for part, found, fitted in zip(self.reads, columns, expected, strict=True):
            if found != fitted:
                raise ValueError(
                    f"{type(self).__name__} was fitted on {fitted} {part}, but this FeatureSet "
                    f"has {found}: score what the same classifier says"
                )
        return values

    def _check_fitted(self, attribute):
        check_is_fitted(
            self, attribute, msg=f"this %(name)s is not fitted yet: call fit({self.fits_on}) first"
        )

    def _fit(self, *values_and_labels):
        """Learn from what it ``reads``, float32 (n, d) or (n, c), and labels (n,) or None.

        Most logit scores learn nothing.
        """

    def _score(self, *values):
        """Score what it ``reads``, float32 (n, d) or (n, c)."""
        raise NotImplementedError
