"""Features that users bring in files: arrays, tables of numbers, or rows of text."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from mistakes_lib.data.files import natural_order
from mistakes_lib.data.reading import is_hidden
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.features.streams import PARTS, read_stream
from mistakes_lib.features.tables import arrays_of_table, own_names, without_missing
from mistakes_lib.support.storage import open_npz

__all__ = ["load_features", "read_stream"]


def load_features(path):
    """Read a FeatureSet from a file; its suffix, in any case, says of which kind.

    Args:
        path: ``.npz`` or ``.safetensors`` (in any precision) with the arrays features (n, d),
            logits (n, c), perhaps labels (n,) or (n, 1), such as
            :meth:`~mistakes_lib.features.feature_set.FeatureSet.save` writes; ``.parquet``
            (``.pq``), or a folder of such parts, with columns of these names, of which features
            and logits hold a list a row, or with columns feature_0, feature_1, …, logit_0, …,
            label; or ``.csv`` (``.tsv``) and ``.jsonl`` as
            :func:`~mistakes_lib.features.streams.read_stream` takes them. Names are read in any
            case; label is another name of labels.

    Returns:
        FeatureSet. A column of labels that are all missing counts as none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a damaged one, one with pickled objects, a missing array,
            or arrays that do not go together.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "test.npz"
        ...     np.savez(file, features=np.eye(2), logits=2 * np.eye(2), labels=[0, 0])
        ...     load_features(file).correct
        array([ True, False])
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    suffix = ".parquet" if path.is_dir() else path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path} must end in {', '.join(READERS)}: of which kind is it?")
    arrays = READERS[suffix](path)
    missing = [name for name in PARTS[:2] if name not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} has no {missing[0]}; it has: {found}")
    if arrays.get("labels") is not None:
        arrays["labels"] = without_missing(arrays["labels"])
    try:
        return FeatureSet(*(arrays.get(name) for name in PARTS))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _read_npz(path):
    try:
        with open_npz(path) as archive:
            if any(PurePosixPath(name).is_absolute() or ".." in name for name in archive.files):
                raise ValueError("it names files outside its own folder")
            own = own_names(archive.files)
            others = {name: None for name in archive.files if name not in own.values()}
            return others | {part: archive[name] for part, name in own.items()}
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
    """What is asked for, through torch, which knows bfloat16 and float8; nothing else is read."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            own = own_names(names)
            found = {part: file.get_tensor(name) for part, name in own.items()}
            found |= {name: None for name in names if name not in own.values()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    return {name: tensor if tensor is None else _as_numpy(tensor) for name, tensor in found.items()}


def _as_numpy(tensor):
    """As it is, if NumPy has its dtype, so that large files are not copied; else as float32."""
    known = not tensor.is_floating_point() or tensor.dtype in (torch.float32, torch.float64)
    return (tensor if known else tensor.float()).numpy()


def _read_parquet(path):
    import pandas as pd

    parts = [path]
    if path.is_dir():
        # In the order of their numbers, in which Dask writes them: part.2 before part.10.
        inside = {p.relative_to(path).as_posix(): p for p in path.rglob("*")}
        parts = [inside[name] for name in natural_order(inside) if _is_part(name)]
        if not parts:
            raise ValueError(f"{path} is a folder without .parquet files")
    try:
        tables = [pd.read_parquet(part).assign(**_partition(part, path)) for part in parts]
        table = pd.concat(tables, ignore_index=True)
    except Exception as error:  # pyarrow has many kinds
        message = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no Parquet file: {message}") from None
    return arrays_of_table(table, path)


def _is_part(name):
    """Whether a file in a folder of parts is one of them: not hidden, nor of the writer's own."""
    names = PurePosixPath(name).parts
    is_own = any(each.startswith("_") and "=" not in each for each in names)
    is_parquet = PurePosixPath(name).suffix.lower() in (".parquet", ".pq")
    return is_parquet and not is_own and not any(is_hidden(each) for each in names)


def _partition(part, folder):
    """Columns whose value is in the names of a part's folders, such as label=3."""
    pairs = (name.partition("=") for name in part.relative_to(folder).parts[:-1])
    return {key: value for key, equals, value in pairs if equals}


def _read_lines(path):
    kind = "csv" if path.suffix.lower() in (".csv", ".tsv") else "jsonl"
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            blocks = list(read_stream(iter(lines), kind))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8, save it as such: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    arrays = {
        name: [getattr(block, name) for block in blocks]
        for name in PARTS
        if blocks and all(getattr(block, name) is not None for block in blocks)
    }
    return {name: np.concatenate(each) for name, each in arrays.items()}


READERS = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".csv": _read_lines,
    ".tsv": _read_lines,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
}
