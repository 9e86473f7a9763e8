"""A detector for use: a fitted score, and the threshold below which inputs are flagged."""

from dataclasses import dataclass

import numpy as np

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.evaluation.tables import fit_scorer
from mistakes_lib.evaluation.thresholds import conformal_threshold, select_threshold
from mistakes_lib.scores import Scorer
from mistakes_lib.scores.registry import find_method
from mistakes_lib.support.progress import somebody_watches
from mistakes_lib.support.storage import load_arrays, save_arrays

__all__ = ["Detector", "fit_detector", "guarantee", "usual_components"]


@dataclass(frozen=True)
class Detector:
    """A fitted scorer with a threshold.

    Args:
        scorer: fitted :class:`~mistakes_lib.scores.Scorer`.
        threshold: inputs with a lower score are flagged.
        rule: how the threshold was chosen, for the reader.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> from mistakes_lib.scores import MaxLogit
        >>> batch = FeatureSet(np.zeros((2, 1)), [[3.0, 0], [1, 0]])
        >>> Detector(MaxLogit().fit(batch), 2.0, "by hand").flag(batch)
        array([False,  True])
    """

    scorer: Scorer
    threshold: float
    rule: str

    def score_samples(self, batch):
        """Score a FeatureSet of n inputs: float64 (n,), higher = more trustworthy."""
        return self.scorer.score_samples(batch)

    def flag(self, batch):
        """Whether each of n inputs is suspicious, bool (n,)."""
        return self.score_samples(batch) < self.threshold

    def save(self, path):
        """Write it to one safetensors file."""
        arrays, metadata = self.scorer.pack()
        facts = {"kind": "Detector", "threshold": float(self.threshold), "rule": self.rule}
        save_arrays(path, arrays, facts | {"scorer": metadata})

    @classmethod
    def load(cls, path):
        """Read a detector that :meth:`save` wrote; its scores are the same bit for bit.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or holds something else.
        """
        arrays, metadata = load_arrays(path, ["Detector"])
        try:
            scorer = Scorer.unpack(arrays, metadata["scorer"])
            return cls(scorer, float(metadata["threshold"]), str(metadata["rule"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no detector of this version: {error!r}") from None


def fit_detector(
    train,
    validation,
    *,
    method="likelihood",
    scorer=None,
    false_alarms=0.05,
    criterion=None,
    random_state=0,
    progress=False,
):
    """Fit the paper's detector, or another, and choose its threshold on validation inputs.

    Args:
        train: FeatureSet of the training split, for scorers that are fitted on it.
        validation: FeatureSet of the validation split, with labels.
        method: key of ``METHODS`` of ``mistakes_lib.scores.registry``, such as "mahalanobis"; by
            default the log-likelihood under a mixture of 100 Gaussians (of a tenth as many as
            there are rows, if that is less).
        scorer: instead of a method: an unfitted :class:`~mistakes_lib.scores.Scorer` of yours.
        false_alarms: share of correct predictions that may be flagged, guaranteed as
            :func:`~mistakes_lib.evaluation.thresholds.conformal_threshold` says.
        criterion: choose the threshold by this criterion of
            :func:`~mistakes_lib.evaluation.thresholds.select_threshold` instead, such as "f1".
        random_state: seed of the mixture and of the folds.
        progress: show a bar while the mixture is fitted.

    Returns:
        Detector.

    Raises:
        ValueError: ``validation`` has no labels or too few mistakes for the criterion, or too few
            correct predictions for the guarantee; or the method is unknown.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> rng = np.random.default_rng(0)
        >>> def draw(n):  # two features that are the logits; one label in four is wrong
        ...     logits = rng.normal(size=(n, 2))
        ...     return FeatureSet(logits, logits, logits.argmax(axis=1) ^ (rng.random(n) < 0.25))
        >>> detector = fit_detector(draw(200), draw(100), false_alarms=0.1)
        >>> detector.rule
        'at most 10.00% false alarms, guaranteed'
        >>> usual = FeatureSet([[0.0, 0.0]], [[0.0, 0.0]])
        >>> unusual = FeatureSet([[9.0, 9.0]], [[9.0, 9.0]])
        >>> detector.flag(usual), detector.flag(unusual)
        (array([False]), array([ True]))
    """
    if validation.labels is None:
        raise ValueError("the threshold is chosen on validation labels, but there are none")
    if scorer is None:
        k = usual_components(train)
        verbose = int(progress and somebody_watches())
        mixture = DiagonalGMM(k, random_state=random_state, verbose=verbose)
        scorer = find_method(method).make(mixture, train.logits.shape[1])
    fit_scorer(scorer, train, validation)
    return _with_threshold(scorer, validation, false_alarms, criterion, random_state)


def _with_threshold(scorer, validation, false_alarms, criterion, random_state):
    """The detector of a fitted scorer."""
    scores, correct = scorer.score_samples(validation), validation.correct
    if criterion is not None:
        found = select_threshold(scores, correct, criterion=criterion, random_state=random_state)
        return Detector(scorer, float(found.value), f"best {criterion} on validation inputs")
    threshold = conformal_threshold(scores[correct], false_alarms)
    if not np.isfinite(threshold):
        raise ValueError(
            f"{correct.sum()} correct validation predictions are too few to promise "
            f"{false_alarms:.2%} false alarms: bring at least {int(np.ceil(1 / false_alarms)) - 1}"
        )
    return Detector(scorer, threshold, guarantee(false_alarms))


def usual_components(train):
    """As many Gaussians as the paper's detector has, or a tenth of the inputs if these are few."""
    return min(100, max(1, len(train) // 10))


def guarantee(false_alarms):
    """The rule of a conformal threshold, for the reader."""
    return f"at most {false_alarms:.2%} false alarms, guaranteed"
