"""Columns of numbers by name: features and logits as lists, or one column each."""

import re

import numpy as np

__all__ = ["arrays_of_table", "numbered_columns", "own_names", "without_missing"]

LABELS = ("labels", "label")
MISSING = (
    "",
    "na",
    "nan",
    "null",
    "none",
)  # labels, in any case, as tables write that there is none


def own_names(names):
    """Which name, in any case, is that of which part.

    Args:
        names: iterable of the names in a file.

    Returns:
        dict of "features", "logits" and "labels", as far as they are there → name.

    Raises:
        ValueError: two are of one part.

    Example:
        >>> own_names(["Features", "logits", "label", "time"])
        {'features': 'Features', 'logits': 'logits', 'labels': 'label'}
    """
    names, found = list(names), {}
    for part, known in (("features", ("features",)), ("logits", ("logits",)), ("labels", LABELS)):
        own = [name for name in names if str(name).strip().lower() in known]
        if len(own) > 1:
            raise ValueError(f"{' and '.join(map(str, own))} are both there: keep one of them")
        if own:
            found[part] = own[0]
    return found


def without_missing(labels):
    """Labels (n,) or (n, 1) of numbers, or None if each is a NaN."""
    labels = np.asarray(labels)
    is_float = labels.dtype.kind == "f"
    return None if is_float and labels.size and np.isnan(labels).all() else labels


def numbered_columns(header):
    """Where a table's header has features, logits and labels.

    Args:
        header: list of column names: feature_0, feature_1, …, logit_0, …, perhaps label, in any
            order and case, and others, which are passed over.

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
    header = [str(name).strip().lower() for name in header]
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
    labels = own_names(header).get("labels")
    return found | ({"labels": [header.index(labels)]} if labels else {})


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
    try:
        own = own_names(table.columns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    arrays = {}
    for name in ("features", "logits"):
        if name in own:
            try:
                arrays[name] = np.array(table[own[name]].tolist(), dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {name} is no column of numbers: {error}") from None
    numbered = [re.fullmatch(r"features?_?\d+", str(n).strip().lower()) for n in table.columns]
    if not arrays and any(numbered):
        try:
            places = numbered_columns(table.columns)
            for name in ("features", "logits"):
                arrays[name] = table.iloc[:, places[name]].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
    labels = own.get("labels")
    if labels is None or table[labels].isna().all():
        return arrays
    if table[labels].isna().any():
        raise ValueError(
            f"{path}: {table[labels].isna().sum()} rows have no label, the others have"
        )
    try:
        values = np.array(table[labels].tolist(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {labels} is no column of numbers: {error}") from None
    return arrays | {"labels": values}
