"""Every detector on the same inputs: the tables behind Fig. 3, Fig. 5 and Table 1."""

import pandas as pd

from mistakes_lib.evaluation.detection import detection_reports
from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.evaluation.wording import interval_column, interval_text
from mistakes_lib.scores import registry

__all__ = [
    "auroc_table",
    "describe_scorers",
    "detection_table",
    "fit_scorer",
    "fit_scorers",
    "mark_class_agnostic",
    "readable",
    "score_many",
    "score_pairs",
    "usual_scorers",
]


def usual_scorers(density, num_classes):
    """The paper's detectors and today's usual ones, none of them fitted.

    Args:
        density: a mixture of features with ``n_components``, fitted or not. The mixtures that
            :class:`~mistakes_lib.scores.ZhengHong` has for each class share its number of
            components evenly.
        num_classes: number of classes c.

    Returns:
        dict of name → scorer, those of ``METHODS`` of ``mistakes_lib.scores.registry``; the paper's
        own, a :class:`~mistakes_lib.scores.LogLikelihood`, comes first.

    Example:
        >>> from sklearn.mixture import GaussianMixture
        >>> list(usual_scorers(GaussianMixture(100), num_classes=10))[-3:]
        ['Max softmax', 'Max logit', 'Energy']
    """
    made = [(method, method.make(density, num_classes)) for method in registry.METHODS]
    return {method.label_of(scorer, density): scorer for method, scorer in made}


def fit_scorer(scorer, train, validation, *, labelled=None):
    """Fit a scorer on the split, and the rows of it, that it may see.

    Args:
        scorer: an unfitted :class:`~mistakes_lib.scores.Scorer`.
        train: FeatureSet of the training split, with labels.
        validation: FeatureSet of the validation split, with labels.
        labelled: bool (n,), the rows of ``train`` whose labels may be used: what needs labels sees
            no other rows (semi-supervised training). None: all.

    Returns:
        The scorer.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> from mistakes_lib.scores import Mahalanobis, TemperatureScaling
        >>> train = FeatureSet([[0.0], [1.0], [4.0], [5.0]], [[9.0, 0.0]] * 4, [0, 0, 1, 1])
        >>> validation = FeatureSet([[0.0], [0.5], [1.5]], [[9.0, 0.0]] * 3, [0, 0, 1])
        >>> fit_scorer(Mahalanobis(), train, validation).means_.ravel()  # learns from train
        array([0.5, 4.5])
        >>> calibrated = fit_scorer(TemperatureScaling(), train, validation)  # from validation
        >>> round(calibrated.temperature_, 2)  # 9 / ln 2: of three so confident, two are right
        12.98
    """
    if scorer.fits_on == "validation":
        return scorer.fit(validation)
    known = train if labelled is None else train[labelled]
    return scorer.fit(known if scorer.needs_labels else train)


def fit_scorers(train, validation, density, *, labelled=None):
    """Fit the paper's detectors and today's usual ones, each on the split that it may see.

    Args:
        train: FeatureSet of the training split, with labels.
        validation: FeatureSet of the validation split, with labels.
        density: a mixture of the training features, fitted or not, as for :func:`usual_scorers`.
        labelled: as for :func:`fit_scorer`.

    Returns:
        dict of name → fitted scorer, in the order of :func:`usual_scorers`.

    Example:
        >>> import numpy as np
        >>> from sklearn.mixture import GaussianMixture
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> features = np.random.default_rng(0).normal(size=(60, 3))
        >>> data = FeatureSet(features, features[:, :2], np.arange(60) % 2)
        >>> list(fit_scorers(data, data, GaussianMixture(5)))[:3]
        ['GMM-5', 'Nearest neighbors', 'Mahalanobis']
    """
    return {
        name: fit_scorer(scorer, train, validation, labelled=labelled)
        for name, scorer in usual_scorers(density, train.logits.shape[1]).items()
    }


def describe_scorers(scorers):
    """What each method looks at, for the reader of a table.

    Args:
        scorers: dict of name → scorer.

    Returns:
        DataFrame indexed by method with the columns "reads" and "class-agnostic".

    Example:
        >>> from mistakes_lib.scores import Mahalanobis
        >>> describe_scorers({"Mahalanobis": Mahalanobis()}).loc["Mahalanobis"].tolist()
        ['features', 'no']
    """
    rows = {
        name: {
            "reads": ", ".join(scorer.reads),
            "class-agnostic": "yes" if scorer.class_agnostic else "no",
        }
        for name, scorer in scorers.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def mark_class_agnostic(table, scorers, others=()):
    """Put a dagger behind the methods of a table that look at no classes (§1).

    Args:
        table: DataFrame indexed by method.
        scorers: dict of name → scorer.
        others: names of further class-agnostic methods, such as densities of images.

    Returns:
        A DataFrame that differs in its index only.

    Example:
        >>> from mistakes_lib.scores import Mahalanobis, NearestNeighbors
        >>> table = pd.DataFrame({"AUROC": [0.9, 0.8]}, index=["Mahalanobis", "Nearest neighbors"])
        >>> scorers = {"Mahalanobis": Mahalanobis(), "Nearest neighbors": NearestNeighbors()}
        >>> list(mark_class_agnostic(table, scorers).index)
        ['Mahalanobis', 'Nearest neighbors †']
    """
    agnostic = {name for name, scorer in scorers.items() if scorer.class_agnostic} | set(others)
    return table.rename(index={name: f"{name} †" for name in agnostic})


def score_pairs(scorers, trusted, suspect):
    """Scores of both groups under every scorer, as the figures take them.

    Args:
        scorers: dict of name → fitted scorer.
        trusted: FeatureSet of n inputs.
        suspect: FeatureSet of m inputs that should score lower.

    Returns:
        dict of name → (scores of trusted (n,), scores of suspect (m,)).

    Example:
        >>> import numpy as np
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> from mistakes_lib.scores import MaxLogit
        >>> kept = FeatureSet(np.zeros((2, 1)), [[3.0, 0.0], [4.0, 0.0]])
        >>> strange = FeatureSet(np.zeros((1, 1)), [[1.0, 0.0]])
        >>> score_pairs({"Max logit": MaxLogit().fit(kept)}, kept, strange)
        {'Max logit': (array([3., 4.]), array([1.]))}
    """
    return score_many(scorers, trusted, {"all": suspect})["all"]


def score_many(scorers, trusted, suspects):
    """What :func:`score_pairs` returns for each of several groups; ``trusted`` is scored once.

    Args:
        scorers: dict of name → fitted scorer.
        trusted: FeatureSet of n inputs.
        suspects: dict of key → FeatureSet of inputs that should score lower.

    Returns:
        dict of key → (dict of name → (scores of trusted, scores of suspect)).

    Example:
        >>> import numpy as np
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> from mistakes_lib.scores import MaxLogit
        >>> kept = FeatureSet(np.zeros((2, 1)), [[3.0, 0.0], [4.0, 0.0]])
        >>> suspects = {"noise": FeatureSet(np.zeros((1, 1)), [[1.0, 0.0]])}
        >>> score_many({"Max logit": MaxLogit().fit(kept)}, kept, suspects)["noise"]
        {'Max logit': (array([3., 4.]), array([1.]))}
    """
    own = {name: scorer.score_samples(trusted) for name, scorer in scorers.items()}
    return {
        key: {name: (own[name], scorer.score_samples(batch)) for name, scorer in scorers.items()}
        for key, batch in suspects.items()
    }


def detection_table(pairs, *, confidence=0.95, random_state=None):
    """One row a method: AUROC, AUPR and FPR95, each with its interval.

    Args:
        pairs: what :func:`score_pairs` returns.
        confidence: of the intervals, in (0, 1).
        random_state: seed of the bootstrap.

    Returns:
        DataFrame indexed by method with the columns AUROC, low, high (the interval of the AUROC in
        numbers, for code), AUPR, "AUPR 95 % interval", FPR95, "FPR95 95 % interval" (text, for
        readers; named by ``confidence``). :func:`readable` makes text of low and high as well.

    Example:
        >>> pairs = {"sharp": ([3.0, 4.0, 5.0], [1.0, 2.0]), "blunt": ([1.0, 2.0, 3.0], [1.0, 2.0])}
        >>> table = detection_table(pairs, random_state=0)
        >>> table.loc["blunt", ["AUROC", "AUPR", "FPR95"]].round(2).tolist()
        [0.67, 0.5, 0.67]
    """
    rows, options = {}, {"confidence": confidence, "random_state": random_state}
    for name, report in detection_reports(pairs, **options).items():
        low, high = report.auroc_ci
        rows[name] = {
            "AUROC": report.auroc,
            "low": low,
            "high": high,
            "AUPR": report.aupr,
            interval_column(confidence, "AUPR"): interval_text(*report.aupr_ci),
            "FPR95": report.fpr95,
            interval_column(confidence, "FPR95"): interval_text(*report.fpr95_ci),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def readable(table, *, confidence=0.95):
    """A table for readers: low and high become one text column.

    Args:
        table: DataFrame with the columns AUROC, low and high, as :func:`detection_table` and
            :func:`auroc_table` return it.
        confidence: of the interval, for its heading.

    Returns:
        DataFrame with the column "AUROC 95 % interval" in place of low and high.

    Raises:
        ValueError: the table lacks one of the three columns.

    Example:
        >>> table = pd.DataFrame({"AUROC": [0.65], "low": [0.614], "high": [0.7]}, index=["GMM"])
        >>> readable(table)["AUROC 95 % interval"]["GMM"]
        '0.61 to 0.70'
    """
    missing = {"AUROC", "low", "high"} - set(table.columns)
    if missing:
        raise ValueError(f"table lacks the column {sorted(missing)[0]}: pass an auroc_table")
    texts = [interval_text(*row) for row in zip(table["low"], table["high"], strict=True)]
    shown = table.drop(columns=["low", "high"])
    shown.insert(shown.columns.get_loc("AUROC") + 1, interval_column(confidence, "AUROC"), texts)
    return shown


def auroc_table(pairs, *, confidence=0.95):
    """One row a method: AUROC with its interval, for tables of many settings.

    Args:
        pairs: what :func:`score_pairs` returns.
        confidence: of the intervals, in (0, 1).

    Returns:
        DataFrame indexed by method with the columns AUROC, low, high, as in
        :func:`detection_table`.

    Example:
        >>> pairs = {"sharp": ([3.0, 4.0, 5.0], [1.0, 2.0]), "blunt": ([1.0, 2.0, 3.0], [1.0, 2.0])}
        >>> table = auroc_table(pairs)
        >>> table.AUROC.round(2).to_dict(), bool((table.low < table.high).all())
        ({'sharp': 1.0, 'blunt': 0.67}, True)
    """
    rows = {}
    for name, (trusted, suspect) in pairs.items():
        result = mann_whitney(trusted, suspect, confidence=confidence)
        rows[name] = dict(
            zip(("AUROC", "low", "high"), (result.auroc, *result.auroc_ci), strict=True)
        )
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
