"""How far would an AUROC move with another training, another fit, other test images? (§4)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.utils import check_random_state, check_scalar

from mistakes_lib.evaluation.paired import MARGIN, drawn_images, resampled_aurocs, verdict_word
from mistakes_lib.support.checks import as_array, check_fraction, check_positive

__all__ = ["Spread", "spread_of_auroc"]

TRAININGS, FITS, IMAGES = "trainings", "fits", "test images"


@dataclass(frozen=True)
class Spread:
    """Outcome of :func:`spread_of_auroc`: a mean over trainings and fits, and what it hangs on.

    Attributes:
        mean: AUROC (or difference of two), mean over trainings and fits.
        values: of each training and fit, float64 (T, F); NaN where a training has fewer fits.
        error: standard error of the mean over all that was drawn.
        interval: (low, high) of the mean, cut where no AUROC (or difference) can be.
        verdict: on a difference, by :func:`~mistakes_lib.evaluation.paired.verdict_word`; None for
            one AUROC.
        sources: DataFrame indexed by "trainings", "fits", "test images" with the columns "drawn"
            (how many; of fits, those of the training that has most), "standard deviation" (of one
            training, of one fit; NaN where only one was drawn) and "standard error" (its share in
            that of the mean).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> suspect = np.arange(300) < 100
        >>> fits = rng.normal(size=(5, 300)) - 1.0 * suspect
        >>> spread_of_auroc(fits, suspect).sources["drawn"].tolist()
        [1, 5, 300]
    """

    mean: float
    values: np.ndarray
    error: float
    interval: tuple
    verdict: str | None
    sources: pd.DataFrame

    @property
    def sentence(self):
        """Which of the three sources decides, in words.

        Example:
            >>> suspect = np.arange(40) < 20
            >>> rng = np.random.default_rng(0)
            >>> spread_of_auroc(rng.normal(size=(1, 40)) - suspect, suspect).sentence
            'Only one training and one fit were drawn: their spread is unknown.'
        """
        known = self.sources["standard error"].dropna()
        unknown = [name[:-1] for name in (TRAININGS, FITS) if name not in known]
        if len(unknown) == 2:
            return "Only one training and one fit were drawn: their spread is unknown."
        largest = known.idxmax()
        text = (
            f"The {largest} move the mean most (standard error {known[largest]:.4f}; "
            + ", ".join(f"{name} {known[name]:.4f}" for name in known.index if name != largest)
            + ")."
        )
        return text + "".join(
            f" Only one {name} was drawn: its spread is unknown." for name in unknown
        )


def spread_of_auroc(
    scores,
    suspect,
    *,
    theirs=None,
    images=None,
    margin=MARGIN,
    confidence=0.95,
    resamples=500,
    random_state=0,
):
    """Mean AUROC over trainings and fits, with an interval that holds every kind of spread.

    A hierarchical bootstrap. Each sample draws test images with replacement, the same for all
    trainings and fits, and, independently, trainings with all of their fits (or fits, where there
    is one training). Of k trainings it draws k − 1, because the mean of k − 1 drawn ones varies as
    much as the mean of k new ones (Rao & Wu 1988). The interval is mean ± t × standard error, with
    Satterthwaite's degrees of freedom, since five trainings say little about their own spread.

    Args:
        scores: (T, F, n), of n inputs by F fits of each of T trainings, higher = more trusted; or
            (F, n) for one training; or a list of T arrays (F, n), where F may differ: the trainings
            with two or more fits say how far fits differ.
        suspect: bool (n,), or (T, n) where it depends on the training, as mistakes do.
        theirs: scores of the same inputs by another method, in the shape of scores, or with one
            fit for each training: then all is about the difference scores − theirs.
        images: int (n,), which image each input is a version of; None: each its own.
        margin: see :func:`~mistakes_lib.evaluation.paired.verdict_word`.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap samples.
        random_state: seed of the bootstrap.

    Returns:
        Spread.

    Raises:
        ValueError: shapes disagree, or a training has no trusted or no suspect input.

    Source: Rao & Wu, *Resampling Inference with Complex Survey Data*, 1988; Davison & Hinkley,
    *Bootstrap Methods and their Application*, 1997, §3.8; Satterthwaite, *An Approximate
    Distribution of Estimates of Variance Components*, 1946.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> suspect = np.arange(600) < 200
        >>> images = rng.normal(size=600) - 1.2 * suspect
        >>> fits = images + 0.1 * rng.normal(size=(5, 600))
        >>> spread_of_auroc(fits, suspect).sentence[:42]
        'The test images move the mean most (standa'
    """
    scores, suspect, theirs = _checked(scores, suspect, theirs)
    check_positive(margin, "margin")
    check_fraction(confidence, "confidence")
    check_scalar(resamples, "resamples", Integral, min_val=2)
    rng = check_random_state(random_state)
    n = scores[0].shape[1]
    if images is None:
        images = np.arange(n)
    _, images = np.unique(as_array(images, "images"), return_inverse=True)
    if images.shape != (n,):
        raise ValueError(f"images has {images.size} entries, but there are {n} inputs")

    once = np.ones((1, images.max() + 1))
    values = [area[0] for area in _aurocs(scores, suspect, theirs, once[:, images])]  # T × (F,)
    drawn = [
        _aurocs(scores, suspect, theirs, counts[:, images])
        for counts in drawn_images(images.max() + 1, resamples, rng)
    ]
    samples = [np.concatenate(parts) for parts in zip(*drawn, strict=True)]  # T × (b, F)
    means = np.stack([each.mean(axis=1) for each in samples], axis=1)  # (b, T)
    level, of_level = values[0], samples[0]  # what is drawn beside images: fits …
    if len(values) > 1:  # … or trainings with all of their fits
        level, of_level = np.array([each.mean() for each in values]), means
    k = len(level)
    picks = rng.randint(k, size=(len(means), max(1, k - 1))) if k > 1 else np.zeros((1, 1), int)
    picked = np.take_along_axis(of_level, np.broadcast_to(picks, (len(means), picks.shape[1])), 1)
    error = np.nanstd(picked.mean(axis=1), ddof=1)

    sources = _sources(values, np.nanstd(means.mean(axis=1), ddof=1), images.max() + 1)
    freedom = np.inf
    if k > 1 and level.var(ddof=1) > 0:
        freedom = (k - 1) * (error**2 / (level.var(ddof=1) / k)) ** 2
    half = student.isf((1 - confidence) / 2, max(freedom, 1)) * error
    mean = float(np.mean([each.mean() for each in values]))
    least = 0.0 if theirs is None else -1.0  # no AUROC, and no difference of two, lies beyond
    low, high = max(least, float(mean - half)), min(1.0, float(mean + half))
    word = None if theirs is None else verdict_word(low, high, margin=margin)
    table = np.full((len(values), max(map(len, values))), np.nan)
    for row, each in zip(table, values, strict=True):
        row[: len(each)] = each
    return Spread(mean, table, float(error), (low, high), word, sources)


def _sources(values, image_error, n_images):
    """The table of the three sources, from an analysis of variance of T × (F,) AUROCs."""
    fits, trainings = np.array([len(each) for each in values]), len(values)
    fit = training = np.nan
    if (fits > 1).any():  # pooled over the trainings that have several
        within = sum(((each - each.mean()) ** 2).sum() for each in values)
        fit = np.sqrt(within / (fits - 1).sum())
    if trainings > 1:  # what the fits do not explain of the spread of the trainings' means
        explained = 0.0 if np.isnan(fit) else fit**2 * (1 / fits).mean()
        means = np.array([each.mean() for each in values])
        training = np.sqrt(max(means.var(ddof=1) - explained, 0.0))
    rows = {
        TRAININGS: (trainings, training, training / np.sqrt(trainings)),
        FITS: (fits.max(), fit, fit * np.sqrt((1 / fits).sum()) / trainings),
        IMAGES: (n_images, np.nan, image_error),
    }
    columns = ["drawn", "standard deviation", "standard error"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _aurocs(scores, suspect, theirs, counts):
    """AUROC, or its difference, of each training, bootstrap sample and fit: T × (b, F)."""
    result = []
    for training, flags in enumerate(suspect):
        of_trusted, of_suspect = counts[:, ~flags], counts[:, flags]

        def areas(fits, flags=flags, of_trusted=of_trusted, of_suspect=of_suspect):
            columns = (resampled_aurocs(x[~flags], x[flags], of_trusted, of_suspect) for x in fits)
            return np.stack(list(columns), axis=1)

        found = areas(scores[training])
        result.append(found if theirs is None else found - areas(theirs[training]))
    return result


def _checked(scores, suspect, theirs):
    """scores T × (F, n), suspect (T, n), theirs T × (F or 1, n) or None."""
    scores = _by_training(scores, "scores")
    flags = as_array(suspect, "suspect")
    if not np.isin(flags, (0, 1)).all() or flags.ndim not in (1, 2):
        raise ValueError("suspect must be true or false for each input, (n,) or (T, n)")
    try:
        suspect = np.broadcast_to(flags.astype(bool), (len(scores), scores[0].shape[1]))
    except ValueError as error:
        raise ValueError(f"scores and suspect do not fit together: {error}") from None
    if theirs is not None:
        theirs = _by_training(theirs, "theirs")
        shapes = [(len(a), a.shape[1]) for a in scores], [(len(a), a.shape[1]) for a in theirs]
        wanted = [((1, n), (fits, n)) for fits, n in shapes[0]]
        fit = len(theirs) == len(scores)
        if not fit or any(s not in w for s, w in zip(shapes[1], wanted, strict=True)):
            raise ValueError(
                f"scores and theirs do not fit together: (fits, inputs) {shapes[0]} and {shapes[1]}"
            )
    for training, row in enumerate(suspect):
        if row.all() or not row.any():
            missing = "trusted" if row.all() else "suspect"
            raise ValueError(f"training {training} has no {missing} input")
    return scores, suspect, theirs


def _by_training(scores, name):
    """A list of the trainings' scores, (F, n) each, of equally many inputs."""
    ragged = isinstance(scores, list | tuple) and all(np.ndim(each) == 2 for each in scores)
    if not ragged:
        scores = as_array(scores, name)
        if scores.ndim not in (2, 3):
            raise ValueError(f"{name} must have shape (T, F, n) or (F, n), got {scores.shape}")
        scores = scores[None] if scores.ndim == 2 else scores
    scores = [as_array(each, name) for each in scores]
    if not scores:
        raise ValueError(f"{name} must hold a fit of one training at least")
    if len({each.shape[1] for each in scores}) > 1:
        raise ValueError(
            f"{name}: the trainings have different numbers of inputs: "
            f"{[each.shape[1] for each in scores]}"
        )
    return scores
