"""The evidence by which the ledger judges a run: every topic computed from the run's files."""

import json
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.utils import check_random_state

from mistakes_lib.book.claims import as_evidence
from mistakes_lib.evaluation.calibration import expected_calibration_error
from mistakes_lib.evaluation.hypothesis import auroc_interval, mann_whitney
from mistakes_lib.evaluation.one_detector import shares_caught
from mistakes_lib.evaluation.paired import VERDICT_WORDS, compare_scores, tally_verdicts
from mistakes_lib.evaluation.tables import score_many
from mistakes_lib.purification import purification_effect, purification_path, purify
from mistakes_lib.runs import failures_of, mistake_scores
from mistakes_lib.support.locations import BOOK
from mistakes_lib.support.storage import atomic_write, sha256_of

__all__ = ["run_evidence", "stored_evidence", "write_evidence"]

OURS, PAPERS = "ours", ("Calibrated", "Max softmax", "Mahalanobis", "Zheng & Hong")
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of ν, among which validation chooses


def run_evidence(run, *, n_components=100, n_components_large=1000, resamples=500):
    """All evidence of one run, as the rules of the ledger name it.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.
        n_components: of the mixture that detects mistakes.
        n_components_large: of the one against attacks and strange images. A run without such
            mixtures gives those that it has, its smallest and its largest.
        resamples: bootstrap samples behind the intervals.

    Returns:
        dict of topic → values, ready for :func:`~mistakes_lib.book.claims.as_evidence`.
    """
    held = run.experiment.mixtures
    small = n_components if n_components in held else min(held)
    large = n_components_large if n_components_large in held else max(held)
    scorers = _named(run, small)
    test = run.features("test")
    pairs = mistake_scores(run, scorers)
    against = _named(run, large)
    evidence = _likelihood_tests(pairs)
    evidence["mistakes"] = _family(compare_scores({"mistakes": pairs}, OURS), pairs)
    evidence |= _attacks(run, against, resamples)
    evidence |= _strange(run, against)
    evidence |= _one_detector(run, against)
    evidence |= _purification(run, small) | _calibration(run, scorers["Calibrated"], resamples)
    facts = {"title": run.title, "family": run.family, "accuracy": test.accuracy}
    return evidence | {"run": facts | {"training_accuracy": run.info["accuracy"]["train"]}}


def _likelihood_tests(pairs):
    """U-tests of the mixture and, where there is one, the PixelCNN."""
    topics = {}
    for topic, name in (("u_test", OURS), ("u_test_pixelcnn", "PixelCNN")):
        if name in pairs:
            result = mann_whitney(*pairs[name])
            topics[topic] = {"log10_p": result.log10_p} | _area(result.auroc, result.auroc_ci)
    return topics


def _named(run, n_components):
    """The run's scorers, its VAE and MAF among them, the paper's own under the name "ours"."""
    scorers = run.scorers(n_components, deep=True)
    ours, *_ = scorers
    return {OURS if name == ours else name: scorer for name, scorer in scorers.items()}


def _area(auroc, interval):
    return {"auroc": auroc, "low": interval[0], "high": interval[1]}


def _family(table, pairs):
    """One setting: each method's AUROC, and what ours is against it."""
    topics = {OURS: _area(*_auroc(pairs[OURS]))}
    for (_, method), row in table.iterrows():
        text = row[next(column for column in table if column.endswith("interval"))]
        topics[method] = _area(*_auroc(pairs[method])) | {
            "difference": row.difference,
            "interval": text,
            "verdict": row.verdict,
        }
    return topics


def _auroc(pair, linked=False):
    return mann_whitney(*pair).auroc, auroc_interval(*pair, linked=linked)


def _counts(table):
    """Method → how often ours beats it, loses, is on par, is undecided."""
    names = [word.replace(" ", "_") for word in VERDICT_WORDS]
    return {m: dict(zip(names, row, strict=True)) for m, row in tally_verdicts(table).T.items()}


def _attacks(run, scorers, resamples):
    test = run.features("test")[run.attacked]
    radii = run.eps_levels
    attacked = {
        f"{name}-{level}": run.attack(name, level / 255)
        for name in run.experiment.attacks
        for level in radii
    }
    if not attacked:
        return {}
    settings = score_many(scorers, test, attacked)
    table = compare_scores(settings, OURS, others=PAPERS, linked=True, resamples=resamples)
    areas = [_area(*_auroc(pairs[OURS], linked=True)) for pairs in settings.values()]
    areas.sort(key=lambda area: area["auroc"])
    topics = {"lowest": areas[0], "highest": areas[-1], "settings": len(settings)} | _counts(table)
    weakest = table.loc[[f"{name}-{radii[0]}" for name in run.experiment.attacks]]
    counts = weakest["verdict"].value_counts().reindex(list(VERDICT_WORDS), fill_value=0)
    few = {word.replace(" ", "_"): int(count) for word, count in counts.items()}
    return {"adversarial": topics, "weakest": few | {"comparisons": len(weakest)}}


def _strange(run, scorers):
    sets = {name: run.ood(name) for name in run.ood_sets}
    if not sets:
        return {}
    settings = score_many(scorers, run.features("test"), sets)
    table = compare_scores(settings, OURS, others=PAPERS)
    topics = {"ood": {"settings": len(settings)} | _counts(table)}
    if "gaussian_noise" in settings:
        own = settings["gaussian_noise"]
        topics["noise"] = {method: _area(*_auroc(own[method])) for method in (OURS, *PAPERS)}
    if run.bits_per_dim:  # of its own: no classifier takes part, so one run has this evidence
        usual = run.image_log_likelihood("test")
        told = {
            name: _area(*_auroc((usual, run.image_log_likelihood(name))))
            for name in ("fashion_mnist", "svhn")
            if name in sets
        }
        below = sum(area["high"] < 0.5 for area in told.values())
        topics["pixelcnn_ood"] = told | {"tested": len(told), "below_half": below}
    return topics


def _one_detector(run, scorers):
    """One mixture, one threshold at 5 % false alarms: the worst share caught of each failure."""
    pair = {name: scorers[name] for name in (OURS, "Calibrated")}
    validation, test = run.features("validation"), run.features("test")
    failures = failures_of(run)
    groups = {"false alarms": test[test.correct], **failures}
    scored = score_many(pair, validation[validation.correct], groups)
    calibration = {name: own[0] for name, own in scored["false alarms"].items()}
    found = {key: {name: own[1] for name, own in each.items()} for key, each in scored.items()}
    usual = found.pop("false alarms")
    table = shares_caught(calibration, usual, found, joint=(OURS, "Calibrated", "both"))
    sizes = {failure: len(batch) for failure, batch in failures.items()}
    kinds = {"mistakes": ["mistakes"], "strange": list(run.ood_sets)}
    kinds["attacks"] = [name for name in failures if name not in ("mistakes", *run.ood_sets)]
    topics = {}
    for method, row in table.iterrows():
        topics[method] = {"false_alarms": row["false alarms"]}
        for kind, names in kinds.items():
            if names:
                worst = min(names, key=lambda name: row[name])
                topics[method][kind] = _share(row[worst], sizes[worst]) | {"of": worst}
    return {"one_detector": topics}


def _share(share, n):
    """A share with Wilson's interval."""
    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return {"share": share, "low": float(interval.low), "high": float(interval.high)}


def _purification(run, n_components):
    """ν chosen on validation features, judged on test features once."""
    head, mixture = run.head, run.density(n_components)
    validation, test = run.features("validation"), run.features("test")
    path = purification_path({"validation": validation}, mixture, head, strengths=STRENGTHS)
    _, nu = path["accuracy"].idxmax()  # the largest ν of those that are equally good
    purified = purify(test.features, mixture, nu=nu)
    effect = purification_effect(test.features, purified, test.labels, head)
    topics = {name: getattr(effect, name) for name in ("gain", "p_value", "corrected", "broken")}
    return {"purification": topics | {"nu": nu}}


def _calibration(run, scorer, resamples):
    """ECE before and after, and the bootstrap interval of its change over the same images."""
    test, rng = run.features("test"), check_random_state(0)
    after = np.log(np.maximum(scorer.calibrated_probabilities(test), 1e-300))

    def gaps(rows):
        return [
            expected_calibration_error(z[rows], test.labels[rows]) for z in (test.logits, after)
        ]

    before, ended = gaps(np.arange(len(test)))
    drawn = [gaps(rng.randint(len(test), size=len(test))) for _ in range(min(resamples, 200))]
    low, high = np.quantile(np.diff(drawn, axis=1), [0.025, 0.975])
    topics = {"ece_before": before, "ece_after": ended, "low": low, "high": high}
    return {"calibration": topics | {"temperature": scorer.temperature_}}


def write_evidence(run, folder, **options):
    """Compute a run's evidence and keep it, unless what is kept was computed from the same run.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.
        folder: where the files are; each is named after its run.
        **options: of :func:`run_evidence`.

    Returns:
        Path of the JSON file.
    """
    path = Path(folder) / f"{run.name.replace('/', '-')}.json"
    source = sha256_of(run.path / "run.json")
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("run.json") == source:
        return path
    evidence = json.loads(as_evidence(run_evidence(run, **options)))
    text = json.dumps({"name": run.name, "run.json": source, "evidence": evidence}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        Path(file).write_text(text + "\n", encoding="utf-8")
    return path


def stored_evidence(folder=None):
    """The evidence of all runs in a folder, name of the run → topic → values.

    Args:
        folder: with the files that :func:`write_evidence` wrote; None: the book's.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = '{"name": "a/b/seed0", "evidence": {"test": {"p": 0.01}}}'
        ...     _ = (Path(folder) / "a.json").write_text(text)
        ...     stored_evidence(folder)
        {'a/b/seed0': {'test': {'p': 0.01}}}
    """
    folder = BOOK / "evidence" if folder is None else Path(folder)
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no evidence of runs in {folder}: write it with write_evidence")
    found = {}
    for file in files:
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            found[held["name"]] = held["evidence"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged ({error!r}): delete it and write it anew"
            ) from None
    return found
