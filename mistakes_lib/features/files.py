"""Features that users bring: in files of arrays, or row by row on a stream."""

import csv
import json
import zipfile
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.support.storage import read_safetensors

__all__ = ["load_features", "read_stream"]

PARTS = ("features", "logits", "labels")
CSV_COLUMNS = {"features": "feature_", "logits": "logit_", "labels": "label"}


def load_features(path):
    """Read a FeatureSet from a file; its suffix says of which kind.

    Args:
        path: ``.npz`` or ``.safetensors`` with the arrays features (n, d), logits (n, c), perhaps
            labels (n,), such as
            :meth:`~mistakes_lib.features.feature_set.FeatureSet.save` writes; or
            ``.parquet`` with columns of these names, of which features and logits hold a list a
            row.

    Returns:
        FeatureSet.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a damaged one, one with pickled objects, a missing array,
            or arrays that do not go together.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "test.npz"
        ...     np.savez(file, features=np.eye(2), logits=np.eye(2), labels=[0, 0])
        ...     load_features(file).correct
        array([ True, False])
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors, ".parquet": _read_parquet}
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix not in readers:
        raise ValueError(f"{path} must end in {', '.join(readers)}: of which kind is it?")
    arrays = readers[path.suffix](path)
    missing = [name for name in PARTS[:2] if name not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} has no {missing[0]}; it has: {found}")
    try:
        return FeatureSet(*(arrays.get(name) for name in PARTS))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_stream(lines, kind, *, block=1000):
    """Read features row by row, such as from a pipe.

    Args:
        lines: iterable of lines of text.
        kind: "jsonl", where a line is an object with the lists ``features`` and ``logits`` and
            perhaps a number ``labels``; or "csv", whose header names the columns feature_0,
            feature_1, …, logit_0, … and perhaps label.
        block: most rows that are read before they are given on.

    Yields:
        FeatureSet of up to ``block`` rows.

    Raises:
        ValueError: a line that cannot be read; its number is named.
    """
    rows = {"jsonl": _json_rows, "csv": _csv_rows}[kind](lines)
    start = 0
    while some := list(islice(rows, block)):
        columns = {name: [row[name] for row in some if name in row] for name in PARTS}
        if len(columns["labels"]) not in (0, len(some)):
            raise ValueError(f"rows {start + 1} to {start + len(some)}: some have labels, some not")
        try:
            yield FeatureSet(*(columns[name] or None for name in PARTS))
        except (TypeError, ValueError) as error:
            raise ValueError(f"rows {start + 1} to {start + len(some)}: {error}") from None
        start += len(some)


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as archive:
            if any(PurePosixPath(name).is_absolute() or ".." in name for name in archive.files):
                raise ValueError("it names files outside its own folder")
            return {name: archive[name] for name in archive.files if name in PARTS}
    except ValueError as error:
        if "pickle" in str(error):
            raise ValueError(
                f"{path} holds pickled Python objects, which could run code: save plain arrays"
            ) from None
        raise ValueError(f"{path} is damaged or no npz file: {error}") from None
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged or no npz file: {error}") from None
    except Exception as error:  # zlib.error and what else a broken archive may cause
        raise ValueError(f"{path} is damaged: {error}") from None


def _read_safetensors(path):
    arrays, _ = read_safetensors(path)
    return arrays


def _read_parquet(path):
    import pandas as pd

    try:
        table = pd.read_parquet(path, columns=None)
    except Exception as error:  # pyarrow has many kinds
        message = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no Parquet file: {message}") from None
    arrays = {}
    for name in PARTS:
        if name in table:
            values = table[name].tolist()
            try:
                arrays[name] = np.array(values, dtype=np.int64 if name == "labels" else np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {name} is no column of numbers: {error}") from None
    return arrays


def _json_rows(lines):
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from None
        if not isinstance(row, dict) or not set(PARTS[:2]) <= set(row):
            raise ValueError(f"line {number} must be an object with features and logits")
        yield row


def _csv_rows(lines):
    reader = csv.DictReader(lines)
    header = reader.fieldnames or []
    columns = {
        name: [column for column in header if column.startswith(prefix)]
        for name, prefix in CSV_COLUMNS.items()
    }
    for name in PARTS[:2]:
        if not columns[name]:
            raise ValueError(f"the header has no column {CSV_COLUMNS[name]}0")
    for row in reader:
        try:
            values = {
                name: [float(row[column]) for column in own] for name, own in columns.items() if own
            }
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {reader.line_num} holds no number: {error}") from None
        if "labels" in values:
            values["labels"] = values["labels"][0]
        yield values
