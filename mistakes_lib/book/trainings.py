"""Several trainings of one network: what varies when only the seed does ("5 independent runs")."""

import numpy as np
import pandas as pd

from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.evaluation.spread import spread_of_auroc
from mistakes_lib.scores import LogLikelihood, TemperatureScaling

__all__ = ["trainings_sentence", "trainings_table"]


def trainings_table(runs, n_components=100, *, n_components_large=1000, resamples=300):
    """Density and calibrated confidence, mean ± standard deviation over trainings (App. C).

    "All reported results give the mean and standard deviation over 5 independent runs."

    Args:
        runs: list of :class:`~mistakes_lib.runs.Run` that differ in their seed alone, two or more.
        n_components: of the mixture that detects mistakes.
        n_components_large: of the one against attacks and strange images.
        resamples: bootstrap samples behind the interval.

    Returns:
        DataFrame with a row for each failure, "mistakes", "FGSM 8/255", "svhn", …, and the columns
        "density", "density sd", "confidence", "confidence sd" (AUROC: mean and standard deviation
        over the trainings), "difference" (density − confidence), "low", "high" (95 % interval that
        holds the spread of trainings and of test images), "verdict" and "largest" (which of the two
        moves the difference most).

    Raises:
        ValueError: fewer than two runs, or they differ in more than the seed.

    Example:
        >>> trainings_table([])
        Traceback (most recent call last):
            ...
        ValueError: the spread of trainings needs two or more, got 0 runs
    """
    _check(runs)
    small = [_scorers(run, n_components) for run in runs]
    large = [_scorers(run, n_components_large) for run in runs]
    tests = [run.features("test") for run in runs]
    wrong = np.stack([~test.correct for test in tests])
    rows = {"mistakes": _row(_scores(small, tests), wrong, resamples=resamples)}
    attacked = [test[run.attacked] for test, run in zip(tests, runs, strict=True)]
    for name in runs[0].experiment.attacks:
        for level in runs[0].eps_levels:
            sets = [run.attack(name, level / 255) for run in runs]
            images = np.tile(np.arange(len(sets[0])), 2)  # an image and its attacked version
            title = f"{name.upper()} {level:g}/255"
            rows[title] = _against(large, attacked, sets, images, resamples)
    for name in runs[0].ood_sets:
        sets = [run.ood(name) for run in runs]
        rows[name] = _against(large, tests, sets, None, resamples)
    return pd.DataFrame.from_dict(rows, orient="index")


def trainings_sentence(table):
    """How far trainings differ, and which source of spread decides, in words.

    Args:
        table: what :func:`trainings_table` returns; its rows may have got other names.

    Example:
        >>> columns = {"density sd": [0.01, 0.03], "largest": ["trainings", "test images"]}
        >>> rows = ["mistakes", "svhn"]
        >>> print(trainings_sentence(pd.DataFrame(columns, index=rows)))
        From one training to the next the density's AUROC moves by 0.010 for mistakes and by at \
most 0.030 (svhn). The trainings move the difference most in 1 of 2 settings, the test images in 1.
    """
    worst = table["density sd"].idxmax()
    counts = table["largest"].value_counts()
    return (
        "From one training to the next the density's AUROC moves by "
        f"{table['density sd'].iloc[0]:.3f} for mistakes and by at most "
        f"{table.loc[worst, 'density sd']:.3f} ({worst}). The trainings move the difference most "
        f"in {counts.get('trainings', 0)} of {len(table)} settings, the test images in "
        f"{counts.get('test images', 0)}."
    )


def _check(runs):
    if len(runs) < 2:
        raise ValueError(f"the spread of trainings needs two or more, got {len(runs)} runs")
    settings = [run.experiment.to_dict() | {"seed": None} for run in runs]
    for run, other in zip(runs, settings, strict=True):
        if other != settings[0]:
            different = [name for name in other if other[name] != settings[0].get(name)]
            raise ValueError(
                f"{run.name} differs from {runs[0].name} in more than its seed: "
                f"{', '.join(different)}"
            )


def _scorers(run, n_components):
    """The density and the calibrated confidence of one training."""
    density = LogLikelihood(run.density(n_components))
    validation = run.features("validation")
    return density.fit(validation), TemperatureScaling().fit(validation)


def _scores(scorers, batches):
    """Both methods' scores of each training's batch: two arrays (T, 1, n)."""
    pairs = zip(scorers, batches, strict=True)
    found = np.array([[one.score_samples(batch) for one in both] for both, batch in pairs])
    return found[:, :1], found[:, 1:]


def _against(scorers, trusted, suspect, images, resamples):
    """A row for inputs of another kind than the trusted ones."""
    usual, strange = _scores(scorers, trusted), _scores(scorers, suspect)
    both = [np.concatenate(pair, axis=2) for pair in zip(usual, strange, strict=True)]
    flags = np.arange(both[0].shape[2]) >= usual[0].shape[2]
    return _row(both, flags, images=images, resamples=resamples)


def _row(scores, suspect, *, images=None, resamples):
    density, confidence = scores
    gap = spread_of_auroc(density, suspect, theirs=confidence, images=images, resamples=resamples)
    flags = np.broadcast_to(suspect, (len(density), density.shape[2]))
    row = {}
    for name, each in (("density", density[:, 0]), ("confidence", confidence[:, 0])):
        pairs = zip(each, flags, strict=True)
        areas = [mann_whitney(values[~wrong], values[wrong]).auroc for values, wrong in pairs]
        row |= {name: np.mean(areas), f"{name} sd": np.std(areas, ddof=1)}
    errors = gap.sources["standard error"].drop("fits")
    low, high = gap.interval
    found = {"difference": gap.mean, "low": low, "high": high, "verdict": gap.verdict}
    return row | found | {"largest": errors.idxmax()}
