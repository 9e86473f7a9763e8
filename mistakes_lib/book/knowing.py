"""Attackers who know the detector: how often they pass it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mistakes_lib.support.checks import check_fraction

__all__ = ["BestAttack", "attacks_unnoticed", "best_attack"]


@dataclass(frozen=True)
class BestAttack:
    """Outcome of :func:`best_attack`, on images that had no part in the choice.

    Attributes:
        name: of the attack that was chosen.
        share: of the images on which it fools the network unnoticed.
        low, high: interval of that share (Clopper–Pearson).
        blind: the same share for the first attack, which does not know the detector.
        n: number of these images.

    Example:
        >>> hits = {"BIM": [1, 0, 1, 0], "a": [1, 1, 1, 0]}
        >>> best_attack(pd.DataFrame(hits).astype(bool)).blind
        0.0
    """

    name: str
    share: float
    low: float
    high: float
    blind: float
    n: int


def attacks_unnoticed(run, scorer, *, false_alarms=0.05):
    """Which images fool the network unnoticed, for each attack that knows the detector.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.
        scorer: the fitted scorer whose threshold flags a share ``false_alarms`` of the run's
            validation images.
        false_alarms: in (0, 1).

    Returns:
        bool DataFrame (n images, attacks): "w = 0" is BIM, then come such as "w = 0.1",
        "hinge, w = 0.3" and "match". Empty for a run without such attacks.

    Raises:
        ValueError: ``false_alarms`` lies outside (0, 1).

    Example:
        >>> from mistakes_lib import load_run
        >>> run = load_run("cifar100/densenet_bc_100_12/seed0")
        >>> unnoticed = attacks_unnoticed(run, run.scorers(1000)["GMM-1000"])
        >>> list(unnoticed.columns[-2:]), len(unnoticed)
        (['hinge, w = 3', 'match'], 100)
    """
    check_fraction(false_alarms, "false_alarms")
    own = run.experiment.adaptive
    if own is None:
        return pd.DataFrame()
    limit = np.quantile(scorer.score_samples(run.features("validation")), false_alarms)
    found = {}
    for name in own.names:
        batch = run.adaptive_attack(name)
        text = name if isinstance(name, str) else f"w = {name:g}"
        passed = scorer.score_samples(batch) >= limit
        found[text.replace("hinge-", "hinge, w = ")] = passed & ~batch.correct
    return pd.DataFrame(found)


def best_attack(unnoticed, *, confidence=0.95):
    """Choose the attack that passes most often on every second image; judge it on the others.

    Args:
        unnoticed: bool DataFrame (n images, attacks), as :func:`attacks_unnoticed` returns it. The
            first attack knows no detector and is not chosen.
        confidence: of the interval, in (0, 1).

    Returns:
        BestAttack.

    Raises:
        ValueError: there are fewer than two images or attacks, or ``confidence`` lies outside
            (0, 1).

    Example:
        >>> hits = {"BIM": [0, 0, 1, 0], "a": [1, 0, 1, 0], "b": [0, 1, 1, 1]}
        >>> found = best_attack(pd.DataFrame(hits).astype(bool))  # best on 1st and 3rd: "a"
        >>> found.name, found.share
        ('a', 0.0)
    """
    check_fraction(confidence, "confidence")
    if min(unnoticed.shape, default=0) < 2:
        raise ValueError(
            f"the choice needs two images and two attacks or more, got {unnoticed.shape}"
        )
    blind, *others = unnoticed
    chosen = unnoticed[others].iloc[::2].mean().idxmax()
    judged = unnoticed.iloc[1::2]
    count, n = int(judged[chosen].sum()), len(judged)
    low, high = binomtest(count, n).proportion_ci(confidence)
    return BestAttack(chosen, count / n, float(low), float(high), float(judged[blind].mean()), n)
