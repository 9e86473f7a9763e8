"""A detector for use: a fitted score, and the threshold below which inputs are flagged."""

from dataclasses import asdict, dataclass

import numpy as np

from mistakes_lib.classifiers.feature_classifier import FeatureClassifier
from mistakes_lib.classifiers.loading import Network
from mistakes_lib.classifiers.weights import unwrap
from mistakes_lib.data.reading import Preprocessing, as_rgb
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.density.gmm import reg_covar_for
from mistakes_lib.evaluation.tables import fit_scorer
from mistakes_lib.evaluation.thresholds import conformal_threshold, select_threshold
from mistakes_lib.features.feature_set import extract_features
from mistakes_lib.features.stored import fingerprint_of
from mistakes_lib.scores import Scorer
from mistakes_lib.scores.registry import METHODS, find_method
from mistakes_lib.support.checks import check_fraction
from mistakes_lib.support.progress import somebody_watches
from mistakes_lib.support.storage import load_arrays, save_arrays

__all__ = [
    "Detector",
    "Watched",
    "fit_detector",
    "guarantee",
    "method_key",
    "usual_components",
    "usual_mixture",
]


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
    check_fraction(false_alarms, "false_alarms")
    if validation.labels is None:
        raise ValueError("the threshold is chosen on validation labels, but there are none")
    if scorer is None:
        verbose = int(progress and somebody_watches())
        mixture = usual_mixture(train, random_state=random_state, verbose=verbose)
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


def usual_mixture(train, n_components=None, *, random_state=0, verbose=0):
    """The paper's mixture, not fitted, whose regularisation knows the features' scale.

    ``reg_covar`` of :class:`~mistakes_lib.density.DiagonalGMM` is absolute, as scikit-learn's;
    here it is a millionth of the features' mean variance, so that features of another unit give the
    same detector.

    Args:
        train: FeatureSet that it will be fitted on.
        n_components: Gaussians; by default :func:`usual_components`.
        random_state: seed.
        verbose: 1 shows a bar while it is fitted.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> rows = np.array([[0.0], [2e-4]])
        >>> float(usual_mixture(FeatureSet(rows, np.zeros((2, 2)))).reg_covar)  # variance 1e-8
        1e-14
    """
    return DiagonalGMM(
        usual_components(train) if n_components is None else n_components,
        reg_covar=reg_covar_for(train.features),
        random_state=random_state,
        verbose=verbose,
    )


def guarantee(false_alarms):
    """The rule of a conformal threshold, for the reader."""
    return f"at most {false_alarms:.2%} false alarms, guaranteed"


def method_key(scorer):
    """The name of a scorer for ``mistakes fit --method``, or None.

    Example:
        >>> from mistakes_lib.scores import Energy
        >>> method_key(Energy())
        'energy'
    """
    own = type(scorer).__module__, type(scorer).__name__  # a class of a user's may have the name
    homes = {(f"mistakes_lib.scores.{each.module}", each.kind): each.key for each in METHODS}
    return homes.get(own)


class Watched:
    """A network with its detector: from images to flags in one call.

    Args:
        network: :class:`~mistakes_lib.classifiers.FeatureClassifier`, or what
            :func:`~mistakes_lib.classifiers.loading.load_network` returns, which knows how an image
            becomes pixels as well.
        detector: fitted :class:`Detector` of its features.
        device: "auto", "cpu", "cuda", …

    Example:
        >>> import torch
        >>> from mistakes_lib.scores import Energy
        >>> classifier = FeatureClassifier(torch.nn.Flatten(), torch.nn.Linear(3, 2))
        >>> images = np.random.default_rng(0).uniform(size=(60, 3, 1, 1))
        >>> seen = extract_features(classifier, images, labels=np.zeros(60), device="cpu")
        >>> watched = Watched(classifier, Detector(Energy().fit(seen), -99.0, "by hand"))
        >>> bool(watched.flag(images).any())
        False
    """

    def __init__(self, network, detector, *, device="auto"):
        known = isinstance(network, Network)
        self.classifier = network.classifier if known else network
        self.preprocessing = network.preprocessing if known else None
        self.classes = network.classes if known else None
        if not isinstance(self.classifier, FeatureClassifier):
            raise TypeError(
                f"network must be a FeatureClassifier, got {type(network).__name__}: wrap it with "
                "FeatureClassifier.from_module(net, mean=…, std=…)"
            )
        if not isinstance(detector, Detector):
            raise TypeError(f"detector must be a Detector, got {type(detector).__name__}")
        self.detector, self.device = detector, device

    def features(self, images):
        """The FeatureSet of n images, as :meth:`flag` takes them."""
        images = [images] if hasattr(images, "convert") else images
        is_list = isinstance(images, list | tuple) and len(images) > 0
        if is_list and all(hasattr(image, "convert") for image in images):  # PIL's
            if self.preprocessing is None:
                raise TypeError(
                    "images of PIL need a preprocessing: give Watched what load_network returns"
                )
            pixels = [self.preprocessing(as_rgb(image)) for image in images]
            images = (pixel[None] for pixel in pixels)  # their sizes may differ
        return extract_features(self.classifier, images, device=self.device)

    def score_samples(self, images):
        """Score n images: float64 (n,), higher = more trustworthy.

        Args:
            images: whatever :func:`~mistakes_lib.features.feature_set.extract_features` takes, or
                an image of PIL or a list of them.
        """
        return self.detector.score_samples(self.features(images))

    def flag(self, images):
        """Whether each of n images is suspicious, bool (n,); see :meth:`score_samples`."""
        return self.detector.flag(self.features(images))

    def save(self, path):
        """Write all but the network's weights to one safetensors file."""
        arrays, scorer = self.detector.scorer.pack()
        body = self.classifier.body
        facts = {
            "kind": "Watched",
            "threshold": float(self.detector.threshold),
            "rule": self.detector.rule,
            "scorer": scorer,
            "weights": fingerprint_of(self.classifier),
            "layer": getattr(body, "layer", None),
            "mean": self.classifier.mean.flatten().tolist(),
            "std": self.classifier.std.flatten().tolist(),
            "preprocessing": asdict(self.preprocessing) if self.preprocessing else None,
            "classes": list(self.classes) if self.classes else None,
        }
        save_arrays(path, arrays, facts)

    @classmethod
    def load(cls, path, net, *, device="auto"):
        """Read what :meth:`save` wrote, for the network with the same weights.

        Args:
            path: the file.
            net: the network, its weights loaded: the ``nn.Module`` that was wrapped, or a
                FeatureClassifier.
            device: "auto", "cpu", "cuda", …

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or holds something else, or the network has other
                weights, mean or std than the one whose detector it is.
        """
        arrays, facts = load_arrays(path, ["Watched"])
        try:
            scorer = Scorer.unpack(arrays, facts["scorer"])
            detector = Detector(scorer, float(facts["threshold"]), str(facts["rule"]))
            parts = {name: tuple(facts[name]) for name in ("mean", "std")}
            settings, classes = facts["preprocessing"], facts["classes"]
            layer, weights = facts["layer"], facts["weights"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no detector of this version: {error!r}") from None
        classifier = unwrap(net)
        if not isinstance(classifier, FeatureClassifier):
            try:
                classifier = FeatureClassifier.from_module(net, head=layer, **parts)
            except ValueError as error:
                raise ValueError(f"{path} is of another network: {error}") from None
        own = {name: tuple(getattr(classifier, name).flatten().tolist()) for name in parts}
        if own != parts:
            raise ValueError(
                f"{path} is of a network with mean {parts['mean']} and std {parts['std']}, this "
                f"one has {own['mean']} and {own['std']}: wrap it with those"
            )
        if fingerprint_of(classifier) != weights:
            raise ValueError(
                f"{path} is of a network with other weights: load the weights first, or fit a "
                "detector to this network"
            )
        if settings is None:
            return cls(classifier, detector, device=device)
        network = Network(classifier, Preprocessing(**settings), tuple(classes), str(path))
        return cls(network, detector, device=device)
