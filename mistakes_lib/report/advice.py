"""Which detector for which failure, at what cost: computed from a report's own scores."""

import numpy as np

__all__ = ["advise", "refused_to_catch"]

SHARES = (0.5, 0.9)  # of the suspects that shall be caught


def advise(pairs, tables, commands):
    """The best method for each kind of failure and what it costs.

    Args:
        pairs: dict of set → dict of method → (scores of trusted, scores of suspect).
        tables: dict of set → DataFrame of these with a column AUROC, indexed by method.
        commands: dict of method → its name for ``mistakes fit --method``; others cannot be
            deployed by one line.

    Returns:
        list of dicts, one a set, with the keys set, method, auroc, catch_50, catch_90 (shares of
        trusted inputs refused to catch so many of the suspects) and deploy.

    Example:
        >>> import pandas as pd
        >>> pairs = {"far": {"Energy": (np.array([3.0, 4.0, 5.0, 1.0]), np.array([2.0, 0.5]))}}
        >>> tables = {"far": pd.DataFrame({"AUROC": [0.875]}, index=["Energy"])}
        >>> found, = advise(pairs, tables, {"Energy": "energy"})
        >>> found["catch_50"], found["catch_90"], found["deploy"]
        (0.0, 0.25, 'mistakes fit TRAIN VALIDATION --method energy')
    """
    advice = []
    for name, own in pairs.items():
        ranked = tables[name]["AUROC"].sort_values(ascending=False)
        method = next((key for key in ranked.index if key in commands), ranked.index[0])
        half, most = (refused_to_catch(*own[method], share) for share in SHARES)
        deploy = f"mistakes fit TRAIN VALIDATION --method {commands.get(method, '')}".rstrip()
        advice.append(
            {
                "set": name,
                "method": method,
                "auroc": float(ranked[method]),
                "catch_50": half,
                "catch_90": most,
                "deploy": deploy,
            }
        )
    return advice


def refused_to_catch(trusted, suspect, share):
    """The share of trusted inputs that a threshold refuses which catches so many suspects.

    Args:
        trusted: scores (n,), higher = more trusted.
        suspect: scores (m,).
        share: of the suspects that shall be caught, in (0, 1].

    Returns:
        float in [0, 1].

    Example:
        >>> refused_to_catch(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.5]), 1.0)
        0.5
    """
    ordered = np.sort(suspect)
    threshold = ordered[int(np.ceil(share * len(ordered))) - 1]
    return float((trusted <= threshold).mean())
