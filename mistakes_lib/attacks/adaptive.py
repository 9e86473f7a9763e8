"""Attacks by one who knows of the detector."""

from numbers import Real

import numpy as np
import torch
from sklearn.utils import check_scalar
from torch.nn.functional import cross_entropy

from mistakes_lib.attacks.gradient import _ascend
from mistakes_lib.support.checks import as_array, as_labels

__all__ = ["adaptive_bim", "feature_match", "hinge_attack", "targets_elsewhere"]


def adaptive_bim(
    classifier,
    density,
    images,
    labels,
    eps,
    *,
    weight,
    step=None,
    iterations=10,
    batch_size=None,
    device="auto",
    progress=False,
):
    """Fool the classifier and its detector at once: BIM on loss and feature log-likelihood.

    The paper's attacks know nothing of the detector. This one raises L(x, y) + w · log p(f(x)) / D
    inside the same ball, so that its features become likely as well; what is left of the detection
    is what a detector is worth against an attacker who knows it (Carlini & Wagner, *Adversarial
    Examples Are Not Easily Detected*, 2017, https://arxiv.org/abs/1705.07263). A likelihood with
    narrow peaks needs many small steps.

    Args:
        classifier, images, labels, eps, batch_size, device, progress: see
            :func:`~mistakes_lib.attacks.gradient.fgsm`.
        density: a fitted density of the classifier's features with ``log_prob``, such as
            :class:`~mistakes_lib.density.DiagonalGMM`.
        weight: w ≥ 0, nats of loss that one nat per dimension of log-likelihood is worth; 0 is
            ``bim``.
        step, iterations: see :func:`~mistakes_lib.attacks.gradient.bim`.

    Returns:
        float32 (n, 3, h, w), see :func:`~mistakes_lib.attacks.gradient.fgsm`.

    Raises:
        ValueError: as :func:`~mistakes_lib.attacks.gradient.bim`; or ``weight`` is negative.
        TypeError: ``density`` has no differentiable ``log_prob``.

    Example:
        >>> from torch import nn
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> from mistakes_lib.density import DiagonalGMM
        >>> classifier = FeatureClassifier(nn.Flatten(), nn.Linear(3, 2))
        >>> nn.init.zeros_(classifier.head.weight).shape  # the likelihood alone is left to climb
        torch.Size([2, 3])
        >>> density = DiagonalGMM(1).fit([[0.0, 0.0, 1.0], [0.2, 0.2, 1.0]])
        >>> gray = np.full((1, 3, 1, 1), 0.5)
        >>> attacked = adaptive_bim(classifier, density, gray, [0], 0.1, weight=1, device="cpu")
        >>> attacked.ravel().round(2)
        array([0.4, 0.4, 0.6], dtype=float32)
    """
    check_scalar(weight, "weight", Real, min_val=0)
    _check_density(density)

    def objective(x, y, rows):
        features = classifier.features(x)  # (n, d)
        loss = cross_entropy(classifier.head(features), y, reduction="sum")
        return loss + weight * density.log_prob(features).sum() / features.shape[1]

    return _ascend(
        classifier,
        images,
        labels,
        eps=eps,
        step=step,
        iterations=iterations,
        batch_size=batch_size,
        device=device,
        progress=progress,
        objective=objective,
    )


def hinge_attack(
    classifier,
    density,
    images,
    labels,
    eps,
    *,
    threshold,
    weight=0.3,
    margin=2.0,
    step=None,
    iterations=100,
    batch_size=None,
    device="auto",
    progress=False,
):
    """Climb only until the detector is passed: the attack of one who knows its threshold.

    :func:`adaptive_bim` goes on climbing a likelihood that is high enough, at the cost of the
    classifier's error. This one raises

        − max(0, κ + z_y − max_{j≠y} z_j) − w · max(0, T − log p(f(x))) / D

    which is 0, its maximum, as soon as the prediction is wrong by κ and the likelihood reaches the
    threshold T (the hinge of Carlini & Wagner 2017). Choose w on other images than those that it is
    judged on. What it finds is what *this attack* finds, no bound on what others could.

    Args:
        classifier, images, labels, eps, batch_size, device, progress: see
            :func:`~mistakes_lib.attacks.gradient.fgsm`.
        density: as for :func:`adaptive_bim`.
        threshold: T in nats: the detector flags features with a log-likelihood below.
        weight: w ≥ 0, units of logit that one nat per dimension is worth. Between two classes
            features are unlikely: a large w holds an image in its own class.
        margin: κ ≥ 0, by how much the wrong class is to win.
        step, iterations: see :func:`~mistakes_lib.attacks.gradient.bim`.

    Returns:
        float32 (n, 3, h, w), see :func:`~mistakes_lib.attacks.gradient.fgsm`.

    Raises:
        ValueError: as :func:`~mistakes_lib.attacks.gradient.bim`; or ``weight`` or ``margin`` is
            negative, or ``threshold`` is not finite.
        TypeError: ``density`` has no differentiable ``log_prob``.

    Source: Carlini & Wagner, *Towards Evaluating the Robustness of Neural Networks*, 2017,
    https://arxiv.org/abs/1608.04644

    Example:
        >>> from torch import nn
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> from mistakes_lib.density import DiagonalGMM
        >>> classifier = FeatureClassifier(nn.Flatten(), nn.Linear(3, 2))
        >>> nn.init.zeros_(classifier.head.weight).shape  # the likelihood alone is left to climb
        torch.Size([2, 3])
        >>> density = DiagonalGMM(1).fit([[0.0, 0.0, 1.0], [0.2, 0.2, 1.0]])
        >>> gray = np.full((1, 3, 1, 1), 0.5)
        >>> options = {"threshold": 0.0, "iterations": 10, "device": "cpu"}
        >>> hinge_attack(classifier, density, gray, [0], 0.1, **options).ravel().round(2)
        array([0.4, 0.4, 0.6], dtype=float32)
    """
    check_scalar(weight, "weight", Real, min_val=0)
    check_scalar(margin, "margin", Real, min_val=0)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number of nats, got {threshold!r}")
    _check_density(density)

    def objective(x, y, rows):
        features = classifier.features(x)  # (n, d)
        logits = classifier.head(features)
        own = logits.gather(1, y[:, None])[:, 0]
        others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        missing = (threshold - density.log_prob(features)).clamp(min=0) / features.shape[1]
        return -((margin + own - others).clamp(min=0) + weight * missing).sum()

    return _ascend(
        classifier,
        images,
        labels,
        eps=eps,
        step=step,
        iterations=iterations,
        batch_size=batch_size,
        device=device,
        progress=progress,
        objective=objective,
        has_goal=True,
    )


def feature_match(
    classifier,
    images,
    labels,
    targets,
    eps,
    *,
    step=None,
    iterations=100,
    batch_size=None,
    device="auto",
    progress=False,
):
    """Give an image the features of a clean image of another class (Sabour et al. 2016).

    Whoever looks at features only, the paper's detector among them, cannot tell the result from
    that other image where the match succeeds. It lowers ‖f(x') − t‖² inside the ball and never
    asks the detector.

    Args:
        classifier, images, labels, eps, batch_size, device, progress: see
            :func:`~mistakes_lib.attacks.gradient.fgsm`.
        targets: features t to be matched, (n, d), such as :func:`targets_elsewhere` chooses.
        step, iterations: see :func:`~mistakes_lib.attacks.gradient.bim`.

    Returns:
        float32 (n, 3, h, w), see :func:`~mistakes_lib.attacks.gradient.fgsm`.

    Raises:
        ValueError: as :func:`~mistakes_lib.attacks.gradient.bim`; or ``targets`` has another number
            of rows than the images.

    Source: Sabour et al., *Adversarial Manipulation of Deep Representations*, 2016,
    https://arxiv.org/abs/1511.05122

    Example:
        >>> from torch import nn
        >>> from mistakes_lib.classifiers import FeatureClassifier
        >>> classifier = FeatureClassifier(nn.Flatten(), nn.Linear(3, 2))
        >>> gray, wanted = np.full((1, 3, 1, 1), 0.5), [[0.1, 0.9, 0.55]]
        >>> matched = feature_match(classifier, gray, [0], wanted, 0.2, step=0.05, device="cpu")
        >>> matched.ravel().round(2)
        array([0.3 , 0.7 , 0.55], dtype=float32)
    """
    targets = torch.from_numpy(as_array(targets, "targets", dtype=np.float32))
    if targets.ndim != 2 or len(targets) != len(images):
        raise ValueError(
            f"targets must have one row of features for each of {len(images)} images, "
            f"got shape {tuple(targets.shape)}"
        )

    def objective(x, y, rows):
        return -(classifier.features(x) - targets[rows].to(x.device)).square().sum()

    return _ascend(
        classifier,
        images,
        labels,
        eps=eps,
        step=step,
        iterations=iterations,
        batch_size=batch_size,
        device=device,
        progress=progress,
        objective=objective,
        has_goal=True,
    )


def targets_elsewhere(features, labels, pool, predictions):
    """For each image, the nearest features that a clean image of another class has.

    Args:
        features: of the images to be attacked, (n, d).
        labels: their true classes, int (n,).
        pool: features of clean images, (m, d), other images than those.
        predictions: the classes that the network gives those, int (m,).

    Returns:
        float64 (n, d), rows of ``pool``.

    Raises:
        ValueError: shapes disagree, or the pool holds no other class for some label.

    Example:
        >>> targets_elsewhere([[0.0, 0.0]], [1], [[0.1, 0.0], [3.0, 0.0], [2.0, 2.0]], [1, 0, 2])
        array([[2., 2.]])
    """
    features, pool = as_array(features, "features"), as_array(pool, "pool")
    if features.ndim != 2 or pool.ndim != 2 or features.shape[1] != pool.shape[1]:
        raise ValueError(
            f"features and pool must have the same columns, got {features.shape} and {pool.shape}"
        )
    labels = as_labels(labels, "labels", length=len(features))
    predictions = as_labels(predictions, "predictions", length=len(pool))
    chosen = np.empty_like(features)
    for label in np.unique(labels):
        rows, elsewhere = labels == label, pool[predictions != label]
        if not len(elsewhere):
            raise ValueError(f"every image of the pool is predicted as class {label}: take others")
        # ‖f − p‖² without ‖f‖², which does not change the order: (rows, pool)
        distance = (elsewhere**2).sum(axis=1) - 2 * features[rows] @ elsewhere.T
        chosen[rows] = elsewhere[distance.argmin(axis=1)]
    return chosen


def _check_density(density):
    if not hasattr(density, "log_prob"):
        raise TypeError(
            f"{type(density).__name__} has no log_prob, so its likelihood has no gradient: "
            "use a DiagonalGMM, FeatureVAE or FeatureMAF"
        )
