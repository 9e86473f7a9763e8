"""Features on disk in blocks, so that a killed computation goes on where it was."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.support.storage import join_arrays, load_arrays, save_arrays

__all__ = ["fingerprint_of", "stored_features"]

BLOCK = 8192  # images whose features are kept together


def fingerprint_of(classifier):
    """SHA-256 of a network's parameters and buffers, in hexadecimal.

    Names do not count, nor how the network is wrapped: a network taken apart by its last layer has
    the fingerprint of the network.

    Args:
        classifier: :class:`~mistakes_lib.classifiers.FeatureClassifier`.

    Returns:
        str of 64 digits.
    """
    net = getattr(classifier.body, "net", None) or classifier
    digest = hashlib.sha256()
    for value in net.state_dict().values():
        if value.is_floating_point():
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def stored_features(compute, folder, name, files, owner, *, block=BLOCK):
    """Features of files in a folder, computed where they are not there yet.

    Args:
        compute: function of :class:`~mistakes_lib.data.files.ImageFiles` that returns their
            FeatureSet.
        folder: where the features go: NAME.safetensors, and NAME/00000.safetensors, … until all
            blocks are there.
        name: of the set.
        files: ImageFiles.
        owner: text that says by which network and how the features are made; features of another
            are made again.
        block: images of a block.

    Returns:
        FeatureSet of all files, in their order. Its features and logits stay in the file, from
        which they are read as they are used: in memory there is never more than a block, on disk
        each is there twice while the blocks are joined.
    """
    folder = Path(folder)
    whole = folder / f"{name}.safetensors"
    mark = _mark(files, owner)
    found = _read(whole, mark)
    if found is not None:
        return found
    paths = []
    for number, start in enumerate(range(0, len(files), block)):
        path = folder / name / f"{number:05}.safetensors"
        rows = np.arange(start, min(start + block, len(files)))
        if _read(path, mark) is None:
            _write(path, compute(files.take(rows, files.origin)), mark)
        paths.append(path)
    join_arrays(whole, paths, _facts(mark))
    for path in paths:
        path.unlink()
    (folder / name).rmdir()
    return _read(whole, mark)


def _mark(files, owner):
    """SHA-256 of what the features are made from: network, files, their sizes and times."""
    digest = hashlib.sha256(json.dumps(owner).encode())
    for path in files.paths:
        stat = Path(path).stat()
        digest.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    if files.labels is not None:
        digest.update(np.asarray(files.labels, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _read(path, mark):
    """The features in a file if they are whole and made from the same; else None."""
    try:
        arrays, facts = load_arrays(path, ["FeatureSet"], mapped=True)
    except (FileNotFoundError, ValueError):
        return None
    if facts.get("made_from") != mark:
        return None
    return FeatureSet(arrays["features"], arrays["logits"], arrays.get("labels"))


def _write(path, batch, mark):
    arrays = {"features": batch.features, "logits": batch.logits}
    if batch.labels is not None:
        arrays["labels"] = batch.labels
    save_arrays(path, arrays, _facts(mark))


def _facts(mark):
    return {"kind": "FeatureSet", "made_from": mark}
