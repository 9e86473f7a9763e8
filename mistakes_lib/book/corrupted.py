"""Corrupted test images, between the test set and images from elsewhere: who notices them?"""

import pandas as pd

from mistakes_lib.data.corruptions import CORRUPTIONS, STRENGTHS
from mistakes_lib.evaluation.thresholds import conformal_threshold

__all__ = ["corruption_sentence", "corruption_table"]

STRONGEST = max(STRENGTHS)


def corruption_table(run, scorers, *, false_alarms=0.05):
    """Accuracy on corrupted test images, and what each detector flags of right and wrong answers.

    Each detector has one threshold, the conformal one of its scores of correct validation
    predictions.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.
        scorers: dict of name → fitted scorer.
        false_alarms: promised share of correct predictions that are flagged, in (0, 1).

    Returns:
        DataFrame indexed by (kind, strength); strength 0 of the kind "none" is the test images as
        they are. Columns: "accuracy"; for each scorer "NAME, right" and "NAME, wrong", the shares
        of right and of wrong predictions that it flags (NaN where there are none). No rows for a
        run without corrupted images.

    Raises:
        ValueError: ``false_alarms`` lies outside (0, 1).

    Example:
        >>> from mistakes_lib import load_run
        >>> run = load_run("cifar100/densenet_bc_100_12/seed0")
        >>> len(corruption_table(run, {}))  # the images as they are; 11 families, 5 strengths each
        56
    """
    validation = run.features("validation")
    trusted = validation[validation.correct]
    thresholds = {
        name: conformal_threshold(scorer.score_samples(trusted), false_alarms)
        for name, scorer in scorers.items()
    }
    rows = {}
    if len(run.corrupted):
        batches = {("none", 0): run.features("test")[run.corrupted]}
        batches |= {(k, s): run.corruption(k, s) for k in CORRUPTIONS for s in STRENGTHS}
        for key, batch in batches.items():
            rows[key] = {"accuracy": batch.accuracy}
            for name, scorer in scorers.items():
                flagged = scorer.score_samples(batch) < thresholds[name]
                rows[key] |= {
                    f"{name}, right": _share(flagged[batch.correct]),
                    f"{name}, wrong": _share(flagged[~batch.correct]),
                }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["kind", "strength"])
    return table


def corruption_sentence(table, names, *, strength=STRONGEST):
    """What one strength does to the accuracy, and how much of the harm each detector notices.

    Args:
        table: what :func:`corruption_table` returns, with rows.
        names: of scorers in it.
        strength: 1 to 5.

    Example:
        >>> rows = {("none", 0): [0.9, 0.5], ("blur", 5): [0.6, 0.25], ("jpeg", 5): [0.8, 0.75]}
        >>> columns = ["accuracy", "density, wrong"]
        >>> table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        >>> table.index = pd.MultiIndex.from_tuples(list(rows))
        >>> print(corruption_sentence(table, ["density"]))
        At strength 5 the accuracy falls from 90.0 % to 70.0 % on average, and to 60.0 % under \
blur. Of the wrong predictions density flags 50 % on average and at least 25 % (blur).
    """
    strong = table.xs(strength, level=1)
    worst, noticed = strong["accuracy"].idxmin(), []
    for name in names:
        shares = strong[f"{name}, wrong"]
        blind = shares.idxmin().replace("_", " ")
        noticed.append(
            f"{name} flags {shares.mean():.0%} on average and at least {shares.min():.0%} ({blind})"
        )
    return (
        f"At strength {strength} the accuracy falls from {table.loc[('none', 0), 'accuracy']:.1%} "
        f"to {strong['accuracy'].mean():.1%} on average, and to {strong['accuracy'].min():.1%} "
        f"under {worst.replace('_', ' ')}. Of the wrong predictions {', '.join(noticed)}."
    ).replace("%", " %")


def _share(flags):
    return flags.mean() if len(flags) else float("nan")
