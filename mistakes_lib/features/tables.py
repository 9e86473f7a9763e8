"""Columns of numbers by name: features and logits as lists, or one column each."""

import re

import numpy as np

__all__ = ["arrays_of_table", "numbered_columns"]

LABELS = ("labels", "label")


def numbered_columns(header):
    """Where a table's header has features, logits and labels.

    Args:
        header: list of column names: feature_0, feature_1, …, logit_0, …, perhaps label, in any
            order, and others, which are passed over.

    Returns:
        dict of "features" and "logits" → positions in the order of their numbers, and perhaps
        "labels" → [position].

    Raises:
        ValueError: a column is missing or is there twice.

    Example:
        >>> numbered_columns(["logit_0", "feature_10", *(f"feature_{i}" for i in range(10))])[
        ...     "features"][-1]
        1
    """
    header = [str(name).strip() for name in header]
    found = {}
    for part, prefix in (("features", "feature"), ("logits", "logit")):
        numbers = {}
        for position, name in enumerate(header):
            match = re.fullmatch(rf"{prefix}s?_?(\d+)", name)
            if match and int(match[1]) in numbers:
                raise ValueError(f"the header has the column {name} twice")
            if match:
                numbers[int(match[1])] = position
        if not numbers:
            raise ValueError(f"the header has no column {prefix}_0")
        first = min(numbers)
        gap = next((i for i in range(first, first + len(numbers)) if i not in numbers), None)
        if first > 1 or gap is not None:
            raise ValueError(f"the header has no column {prefix}_{0 if first > 1 else gap}")
        found[part] = [numbers[i] for i in sorted(numbers)]
    labels = [position for position, name in enumerate(header) if name in LABELS]
    if len(labels) > 1:
        raise ValueError("the header has two columns of labels")
    return found | ({"labels": labels} if labels else {})


def arrays_of_table(table, path):
    """The arrays in a pandas table.

    Args:
        table: DataFrame with columns features and logits of lists, or feature_0, …, logit_0, ….
        path: where it comes from, for the messages.

    Returns:
        dict of name → array; labels are left out if they are all missing.

    Raises:
        ValueError: a column that holds no numbers, or labels in some rows only.
    """
    arrays = {}
    for name in ("features", "logits"):
        if name in table:
            try:
                arrays[name] = np.array(table[name].tolist(), dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {name} is no column of numbers: {error}") from None
    if not arrays and any(re.fullmatch(r"features?_?\d+", str(name)) for name in table.columns):
        try:
            places = numbered_columns(table.columns)
            for name in ("features", "logits"):
                arrays[name] = table.iloc[:, places[name]].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
    own = next((name for name in LABELS if name in table), None)
    if own is None or table[own].isna().all():
        return arrays
    if table[own].isna().any():
        raise ValueError(f"{path}: {table[own].isna().sum()} rows have no label, the others have")
    try:
        values = np.array(table[own].tolist(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {own} is no column of numbers: {error}") from None
    return arrays | {"labels": values}
