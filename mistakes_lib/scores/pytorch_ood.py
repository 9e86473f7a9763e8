"""pytorch-ood's detectors as scorers of ours, and our scorers as detectors of pytorch-ood.

pytorch-ood is no dependency: its detectors are told by their methods, and it is imported only
where one of its own kind is made. Its scores run against ours: **there, higher means more of an
outlier**, so each way the sign is turned.

Source: pytorch-ood 0.4, https://pytorch-ood.readthedocs.io/ (``pytorch_ood.api``).
"""

from copy import deepcopy

import numpy as np
import torch
from sklearn.exceptions import NotFittedError

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Scorer
from mistakes_lib.support.checks import as_vector

__all__ = ["PytorchOODScorer", "as_pytorch_ood"]

KINDS = ("features", "logits")  # what a FeatureSet holds and a detector may read


class PytorchOODScorer(Scorer):
    """A detector of pytorch-ood that scores what a FeatureSet holds; the sign is turned.

    Its ``FeaturesDetector`` kind (Mahalanobis, KNN, ViM, …) reads features, its
    ``LogitsDetector`` kind (EnergyBased, MaxSoftmax, KLMatching, …) logits. The detector's network
    is never run, so it may be None. ``fit`` learns on a copy and leaves the detector as it was; one
    that learns nothing scores without ``fit``. It can't be saved: pytorch-ood has no file format
    but pickle.

    Args:
        detector: detector of pytorch-ood with ``predict_features`` or ``predict_logits``.
        fits_on: "train" or "validation", the split to give to ``fit``.

    Attributes:
        detector_: the fitted copy.

    Raises:
        TypeError: at ``fit`` and ``score``, the detector reads neither features nor logits.
        ValueError: at ``fit``, labels are missing, which every detector that learns is given; at
            ``score``, not one finite score an input.

    Example:
        >>> from pytorch_ood.detector import MaxLogit
        >>> batch = FeatureSet(np.zeros((2, 1)), [[3.0, 0], [1, 0]])
        >>> PytorchOODScorer(MaxLogit(None)).score_samples(batch)
        array([3., 1.])
    """

    def __init__(self, detector, fits_on="train"):
        self.detector = detector
        self.fits_on = fits_on

    @property
    def name(self):
        """The detector's class, for tables and legends."""
        return f"{type(self.detector).__name__} (pytorch-ood)"

    @property
    def reads(self):
        """("features",) or ("logits",)."""
        return (self._kind,)

    @property
    def needs_labels(self):
        """Every detector that learns is given labels."""
        return bool(self.detector.requires_fit)

    @property
    def _kind(self):
        for kind in KINDS:
            if hasattr(self.detector, f"predict_{kind}"):
                return kind
        raise TypeError(
            f"{type(self.detector).__name__} has neither predict_features nor predict_logits: "
            "it needs the network itself, but a FeatureSet holds features and logits only"
        )

    def _fit(self, values, labels):
        if not self.needs_labels:
            return
        learner = deepcopy(self.detector)
        fit = getattr(learner, f"fit_{self._kind}")
        fit(torch.tensor(values), torch.tensor(labels))
        self.detector_ = learner

    def _score(self, values):
        if self.needs_labels:
            self._check_fitted("detector_")
        detector = getattr(self, "detector_", self.detector)
        outlier = getattr(detector, f"predict_{self._kind}")(torch.tensor(values))
        scores = as_vector(outlier, f"what {self.name} says")
        if len(scores) != len(values):
            raise ValueError(f"{self.name} gave {len(scores)} scores for {len(values)} inputs")
        return -scores

    def _fitted(self):
        raise TypeError(f"a {self.name} cannot be saved: pytorch-ood has no file format but pickle")


def as_pytorch_ood(scorer, classifier=None):
    """Make a detector of pytorch-ood of a scorer, for its benchmarks and metrics.

    The detector is a ``pytorch_ood.api.FeaturesDetector``: ``fit(loader)``, ``fit_features(x, y)``
    (rows with y < 0 are left out), ``predict(images)`` and ``predict_features(x)``, which gives
    float64 (n,), higher = more of an outlier. Its class has the name of the scorer's, which
    pytorch-ood's tables show. Fitting it fits the scorer.

    Args:
        scorer: a :class:`~mistakes_lib.scores.Scorer`, fitted or not.
        classifier: :class:`~mistakes_lib.classifiers.FeatureClassifier` that makes features of
            images, pixels in [0, 1], and logits of features; it is put in eval mode. Without one
            the detector knows features only.

    Returns:
        pytorch_ood.api.FeaturesDetector.

    Raises:
        ImportError: pytorch-ood is not installed.
        ValueError: the scorer reads logits, but there is no classifier to make them.

    Example:
        >>> from mistakes_lib.scores import Mahalanobis
        >>> detector = as_pytorch_ood(Mahalanobis())
        >>> features = torch.tensor([[-1.0, 0], [1, 0], [0, -1], [0, 1]])
        >>> detector = detector.fit_features(features, torch.zeros(4))
        >>> detector.predict_features(torch.tensor([[1.0, 0], [3, 4]])).round(decimals=6)
        tensor([ 2., 50.], dtype=torch.float64)
    """
    if "logits" in scorer.reads and classifier is None:
        raise ValueError(
            f"{type(scorer).__name__} reads logits: pass the classifier, whose head makes them "
            "of the features"
        )
    kind = type(type(scorer).__name__, (_FeaturesDetector, _peer("api").FeaturesDetector), {})
    return kind(scorer, classifier)


class _FeaturesDetector:
    """What a scorer says in the words of pytorch-ood; its own base class comes second."""

    requires_fit = True

    def __init__(self, scorer, classifier):
        self.scorer = scorer
        self.classifier = None if classifier is None else classifier.eval()
        # One object for all time: pytorch-ood's benchmarks tell cached features by its id.
        self.encoder = None if classifier is None else classifier.features

    def fit(self, data_loader):
        """Fit the scorer on the features of a loader of (images, labels)."""
        return self.fit_features(
            *_peer("utils").extract_features(data_loader, self._encoder(), self.device)
        )

    def fit_features(self, x, y):
        """Fit the scorer on features (n, d) and labels (n,); rows with a label < 0 are left out."""
        known = y >= 0
        self.scorer.fit(self._feature_set(x[known], y[known]))
        return self

    def predict(self, x):
        """Outlier scores, float64 (n,), of images (n, 3, h, w)."""
        encoder = self._encoder()
        with torch.no_grad():
            return self.predict_features(encoder(x.to(self.device)))

    def predict_features(self, x):
        """Outlier scores, float64 (n,), of features (n, d)."""
        try:
            scores = self.scorer.score_samples(self._feature_set(x))
        except NotFittedError:
            raise _peer("api").RequiresFittingException() from None
        return torch.from_numpy(-scores).to(x.device)

    def _encoder(self):
        if self.encoder is None:
            raise _peer("api").ModelNotSetException()
        return self.encoder

    def _feature_set(self, x, y=None):
        if self.classifier is None:
            # The scorer looks at no logits: these only say how many classes there are.
            classes = 1 if y is None else int(y.max()) + 1
            return FeatureSet(x, np.zeros((len(x), classes), dtype=np.float32), y)
        head = self.classifier.head
        with torch.no_grad():
            return FeatureSet(x, head(x.to(head.weight)), y)


def _peer(module):
    """A module of pytorch-ood."""
    try:
        from pytorch_ood import api, utils
    except ImportError as error:
        raise ImportError(
            f"pytorch-ood is needed for its kind of detector ({error}): "
            "install it with: pip install 'pytorch-ood>=0.4'"
        ) from None
    return {"api": api, "utils": utils}[module]
