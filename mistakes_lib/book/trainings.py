"""Several trainings of one network: what varies when only the seed does ("5 independent runs")."""

import numpy as np
import pandas as pd

from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.evaluation.spread import spread_of_auroc
from mistakes_lib.evaluation.wording import interval_text
from mistakes_lib.scores import LogLikelihood, TemperatureScaling

__all__ = [
    "readable_trainings",
    "trainings_methods",
    "trainings_sentence",
    "trainings_spread",
    "trainings_table",
]


def trainings_table(runs, kind, n_components=1000, *, resamples=300):
    """Density and calibrated confidence, mean ± standard deviation over trainings (App. C).

    "All reported results give the mean and standard deviation over 5 independent runs."

    Args:
        runs: list of :class:`~mistakes_lib.runs.Run` that differ in their seed alone, two or more.
        kind: "attacks" or "strange".
        n_components: of the mixture.
        resamples: bootstrap samples behind the interval.

    Returns:
        DataFrame with a row for each failure, "FGSM 8/255", … or "svhn", …, and the columns
        "density", "density sd", "confidence", "confidence sd" (AUROC: mean and standard deviation
        over the trainings), "difference" (density − confidence), "low", "high" (95 % interval that
        holds the spread of trainings and of test images), "verdict" and "largest" (which of the two
        moves the difference most).

    Raises:
        ValueError: fewer than two runs, they differ in more than the seed, or an unknown kind.

    Example:
        >>> trainings_table([], "attacks")
        Traceback (most recent call last):
            ...
        ValueError: the spread of trainings needs two or more, got 0 runs
    """
    _check(runs)
    if kind not in ("attacks", "strange"):
        raise ValueError(f"kind must be 'attacks' or 'strange', got {kind!r}")
    scorers = [_scorers(run, n_components) for run in runs]
    tests = [run.features("test") for run in runs]
    rows = {}
    if kind == "strange":
        for name in runs[0].ood_sets:
            sets = [run.ood(name) for run in runs]
            rows[name] = _against(scorers, tests, sets, None, resamples)
    else:
        attacked = [test[run.attacked] for test, run in zip(tests, runs, strict=True)]
        for name in runs[0].experiment.attacks:
            for level in runs[0].eps_levels:
                sets = [run.attack(name, level / 255) for run in runs]
                images = np.tile(np.arange(len(sets[0])), 2)  # an image and its attacked version
                title = f"{name.upper()} {level:g}/255"
                rows[title] = _against(scorers, attacked, sets, images, resamples)
    return pd.DataFrame.from_dict(rows, orient="index")


def trainings_methods(runs, n_components=100, *, resamples=300):
    """Every method against the test mistakes, mean ± standard deviation over trainings (App. C).

    Args:
        runs: as for :func:`trainings_table`.
        n_components: of the mixture.
        resamples: bootstrap samples behind the interval.

    Returns:
        DataFrame with a row for each method that every one of the runs has, the mixture first, and
        the columns "AUROC" and "sd" (mean and standard deviation over the trainings), "difference"
        (density − method), "low", "high", "verdict" and "largest" as in :func:`trainings_table`;
        the mixture itself has no difference.

    Raises:
        ValueError: fewer than two runs, or they differ in more than the seed.

    Example:
        >>> from mistakes_lib import published_runs
        >>> trainings_methods(published_runs()[:1])
        Traceback (most recent call last):
            ...
        ValueError: the spread of trainings needs two or more, got 1 runs
    """
    _check(runs)
    tests = [run.features("test") for run in runs]
    wrong = np.stack([~test.correct for test in tests])
    found = [run.scorers(n_components) for run in runs]
    shared = [name for name in found[0] if all(name in scorers for scorers in found)]
    scores = {
        name: _scores([scorers[name] for scorers in found], tests) for name in shared
    }  # (T, 1, n) each
    ours, rows = scores[shared[0]], {}
    for name, theirs in scores.items():
        rows[name] = dict(zip(("AUROC", "sd"), _mean_and_deviation(theirs, wrong), strict=True))
        if name != shared[0]:
            rows[name] |= _difference(ours, theirs, wrong, resamples=resamples)
    return pd.DataFrame.from_dict(rows, orient="index")


def trainings_spread(runs, n_components=100, *, resamples=300):
    """How far the density's AUROC for mistakes moves with training, fit and test images.

    Trainings that hold several fits of the mixture say how far a fit moves it: see
    :meth:`~mistakes_lib.runs.Run.fitted_seeds`.

    Args:
        runs: as for :func:`trainings_table`.
        n_components: of the mixture.
        resamples: bootstrap samples behind the interval.

    Returns:
        :class:`~mistakes_lib.evaluation.spread.Spread`.

    Raises:
        ValueError: fewer than two runs, or they differ in more than the seed.

    Example:
        >>> from mistakes_lib import published_runs
        >>> trainings_spread(published_runs()[:1])
        Traceback (most recent call last):
            ...
        ValueError: the spread of trainings needs two or more, got 1 runs
    """
    _check(runs)
    scores, tests = [], [run.features("test") for run in runs]
    for run, test in zip(runs, tests, strict=True):
        seeds = run.fitted_seeds(n_components) or [run.experiment.seed]
        fits = [run.density(n_components, seed=seed) for seed in seeds]
        scores.append(np.stack([each.score_samples(test.features) for each in fits]))
    wrong = np.stack([~test.correct for test in tests])
    return spread_of_auroc(scores, wrong, resamples=resamples)


def readable_trainings(table):
    """A table of trainings to be read: "0.640 ± 0.004", "−0.241 to −0.215".

    Args:
        table: what :func:`trainings_table` or :func:`trainings_methods` returns.

    Returns:
        DataFrame of text with the columns "density" and "confidence", or "AUROC"; "density − it" or
        "density − confidence", the interval of the difference; and "density …", the verdict.

    Example:
        >>> columns = {"AUROC": [0.64], "sd": [0.0042], "low": [-0.241], "high": [-0.2152]}
        >>> table = pd.DataFrame(columns | {"verdict": ["loses"]}, index=["Energy"])
        >>> readable_trainings(table).loc["Energy"].tolist()
        ['0.640 ± 0.004', '−0.241 to −0.215', 'loses']
    """
    deviations = {"density": "density sd", "confidence": "confidence sd", "AUROC": "sd"}
    shown = pd.DataFrame(index=table.index)
    for name, deviation in deviations.items():
        if name in table:
            pairs = zip(table[name], table[deviation], strict=True)
            shown[name] = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in pairs]
    intervals = zip(table["low"], table["high"], strict=True)
    shown["density − it" if "AUROC" in table else "density − confidence"] = [
        "–" if np.isnan(low) else interval_text(low, high, 3) for low, high in intervals
    ]
    shown["density …"] = table["verdict"].fillna("–")
    return shown


def trainings_sentence(table):
    """How far trainings differ, and which source of spread decides, in words.

    Args:
        table: what :func:`trainings_table` returns; its rows may have got other names.

    Example:
        >>> columns = {"density sd": [0.01, 0.03], "largest": ["trainings", "test images"]}
        >>> print(trainings_sentence(pd.DataFrame(columns, index=["noise", "svhn"])))
        From one training to the next the density's AUROC moves by 0.010 (noise) to 0.030 (svhn). \
The trainings move the difference most in 1 of 2 settings, the test images in 1.
    """
    deviation = table["density sd"]
    counts = table["largest"].value_counts()
    return (
        "From one training to the next the density's AUROC moves by "
        f"{deviation.min():.3f} ({deviation.idxmin()}) to {deviation.max():.3f} "
        f"({deviation.idxmax()}). The trainings move the difference most in "
        f"{counts.get('trainings', 0)} of {len(table)} settings, the test images in "
        f"{counts.get('test images', 0)}."
    )


def _check(runs):
    if len(runs) < 2:
        raise ValueError(f"the spread of trainings needs two or more, got {len(runs)} runs")
    # A VAE and a MAF of one training's features change nothing of what is compared here.
    apart = {"seed": None, "deep_densities": None}
    settings = [run.experiment.to_dict() | apart for run in runs]
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
    """One method's scores of each training's batch: (T, 1, n)."""
    pairs = zip(scorers, batches, strict=True)
    return np.array([[scorer.score_samples(batch)] for scorer, batch in pairs])


def _against(scorers, trusted, suspect, images, resamples):
    """A row for inputs of another kind than the trusted ones."""
    methods = list(zip(*scorers, strict=True))  # density, confidence: T each
    usual, strange = (
        [_scores(each, batches) for each in methods] for batches in (trusted, suspect)
    )
    density, confidence = (
        np.concatenate(pair, axis=2) for pair in zip(usual, strange, strict=True)
    )
    flags = np.arange(density.shape[2]) >= usual[0].shape[2]
    row = {}
    for name, scores in (("density", density), ("confidence", confidence)):
        mean, deviation = _mean_and_deviation(scores, flags)
        row |= {name: mean, f"{name} sd": deviation}
    return row | _difference(density, confidence, flags, images=images, resamples=resamples)


def _mean_and_deviation(scores, suspect):
    """AUROC of scores (T, 1, n): mean and standard deviation over the trainings."""
    flags = np.broadcast_to(suspect, (len(scores), scores.shape[2]))
    pairs = zip(scores[:, 0], flags, strict=True)
    areas = [mann_whitney(values[~wrong], values[wrong]).auroc for values, wrong in pairs]
    return np.mean(areas), np.std(areas, ddof=1)


def _difference(ours, theirs, suspect, *, images=None, resamples):
    """The difference of two methods' AUROCs, its interval, verdict, and what moves it most."""
    gap = spread_of_auroc(ours, suspect, theirs=theirs, images=images, resamples=resamples)
    low, high = gap.interval
    errors = gap.sources["standard error"].drop("fits")
    found = {"difference": gap.mean, "low": low, "high": high, "verdict": gap.verdict}
    return found | {"largest": errors.idxmax()}
