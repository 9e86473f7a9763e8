"""Arrays on disk: safetensors files, written atomically, verified by checksum when read."""

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

__all__ = [
    "atomic_write",
    "join_arrays",
    "load_arrays",
    "narrow",
    "open_npz",
    "read_safetensors",
    "read_yaml",
    "save_arrays",
    "sha256_of",
]

DTYPES = {
    "F32": np.float32,
    "F64": np.float64,
    "F16": np.float16,
    "I64": np.int64,
}  # of mapped ones
END_OF_ZIP = 22 + 65535  # bytes of a zip archive's last record at most, with a comment
ZIP64 = 0xFFFF  # that record says so where it is too small for the number of entries
NARROWED = "narrowed"  # in the metadata: names of the arrays that `narrow` wrote as float32


@contextmanager
def atomic_write(path):
    """Yield a temporary path beside ``path`` that replaces it only if the block succeeds.

    A killed process leaves the old file (or none), never half of the new one; two processes
    that write the same path leave one whole file.

    Raises:
        IsADirectoryError: the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(temporary)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would lock out other users
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksums(arrays, metadata):
    """SHA-256 of the arrays alone, as the published runs' files have it, and of all."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")  # ascontiguousarray would give 0-d a shape (1,)
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.reshape(-1).view(np.uint8))  # no copy, also of a file that is mapped
    arrays_alone = digest.hexdigest()
    digest.update(metadata.encode())
    return arrays_alone, digest.hexdigest()


def save_arrays(path, arrays, metadata=None):
    """Write named arrays and a JSON-serialisable ``metadata`` dict to one safetensors file.

    The file is a pure function of its contents: the same arrays give the same bytes.

    Args:
        path: the file; missing folders are made.
        arrays: dict of name → NumPy array.
        metadata: dict that :func:`load_arrays` gives back.
    """
    arrays = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    metadata = json.dumps(metadata or {}, sort_keys=True)
    header = {"sha256": _checksums(arrays, metadata)[-1], "metadata": metadata}
    with atomic_write(path) as temporary:
        temporary.write_bytes(_canonical(serialize(arrays, metadata=header)))


def _canonical(data):
    """Sort the header, whose entries safetensors writes in a random order."""
    entries, end = _header_of(data)
    return _header(entries) + data[end:]


def _header_of(data):
    """The entries of a file's header, and where the arrays begin."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), end


def _header(entries):
    header = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # safetensors aligns the arrays to 8 bytes
    return len(header).to_bytes(8, "little") + header


def join_arrays(path, parts, metadata=None):
    """Write one file with the rows of many, of which one is in memory at a time.

    Args:
        path: the file; it has the bytes that :func:`save_arrays` would write of the joined arrays.
        parts: files that :func:`save_arrays` wrote, each with the same names, dtypes and columns.
        metadata: as for :func:`save_arrays`.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_arrays`, for one of the parts.
    """
    metadata, counts = json.dumps(metadata or {}, sort_keys=True), []
    for part in parts:
        arrays, _ = load_arrays(part, mapped=True)
        counts.append(len(next(iter(arrays.values()))))
    # Where safetensors puts which array does not depend on the number of rows.
    entries, _ = _header_of(serialize({name: array[:1].copy() for name, array in arrays.items()}))
    end = 0
    for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
        shape = [sum(counts), *arrays[name].shape[1:]]
        start, end = end, end + int(np.prod(shape)) * arrays[name].dtype.itemsize
        entries[name] |= {"shape": shape, "data_offsets": [start, end]}
    header = _header(entries | {"__metadata__": {"sha256": "0" * 64, "metadata": metadata}})
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + end)
        joined, row = _mapped(temporary, "r+"), 0
        for part, count in zip(parts, counts, strict=True):
            for name, array in load_arrays(part)[0].items():
                joined[name][row : row + count] = array
            row += count
        found = {"sha256": _checksums(joined, metadata)[-1], "metadata": metadata}
        for array in joined.values():
            array.flush()
        with temporary.open("r+b") as file:
            file.write(_header(entries | {"__metadata__": found}))


def _mapped(path, mode="r"):
    """The arrays of a safetensors file, name → np.memmap, which is read as it is used."""
    with path.open("rb") as file:
        start = file.read(8)
        entries, end = _header_of(start + file.read(int.from_bytes(start, "little")))
    return {
        name: np.memmap(
            path,
            DTYPES[entry["dtype"]],
            mode,
            end + entry["data_offsets"][0],
            tuple(entry["shape"]),
        )
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def load_arrays(path, kinds=(), *, mapped=False):
    """Read what :func:`save_arrays` wrote.

    Args:
        path: the file.
        kinds: the names, one of which ``metadata["kind"]`` must be; any will do if there are none.
        mapped: leave the arrays in the file, from which they are read as they are used: for those
            that need not fit into memory. They are of the dtypes of ``DTYPES``, and not empty.

    Returns:
        (arrays, metadata): dict of name → NumPy array, and the metadata dict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not one of ours, is truncated, fails its checksum, or is of another
            kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    arrays, header = read_safetensors(path, only_header=mapped)
    if not {"sha256", "metadata"} <= set(header):
        raise ValueError(f"{path} was not written by mistakes_lib (it has no checksum)")
    if mapped:
        arrays = _mapped(path)
    if header["sha256"] not in _checksums(arrays, header["metadata"]):
        raise ValueError(f"{path} is damaged: its checksum does not match; make it again")
    metadata = json.loads(header["metadata"])
    if kinds and metadata.get("kind") not in kinds:
        found = f"a {metadata['kind']}" if "kind" in metadata else "something else"
        raise ValueError(f"{path} holds {found}, not a {' or '.join(kinds)}")
    for name in metadata.pop(NARROWED, ()):
        arrays[name] = arrays[name].astype(np.float64)
    return arrays, metadata


def narrow(source, target):
    """Copy what :func:`save_arrays` wrote with its float64 matrices in float32, at half the size.

    :func:`load_arrays` gives them back as float64, rounded to 24 bits.

    Args:
        source: the file.
        target: the copy; missing folders are made.
    """
    arrays, metadata = load_arrays(source)
    wide = [name for name, array in arrays.items() if array.dtype == np.float64 and array.ndim > 1]
    arrays |= {name: arrays[name].astype(np.float32) for name in wide}
    save_arrays(target, arrays, {**metadata, NARROWED: wide})


@contextmanager
def open_npz(path):
    """Open an npz file whose directory is whole: a damaged one may hide an array, such as labels.

    Args:
        path: the file.

    Returns:
        A context manager that gives ``np.load(path)``, which reads an array when it is asked for.

    Raises:
        ValueError: the directory lacks an entry, or names one otherwise than the file does.
        OSError, zipfile.BadZipFile: it is no archive.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/a.npz", x=np.ones(2))
        ...     with open_npz(f"{folder}/a.npz") as arrays:
        ...         arrays["x"].tolist()
        [1.0, 1.0]
    """
    with np.load(path, allow_pickle=False) as archive:
        members = archive.zip.infolist()
        with Path(path).open("rb") as file:
            file.seek(max(0, Path(path).stat().st_size - END_OF_ZIP))
            _, _, end = file.read().rpartition(b"PK\x05\x06")
        promised = int.from_bytes(end[6:8], "little")
        if promised not in (len(members), ZIP64):
            raise ValueError(f"its directory has {len(members)} entries instead of {promised}")
        for member in members:
            archive.zip.open(member).close()  # refuses a name that the file has otherwise
        yield archive


def read_safetensors(path, framework="numpy", *, only_header=False):
    """Read any safetensors file, whoever wrote it.

    Args:
        path: the file.
        framework: "numpy", or "pt" for torch tensors.
        only_header: read no tensors.

    Returns:
        (tensors, header): dict of name → array or tensor, and the header's texts, name → text.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework=framework) as file:
            names = () if only_header else file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None


def sha256_of(path):
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_yaml(path, what):
    """The contents of a YAML file.

    Args:
        path: the file.
        what: what the file is, for the message that there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no YAML.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no {what} {path}")
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
