"""What all detectors share: the estimator contract, and checks of what comes in."""

from importlib import import_module
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.support.storage import load_arrays, save_arrays

__all__ = ["Scorer"]


class Scorer(BaseEstimator):
    """What all detectors share: ``fit`` on a FeatureSet, scores of others, checks of what comes in.

    A detector says what it is by four class attributes and fills in ``_score`` and, if it learns,
    ``_fit``. One that learns more than arrays and numbers says by ``_fitted`` and ``_restore`` what
    of it goes to a file.

    It is a scikit-learn estimator, with a FeatureSet for ``X``: ``clone``, pipelines,
    ``cross_val_score`` and searches such as ``GridSearchCV`` work. They compare by :meth:`score`,
    the AUROC for mistakes.

    Attributes:
        name: short name for tables and legends.
        reads: the parts of a FeatureSet that it looks at, "features", "logits" or both, in the
            order in which ``_fit`` and ``_score`` take them.
        class_agnostic: it looks at no classes at all, neither labels nor logits (§1).
        needs_labels: ``fit`` needs the labels of its FeatureSet.
        fits_on: "train" or "validation", the split to give to ``fit``; what learns nothing takes
            the smaller one.
        keeps_inputs: what it learns holds every input of ``fit``.
        needs_memory: a report on a file larger than memory fits it to some of the inputs only,
            as all of them would take too much memory or time.

    Example:
        >>> class Spread(Scorer):
        ...     name, reads, class_agnostic = "Spread", ("logits",), True
        ...
        ...     def _score(self, logits):
        ...         return logits.max(axis=1) - logits.min(axis=1)
        >>> batch = FeatureSet(np.zeros((2, 1)), [[3.0, 0.0, 1.0], [1.0, 1.0, 0.5]])
        >>> Spread().fit(batch).score_samples(batch)
        array([3. , 0.5])
    """

    name = None
    reads = ("features",)
    class_agnostic = False
    needs_labels = False
    fits_on = "train"
    keeps_inputs = False
    needs_memory = False

    def fit(self, train, y=None):
        """Learn from a FeatureSet of the split named by ``fits_on``.

        Args:
            train: FeatureSet of n inputs.
            y: never looked at; scikit-learn's pipelines pass it.

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

    def score_samples(self, batch):
        """Score each input of a FeatureSet.

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

    def score(self, batch, y=None):
        """How well the scores tell right predictions from wrong ones: their AUROC.

        Args:
            batch: FeatureSet of n inputs with labels.
            y: never looked at, as for :meth:`fit`.

        Returns:
            float in [0, 1]: the chance that a random right prediction outranks a random wrong one.

        Raises:
            ValueError: there are no labels, or only right or only wrong predictions; and what
                :meth:`score_samples` raises.
        """
        scores = self.score_samples(batch)
        if batch.labels is None:
            raise ValueError(
                "score compares right and wrong predictions, for which the FeatureSet needs "
                "labels; score_samples scores each input without"
            )
        if batch.correct.all() or not batch.correct.any():
            raise ValueError(
                f"all {len(batch)} predictions are {'right' if batch.correct[0] else 'wrong'}: "
                "their AUROC needs both kinds, so bring more inputs"
            )
        return float(roc_auc_score(batch.correct, scores))

    def save(self, path):
        """Write the fitted scorer to one safetensors file; the same scorer, the same bytes.

        A ``device``, and a ``random_state`` that is no whole number, are not kept.

        Raises:
            sklearn.exceptions.NotFittedError: ``fit`` must come first.
            TypeError: it scores by a density of another library.
        """
        save_arrays(path, *self.pack())

    @classmethod
    def load(cls, path):
        """Read a scorer that :meth:`save` wrote; ``Scorer.load`` reads any of them.

        Returns:
            Scorer whose scores are bit for bit those of the one that was saved.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or holds something else.
        """
        return cls.unpack(*load_arrays(path, list(_family(cls))))

    def pack(self):
        """What a file holds of the fitted scorer: (dict of name → array, JSON-ready metadata)."""
        self._check_fitted("n_columns_")
        arrays, facts = self._fitted()
        metadata = {
            "kind": type(self).__name__,
            "parameters": self._parameters(),
            "n_columns": self.n_columns_,
        }
        return arrays, metadata | facts

    @classmethod
    def unpack(cls, arrays, metadata):
        """The fitted scorer of which :meth:`pack` made these."""
        scorer = _family(cls)[metadata["kind"]](**metadata["parameters"])
        scorer.n_columns_ = tuple(metadata["n_columns"])
        scorer._restore(arrays, metadata)
        return scorer

    def _parameters(self):
        """The parameters that a file keeps, as JSON has them."""
        parameters = self.get_params(deep=False)
        parameters.pop("device", None)
        if not isinstance(parameters.get("random_state"), Integral):
            parameters.pop("random_state", None)
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()}

    def _fitted(self):
        """What ``fit`` learned: (dict of name → array, JSON-ready facts)."""
        learned = {k: v for k, v in vars(self).items() if k.endswith("_") and k != "n_columns_"}
        arrays = {name: value for name, value in learned.items() if isinstance(value, np.ndarray)}
        return arrays, {"numbers": {k: v for k, v in learned.items() if k not in arrays}}

    def _restore(self, arrays, metadata):
        """Learn again what ``_fitted`` gave."""
        for name, value in (arrays | metadata["numbers"]).items():
            setattr(self, name, value)

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


def _family(kind):
    """Name → class, of a class and all that derive from it; the library's own keep their names.

    A class of the same name that somebody has defined elsewhere never takes the place of the
    library's, which is loaded for this.
    """
    room = import_module("mistakes_lib.scores")
    public = [getattr(room, name) for name in room.__all__]
    own = [each for each in public if isinstance(each, type) and issubclass(each, kind)]
    return {each.__name__: each for each in (kind, *_derived(kind), *own)}


def _derived(kind):
    for derived in kind.__subclasses__():
        yield derived
        yield from _derived(derived)
