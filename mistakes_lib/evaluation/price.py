"""What does it cost to catch mistakes by refusing inputs?"""

import numpy as np
import pandas as pd

from mistakes_lib.support.checks import as_flags, as_vector, check_fraction

__all__ = ["price_of_refusal"]


def price_of_refusal(scores, correct, *, refuse=0.1, catch=0.9):
    """Refuse the least trusted inputs: how many mistakes are caught, and what nine in ten cost.

    Equal scores are in no order: of a group of ties the expected number is counted.

    Args:
        scores: dict of method → scores (n,) of the same inputs, higher = more trusted.
        correct: whether each prediction is right, bool (n,).
        refuse: share of all inputs that is refused, in (0, 1).
        catch: share of the mistakes that is to be caught, in (0, 1).

    Returns:
        DataFrame indexed by method, and by the two bounds "perfect" (refuses mistakes first) and
        "at random", with the columns "caught at 10 %" (share of the mistakes among the refused) and
        "refused for 90 %" (least share of inputs with which so many mistakes are caught); the
        headings name ``refuse`` and ``catch``.

    Raises:
        ValueError: there is no method, shapes disagree, there are no mistakes, or a share lies
            outside (0, 1).

    Example:
        >>> scores = {"good": [5, 4, 3, 2, 1, 0, 9, 8, 7, 6]}
        >>> price_of_refusal(scores, [1, 1, 1, 0, 1, 0, 1, 1, 1, 1], refuse=0.2, catch=0.9)
                   caught at 20 %  refused for 90 %
        good                  0.5              0.28
        perfect               1.0              0.18
        at random             0.2              0.90
    """
    if not scores:
        raise ValueError("scores is empty: pass at least one method")
    check_fraction(refuse, "refuse")
    check_fraction(catch, "catch")
    columns = f"caught at {100 * refuse:g} %", f"refused for {100 * catch:g} %"
    rows = {}
    for name, values in scores.items():
        values = as_vector(values, f"scores[{name!r}]")
        flags = as_flags(correct, "correct", values)
        if flags.all():
            raise ValueError("there are no mistakes to be caught: pass more inputs")
        rows[name] = _caught(values, flags, refuse), _needed(values, flags, catch)
    rate = (~flags).mean()
    rows["perfect"] = min(1.0, refuse / rate), catch * rate
    rows["at random"] = refuse, catch
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))


def _curve(scores, correct):
    """Shares of inputs and of mistakes refused, at every boundary between different scores."""
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    caught = np.bincount(group, ~correct)
    return np.r_[0, sizes.cumsum()] / len(scores), np.r_[0, caught.cumsum()] / caught.sum()


def _caught(scores, correct, refuse):
    return float(np.interp(refuse, *_curve(scores, correct)))


def _needed(scores, correct, catch):
    refused, caught = _curve(scores, correct)
    last = np.argmax(caught >= catch)  # the first boundary that is enough
    share = (catch - caught[last - 1]) / (caught[last] - caught[last - 1])
    return float(refused[last - 1] + share * (refused[last] - refused[last - 1]))
