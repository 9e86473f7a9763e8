"""Published reports on a network that somebody else trained, as tables for a chapter."""

import json

import pandas as pd
from scipy.stats import binomtest

from mistakes_lib.support.checks import check_fraction
from mistakes_lib.support.locations import REPORTS, without_a_clone
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["failures_table", "promises_table", "published_report"]

DENSITY, CONFIDENCE = "GMM-", "Calibrated"  # how the methods' names in a report begin


def published_report(name):
    """The facts of a published report, and how it was made.

    Args:
        name: network and case, such as "resnet20/held_out".

    Returns:
        dict: what ``mistakes report`` wrote to report.json, and under "made" the command, the
        versions, and what the command said.

    Raises:
        FileNotFoundError: there is no such report; the message names the nearest.

    Example:
        >>> report = published_report("resnet20/held_out")
        >>> report["inputs"]["classes"], report["made"]["command"].split()[:2]
        (10, ['mistakes', 'report'])
    """
    folder = REPORTS / name
    if not (folder / "report.json").is_file():
        known = [str(path.parent.relative_to(REPORTS)) for path in REPORTS.glob("*/*/report.json")]
        raise FileNotFoundError(
            f"no published report {name!r}{did_you_mean(name, known)}"
            + without_a_clone("the published reports")
        )
    facts, made = (
        json.loads((folder / file).read_text(encoding="utf-8"))
        for file in ("report.json", "made.json")
    )
    return facts | {"made": made}


def promises_table(reports, *, confidence=0.95):
    """What each report's detector promises, and what it does on the test images.

    Args:
        reports: dict of row title → facts, as :func:`published_report` returns them.
        confidence: of the interval, in (0, 1).

    Returns:
        DataFrame with a row each and the columns "validation accuracy", "test accuracy",
        "promised" and "flagged" (shares of correct test predictions), "low" and "high" (the
        binomial interval of "flagged", Clopper–Pearson), "caught" (share of mistakes flagged) and
        "n" (correct test predictions).

    Raises:
        ValueError: ``confidence`` lies outside (0, 1).

    Example:
        >>> facts = {
        ...     "inputs": {"counts": {"test": 125}, "accuracy": {"validation": 0.9, "test": 0.8}},
        ...     "detector": {"promised": 0.05, "false_alarms": 0.04, "caught": 0.5},
        ... }
        >>> table = promises_table({"a network": facts})
        >>> table.loc["a network", ["n", "low", "high"]].round(3).tolist()
        [100.0, 0.011, 0.099]
    """
    check_fraction(confidence, "confidence")
    rows = {}
    for title, facts in reports.items():
        accuracy, detector = facts["inputs"]["accuracy"], facts["detector"]
        n = round(accuracy["test"] * facts["inputs"]["counts"]["test"])
        flagged = detector["false_alarms"]
        interval = binomtest(round(flagged * n), n).proportion_ci(confidence)
        rows[title] = {
            "validation accuracy": accuracy["validation"],
            "test accuracy": accuracy["test"],
            "promised": detector["promised"],
            "flagged": flagged,
            "low": interval.low,
            "high": interval.high,
            "caught": detector["caught"],
            "n": n,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def failures_table(facts):
    """Which method finds which failure: AUROCs of density, of confidence and of the best method.

    Args:
        facts: as :func:`published_report` returns them.

    Returns:
        DataFrame indexed by kind of failure, with the columns "density", "confidence", "better"
        (which of the two, or "neither" where their intervals meet), "best" (its name) and "best
        AUROC", and "refused by density", "refused by confidence" and "refused by the best": shares
        of trusted inputs refused where 95 % of the failures are caught.

    Raises:
        ValueError: a kind of failure lacks density or confidence among its methods.

    Example:
        >>> names = ("method", "AUROC", "low", "high", "FPR95")
        >>> rows = [("GMM-100", 0.6, 0.5, 0.7, 0.9), ("Calibrated", 0.9, 0.8, 0.95, 0.4)]
        >>> facts = {"methods": {"noise": [dict(zip(names, row)) for row in rows]}}
        >>> table = failures_table(facts)
        >>> table["better"].tolist(), table["refused by density"].tolist()
        (['confidence'], [0.9])
    """
    rows = {}
    for name, methods in facts["methods"].items():
        table = pd.DataFrame(methods).set_index("method")
        columns = {}
        for word, beginning in (("density", DENSITY), ("confidence", CONFIDENCE)):
            columns[word] = next((own for own in table.index if own.startswith(beginning)), None)
            if columns[word] is None:
                raise ValueError(f"{name} lacks {word}: its methods are {', '.join(table.index)}")
        best = table["AUROC"].idxmax()
        rows[name] = {word: table["AUROC"][method] for word, method in columns.items()}
        rows[name]["better"] = _better(*(table.loc[method] for method in columns.values()))
        rows[name] |= {"best": best, "best AUROC": table["AUROC"][best]}
        for word, method in (columns | {"the best": best}).items():
            rows[name][f"refused by {word}"] = table["FPR95"][method]
    return pd.DataFrame.from_dict(rows, orient="index")


def _better(density, confidence):
    """Which of two methods has the greater area: by their intervals, which must not meet."""
    if density["low"] > confidence["high"]:
        return "density"
    return "confidence" if confidence["low"] > density["high"] else "neither"
