"""The paper's explanation of Fig. 3a against 3b: does over-confidence leave room for a density?"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

__all__ = ["overconfidence_sentence", "overconfidence_table"]

GAP = "mixture − confidence"


def overconfidence_table(evidence):
    """Temperature, accuracies and the gap between density and confidence, one row a run (§4.1).

    The paper says that a network of lower accuracy is less over-confident, so that its confidence
    detects mistakes better than a density does. An over-confident network needs a temperature above
    1, and is far more accurate on its training images than on others.

    Args:
        evidence: dict of run → topic → values, as
            :func:`~mistakes_lib.book.evidence.stored_evidence` returns it.

    Returns:
        DataFrame indexed by run, in the order of the temperature, with the columns temperature,
        accuracy, "training accuracy", "mixture − confidence" (difference of AUROCs for mistakes),
        "95 % interval" and verdict.

    Raises:
        ValueError: no run has the evidence.

    Example:
        >>> mistakes = {"calibrated": {"difference": -0.1, "interval": "…", "verdict": "loses"}}
        >>> run = {"accuracy": 0.7, "training_accuracy": 0.9}
        >>> topics = {"calibration": {"temperature": 1.4}, "mistakes": mistakes, "run": run}
        >>> overconfidence_table({"net": topics}).loc["net", "temperature"]
        np.float64(1.4)
    """
    rows = {}
    for name, topics in evidence.items():
        if not {"calibration", "mistakes", "run"} <= set(topics):
            continue
        gap = topics["mistakes"]["calibrated"]
        rows[name] = {
            "temperature": topics["calibration"]["temperature"],
            "accuracy": topics["run"]["accuracy"],
            "training accuracy": topics["run"]["training_accuracy"],
            GAP: gap["difference"],
            "95 % interval": gap["interval"],
            "verdict": gap["verdict"],
        }
    if not rows:
        raise ValueError("no run has evidence on calibration and mistakes: write it anew")
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("temperature")


def overconfidence_sentence(table):
    """Does the gap grow with the temperature, as the paper's explanation needs?

    Args:
        table: what :func:`overconfidence_table` returns.

    Returns:
        str: Spearman's rank correlation over the runs in a sentence. With fewer than three runs,
        that there are too few.

    Example:
        >>> gaps = {"temperature": [1.0, 1.2, 1.5, 1.9], GAP: [-0.2, -0.1, -0.05, 0.0]}
        >>> print(overconfidence_sentence(pd.DataFrame(gaps)))
        Over 4 networks the gap rises with the temperature (Spearman's ρ = +1.00, p = 0).
    """
    if len(table) < 3 or table["temperature"].nunique() < 2 or table[GAP].nunique() < 2:
        return f"The networks ({len(table)}) are too few, or too much alike, to tell."
    rho, p_value = spearmanr(table["temperature"], table[GAP])
    if round(abs(rho), 2) == 0:
        return (
            f"Over {len(table)} networks the gap neither rises nor falls with the temperature "
            "(Spearman's ρ = 0.00)."
        )
    way = "rises" if rho > 0 else "falls"
    sure = "" if p_value < 0.05 else ", which chance explains as well"
    return (
        f"Over {len(table)} networks the gap {way} with the temperature (Spearman's "
        f"ρ = {rho:+.2f}, p = {np.round(p_value, 3):g}{sure})."
    )
