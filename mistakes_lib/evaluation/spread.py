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
        values: of each training and fit, float64 (T, F).
        error: standard error of the mean over all that was drawn.
        interval: (low, high) of the mean, cut where no AUROC (or difference) can be.
        verdict: on a difference, by :func:`~mistakes_lib.evaluation.paired.verdict_word`; None for
            one AUROC.
        sources: DataFrame indexed by "trainings", "fits", "test images" with the columns "drawn"
            (how many), "standard deviation" (of one training, of one fit; NaN where only one was
            drawn) and "standard error" (its share in that of the mean).

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
            (F, n) for one training.
        suspect: bool (n,), or (T, n) where it depends on the training, as mistakes do.
        theirs: scores of the same inputs by another method, (T, F, n), (T, 1, n), or (F, n): then
            all is about the difference scores − theirs.
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
    if images is None:
        images = np.arange(scores.shape[2])
    _, images = np.unique(as_array(images, "images"), return_inverse=True)
    if images.shape != scores.shape[2:]:
        raise ValueError(
            f"images has {images.size} entries, but there are {scores.shape[2]} inputs"
        )

    once = np.ones((1, images.max() + 1))
    values = _aurocs(scores, suspect, theirs, once[:, images])[0]  # (T, F)
    drawn = drawn_images(images.max() + 1, resamples, rng)
    samples = np.concatenate([_aurocs(scores, suspect, theirs, c[:, images]) for c in drawn])
    level = values.mean(axis=1) if len(values) > 1 else values[0]  # what is drawn beside images
    of_level = samples.mean(axis=2) if len(values) > 1 else samples[:, 0]  # (b, k)
    k = len(level)
    picks = rng.randint(k, size=(len(samples), max(1, k - 1))) if k > 1 else np.zeros((1, 1), int)
    means = np.take_along_axis(of_level, np.broadcast_to(picks, (len(samples), picks.shape[1])), 1)
    error = np.nanstd(means.mean(axis=1), ddof=1)

    sources = _sources(values, np.nanstd(samples.mean(axis=(1, 2)), ddof=1), images.max() + 1)
    freedom = np.inf
    if k > 1 and level.var(ddof=1) > 0:
        freedom = (k - 1) * (error**2 / (level.var(ddof=1) / k)) ** 2
    half = student.isf((1 - confidence) / 2, max(freedom, 1)) * error
    mean = float(values.mean())
    least = 0.0 if theirs is None else -1.0  # no AUROC, and no difference of two, lies beyond
    low, high = max(least, float(mean - half)), min(1.0, float(mean + half))
    word = None if theirs is None else verdict_word(low, high, margin=margin)
    return Spread(mean, values, float(error), (low, high), word, sources)


def _sources(values, image_error, n_images):
    """The table of the three sources, from an analysis of variance of (T, F) AUROCs."""
    trainings, fits = values.shape
    fit = np.sqrt(values.var(axis=1, ddof=1).mean()) if fits > 1 else np.nan
    training = np.nan
    if trainings > 1:  # what the fits do not explain of the spread of the trainings' means
        explained = 0.0 if fits == 1 else fit**2 / fits
        training = np.sqrt(max(values.mean(axis=1).var(ddof=1) - explained, 0.0))
    rows = {
        TRAININGS: (trainings, training, training / np.sqrt(trainings)),
        FITS: (fits, fit, fit / np.sqrt(trainings * fits)),
        IMAGES: (n_images, np.nan, image_error),
    }
    columns = ["drawn", "standard deviation", "standard error"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _aurocs(scores, suspect, theirs, counts):
    """AUROC, or its difference, of each bootstrap sample, training and fit: (b, T, F)."""
    result = np.empty((len(counts), *scores.shape[:2]))
    for training, flags in enumerate(suspect):
        of_trusted, of_suspect = counts[:, ~flags], counts[:, flags]
        for fit in range(scores.shape[1]):
            rows = [scores[training, fit]]
            rows += [] if theirs is None else [theirs[training, fit]]
            found = [resampled_aurocs(r[~flags], r[flags], of_trusted, of_suspect) for r in rows]
            result[:, training, fit] = found[0] - (0 if theirs is None else found[1])
    return result


def _checked(scores, suspect, theirs):
    """scores (T, F, n), suspect (T, n), theirs (T, F, n) or None."""
    scores = as_array(scores, "scores")
    scores = scores[None] if scores.ndim == 2 else scores
    if scores.ndim != 3:
        raise ValueError(f"scores must have shape (T, F, n) or (F, n), got {scores.shape}")
    flags = as_array(suspect, "suspect")
    if not np.isin(flags, (0, 1)).all() or flags.ndim not in (1, 2):
        raise ValueError("suspect must be true or false for each input, (n,) or (T, n)")
    try:
        suspect = np.broadcast_to(flags.astype(bool), (len(scores), scores.shape[2]))
        if theirs is not None:
            theirs = as_array(theirs, "theirs")
            theirs = theirs[None] if theirs.ndim == 2 else theirs
            theirs = np.broadcast_to(theirs, scores.shape)
    except ValueError as error:
        raise ValueError(f"scores, suspect and theirs do not fit together: {error}") from None
    for training, row in enumerate(suspect):
        if row.all() or not row.any():
            missing = "trusted" if row.all() else "suspect"
            raise ValueError(f"training {training} has no {missing} input")
    return scores, suspect, theirs
