"""A report on somebody's classifier: does the feature likelihood say where it fails?"""

from dataclasses import dataclass

import numpy as np

from mistakes_lib.detector import (
    Detector,
    Watched,
    guarantee,
    method_key,
    usual_components,
    usual_mixture,
)
from mistakes_lib.evaluation.calibration import ReliabilityBins, expected_calibration_error
from mistakes_lib.evaluation.hypothesis import mann_whitney
from mistakes_lib.evaluation.risk import risk_coverage
from mistakes_lib.evaluation.tables import detection_table, fit_scorer, usual_scorers
from mistakes_lib.evaluation.thresholds import conformal_threshold
from mistakes_lib.report.advice import advise
from mistakes_lib.report.alarms import find_alarms
from mistakes_lib.scores import Combined, LogLikelihood, TemperatureScaling
from mistakes_lib.support.checks import check_fraction
from mistakes_lib.support.progress import progress_bar

__all__ = ["Report", "make_report"]

MISTAKES = "mistakes"  # the name of the test set's own failures among the suspect sets
SHOWN = 12  # inputs listed as most and as least likely
MOST_IN_MEMORY = 50_000  # training inputs for methods that hold all of theirs in memory at once
STEPS = 200  # thresholds of the explorer


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        facts: JSON-ready nested dict with the keys inputs, alarms, verdicts, methods, left_out,
            learned_from, explorer, detector, calibration, extremes and advice.
        detector: the paper's score with a threshold, ready for use.
        rule: name of the paper's score in the tables.
        watched: the network with this detector, where the report was made from a network.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> rng = np.random.default_rng(0)
        >>> def draw(n):  # two features that are the logits; one label in four is wrong
        ...     logits = rng.normal(size=(n, 2))
        ...     return FeatureSet(logits, logits, logits.argmax(axis=1) ^ (rng.random(n) < 0.25))
        >>> report = make_report(draw(100), draw(100), draw(100), n_components=2)
        >>> report.rule, list(report.facts)[:3]
        ('GMM-2', ['inputs', 'alarms', 'verdicts'])
    """

    facts: dict
    detector: Detector
    rule: str
    watched: Watched | None = None


def make_report(
    train,
    validation,
    test,
    *,
    suspects=None,
    n_components=None,
    false_alarms=0.05,
    confidence=0.95,
    classes=None,
    seed=0,
    progress=False,
):
    """Fit every usual detector and judge each on the test set's mistakes and on other inputs.

    The sets may be larger than memory, with features and logits that are mapped from files: fits
    and scores read them in blocks. Methods that hold all of their training inputs in memory
    (nearest neighbors, ViM) learn from at most 50,000 of them, drawn at random;
    ``facts["learned_from"]`` says which and from how many.

    Args:
        train: FeatureSet of the classifier's training inputs, with labels.
        validation: FeatureSet of held-out inputs, with labels; thresholds and temperature are
            chosen on it.
        test: FeatureSet of other held-out inputs, with labels; nothing is chosen on it.
        suspects: dict of name → FeatureSet that should be told from the test inputs, such as
            adversarial or out-of-distribution ones.
        n_components: Gaussians of the mixture; by default 100, or a tenth of the training inputs
            if they are fewer than 1,000.
        false_alarms: share of correct predictions that may be flagged.
        confidence: of the intervals, in (0, 1).
        classes: names of the classifier's outputs, in their order, for the alarms.
        seed: of the fits and of the bootstrap.
        progress: show bars of the methods that are fitted and score.

    Returns:
        Report.

    Raises:
        ValueError: a set without labels, a test set without correct predictions or with neither
            mistakes nor suspects beside it, a suspect set named "mistakes", or sets of different
            classifiers.

    Example:
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> rng = np.random.default_rng(0)
        >>> def draw(n):  # two features that are the logits; one label in four is wrong
        ...     logits = rng.normal(size=(n, 2))
        ...     return FeatureSet(logits, logits, logits.argmax(axis=1) ^ (rng.random(n) < 0.25))
        >>> far = FeatureSet(np.full((20, 2), 9.0), np.full((20, 2), 9.0))
        >>> report = make_report(draw(100), draw(100), draw(100), suspects={"far": far})
        >>> for verdict in report.facts["verdicts"]:
        ...     print(verdict["set"], verdict["flagged_by_likelihood"])
        mistakes not clearly
        far yes
    """
    suspects = dict(suspects or {})
    check_fraction(false_alarms, "false_alarms")
    _check({"train": train, "validation": validation, "test": test}, suspects)
    if n_components is None:
        n_components = usual_components(train)
    density = usual_mixture(train, n_components, random_state=seed)
    scorers, left_out, learned_from = _fit_what_can_be(train, validation, density, seed, progress)
    ours = next(iter(scorers))
    both = [scorers[ours], scorers["Calibrated"]]
    if 0 < validation.correct.sum() < len(validation):  # it learns from both kinds
        scorers["Combined"] = Combined(both).fit(validation)
    scores, pairs = _score(scorers, test, suspects, progress)
    tables = {
        name: detection_table(each, confidence=confidence, random_state=seed)
        for name, each in progress_bar(pairs.items(), desc="judging", unit="set", shown=progress)
    }
    usual = scorers[ours].score_samples(validation)[validation.correct]
    # Without a correct validation prediction nothing can be promised, and nothing is flagged.
    threshold = conformal_threshold(usual, false_alarms) if len(usual) else -np.inf
    rule = guarantee(false_alarms)
    detector = _detector(scores[ours], test.correct, threshold, rule, false_alarms)
    facts = {
        "inputs": _inputs(train, validation, test, suspects),
        "alarms": find_alarms(
            train, validation, test, detector, classes=classes, confidence=confidence
        ),
        "verdicts": [
            _verdict(name, tables[name], pairs[name][ours], ours, confidence) for name in pairs
        ],
        "methods": {name: _records(table) for name, table in tables.items()},
        "left_out": left_out,
        "learned_from": learned_from,
        "explorer": {
            name: _explorer(scores[name], test.correct)
            for name in (ours, "Calibrated", "Combined")
            if name in scorers
        },
        "detector": detector,
        "calibration": _calibration(scorers["Calibrated"], test),
        "extremes": _extremes(scores[ours], test),
        "advice": advise(pairs, tables, {n: k for n, s in scorers.items() if (k := method_key(s))}),
    }
    return Report(facts, Detector(scorers[ours], threshold, rule), ours)


def _fit_what_can_be(train, validation, density, seed, progress):
    """The usual scorers, fitted; name → reason for those that cannot be fitted to these sets;
    name → number of training inputs for those that learn from some of them only.

    The likelihood and the calibrated confidence are the report's subject: they must be.
    """
    scorers, left_out, learned_from, some = {}, {}, {}, train
    if len(train) > MOST_IN_MEMORY:
        chosen = np.random.default_rng(seed).permutation(len(train))[:MOST_IN_MEMORY]
        some = train[np.sort(chosen)]
    usual = usual_scorers(density, train.logits.shape[1]).items()
    for name, scorer in progress_bar(usual, desc="fitting", unit="method", shown=progress):
        try:
            scorers[name] = fit_scorer(scorer, some if scorer.needs_memory else train, validation)
            if scorer.needs_memory and some is not train:
                learned_from[name] = len(some)
        except ValueError as error:
            if isinstance(scorer, LogLikelihood | TemperatureScaling):
                raise
            left_out[name] = str(error)
    return scorers, left_out, learned_from


def _check(splits, suspects):
    """Raise ValueError unless a report can be made of these sets, name → FeatureSet."""
    for name, split in splits.items():
        if split.labels is None:
            raise ValueError(f"the {name} set has no labels, but a report needs them")
    (first, own), *others = (splits | suspects).items()
    for name, other in others:
        for part in ("features", "logits"):
            widths = [getattr(batch, part).shape[1] for batch in (own, other)]
            if len(set(widths)) > 1:
                raise ValueError(
                    f"the {name} set has {widths[1]} {part}, the {first} set {widths[0]}: all must "
                    "come from one classifier"
                )
    test = splits["test"]
    if not test.correct.any():
        raise ValueError(
            f"all {len(test)} test predictions are wrong: there is nothing to tell; are the "
            "classes in the order of the network's outputs, and do labels begin with 0?"
        )
    if test.correct.all() and not suspects:
        raise ValueError(
            f"all {len(test)} test predictions are right: there is nothing to tell without "
            "suspects, such as images from elsewhere"
        )
    if MISTAKES in suspects:
        raise ValueError(f'"{MISTAKES}" names the mistakes on the test set: take another name')


def _score(scorers, test, suspects, progress):
    """Scores of the test set by method; by set and method, those of trusted and of suspect inputs.

    A set without mistakes is no set of suspects.
    """
    pairs = {name: {} for name in (suspects if test.correct.all() else (MISTAKES, *suspects))}
    scores = {}
    for name, scorer in progress_bar(
        scorers.items(), desc="scoring", unit="method", shown=progress
    ):
        scores[name] = own = scorer.score_samples(test)
        if MISTAKES in pairs:
            pairs[MISTAKES][name] = own[test.correct], own[~test.correct]
        for key, batch in suspects.items():
            pairs[key][name] = own, scorer.score_samples(batch)
    return scores, pairs


def _inputs(train, validation, test, suspects):
    splits = {"train": train, "validation": validation, "test": test}
    return {
        "counts": {name: len(batch) for name, batch in (splits | suspects).items()},
        "accuracy": {name: batch.accuracy for name, batch in splits.items()},
        "features": train.features.shape[1],
        "classes": train.logits.shape[1],
    }


def _verdict(name, table, pair, ours, confidence):
    """Does the likelihood tell this set from the trusted inputs, and who does it best?"""
    test = mann_whitney(*pair, confidence=confidence)
    best = table["AUROC"].idxmax()
    low, high = test.auroc_ci
    found = "yes" if low > 0.5 else "no: it trusts them more" if high < 0.5 else "not clearly"
    return {
        "set": name,
        "flagged_by_likelihood": found,
        "auroc": test.auroc,
        "low": low,
        "high": high,
        "log10_p": test.log10_p,
        "best": best,
        "best_auroc": float(table["AUROC"][best]),
        "rank": int((table["AUROC"] > table["AUROC"][ours]).sum()) + 1,
        "methods": len(table),
    }


def _records(table):
    return [{"method": name, **row} for name, row in table.to_dict(orient="index").items()]


def _explorer(scores, correct):
    """What each of a row of thresholds would do on the test set."""
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, STEPS)))
    rows = {name: [] for name in ("threshold", "flagged", "precision", "recall", "risk")}
    for threshold in thresholds:
        flagged = scores < threshold
        hits, kept = (flagged & ~correct).sum(), ~flagged
        rows["threshold"].append(float(threshold))
        rows["flagged"].append(float(flagged.mean()))
        rows["precision"].append(float(hits / flagged.sum()) if flagged.any() else None)
        rows["recall"].append(None if correct.all() else float(hits / (~correct).sum()))
        rows["risk"].append(float((~correct[kept]).mean()))
    return rows | {"aurc": risk_coverage(scores, correct).aurc}


def _detector(scores, correct, threshold, rule, promised):
    flagged = scores < threshold
    return {
        "rule": rule,
        "promised": promised if np.isfinite(threshold) else None,
        "threshold": float(threshold) if np.isfinite(threshold) else None,
        "false_alarms": float(flagged[correct].mean()),
        "caught": None if correct.all() else float(flagged[~correct].mean()),
        "error_before": float((~correct).mean()),
        "error_after": float((~correct[~flagged]).mean()) if (~flagged).any() else None,
    }


def _calibration(temperature, test):
    bins = ReliabilityBins.of(temperature.score_samples(test), test.correct)
    return {
        "temperature": temperature.temperature_,
        "ece_before": expected_calibration_error(test.logits, test.labels),
        "ece_after": bins.calibration_error,
        "counts": bins.counts.tolist(),
        "confidence": [None if np.isnan(v) else float(v) for v in bins.confidence],
        "accuracy": [None if np.isnan(v) else float(v) for v in bins.accuracy],
    }


def _extremes(scores, test):
    """The inputs with the least and the most likely features."""
    order = np.argsort(scores)
    return {
        name: [
            {
                "row": int(row),
                "score": float(scores[row]),
                "label": int(test.labels[row]),
                "prediction": int(test.predictions[row]),
            }
            for row in rows
        ]
        for name, rows in (("least", order[:SHOWN]), ("most", order[::-1][:SHOWN]))
    }
