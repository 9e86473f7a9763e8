"""A thousand damaged files of each kind: one clear line, or what was meant; nothing in between."""

import io
import json
import zipfile

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mistakes_lib.book.sweep import Grid, load_grid
from mistakes_lib.classifiers.loading import load_weights
from mistakes_lib.data.files import read_image
from mistakes_lib.detector import Detector
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.features.files import load_features, read_stream
from mistakes_lib.runs.experiment import Experiment, load_experiment
from mistakes_lib.scores import MaxSoftmax
from mistakes_lib.support.storage import load_arrays, save_arrays

ARRAYS = {
    "features": np.arange(12, dtype=np.float32).reshape(4, 3) / 7,
    "logits": np.arange(8, dtype=np.float32).reshape(4, 2) / 3,
    "labels": np.array([0, 1, 1, 0]),
}
BATCH = FeatureSet(**ARRAYS)
ROWS = pd.DataFrame(
    {f"feature_{i}": column for i, column in enumerate(ARRAYS["features"].T)}
    | {f"logit_{i}": column for i, column in enumerate(ARRAYS["logits"].T)}
)
PARAMETERS = {
    "data_set": "digits",
    "classifier": "tiny",
    "seed": 0,
    "presets": {"tiny": {"architecture": {"name": "densenet_bc", "depth": 10, "dropout": 0.0}}},
    "experiment": {
        "recipe": {"epochs": 1, "schedule": "one_cycle", "max_shift": 1, "flip": False},
        "attacks": ["fgsm"],
        "eps_levels": [1, 8],
        "ood": {"photo_patches": 10},
        "mixtures": [2],
    },
}


def network():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


# Each kind of file: its name, how to write it, how to read it, and what must hold of what was read.


def write_detector(path):
    Detector(MaxSoftmax().fit(BATCH), 0.25, "by hand").save(path)


def write_grid(path):
    """A grid over a notebook of one cell: each reading of the grid reads that, too."""
    cell = new_code_cell("n_components = 1\nseed = 0", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "language": "python", "display_name": "P"}
    notebook = new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path.with_name("work.ipynb"))
    path.write_text("chapter: work.ipynb\nparameters:\n  n_components: [10, 100]\n  seed: 0\n")


def read_weights(path):
    net = network()
    load_weights(net, path)
    return net


def read_lines(path, kind):
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:  # as stdin is read
        return list(read_stream(lines, kind))


def is_finite(batch):
    return isinstance(batch, FeatureSet) and bool(np.isfinite(batch.features).all())


def is_the_batch(batch):
    return all(np.array_equal(getattr(batch, name), value) for name, value in ARRAYS.items())


KINDS = {
    # The archive has checksums of its own, and so have our files: what is read is what was written.
    "file.npz": (lambda path: np.savez(path, **ARRAYS), load_features, is_the_batch),
    "own.safetensors": (BATCH.save, FeatureSet.load, is_the_batch),
    "arrays.safetensors": (
        lambda path: save_arrays(path, {"a": np.arange(4)}, {"kind": "numbers"}),
        load_arrays,
        lambda read: np.array_equal(read[0]["a"], np.arange(4)) and read[1] == {"kind": "numbers"},
    ),
    "detector.safetensors": (
        write_detector,
        Detector.load,
        lambda read: read.threshold == 0.25 and np.array_equal(read.flag(BATCH), [False] * 4),
    ),
    # Here a changed byte may be another number.
    "file.parquet": (
        lambda path: pd.DataFrame({k: list(v) for k, v in ARRAYS.items()}).to_parquet(path),
        load_features,
        is_finite,
    ),
    "weights.safetensors": (
        lambda path: save_file(network().state_dict(), path),
        read_weights,
        lambda net: net.weight.shape == (2, 3),
    ),
    "weights.pt": (
        lambda path: torch.save(network().state_dict(), path),
        read_weights,
        lambda net: net.weight.shape == (2, 3),
    ),
    "rows.csv": (
        lambda path: ROWS.to_csv(path, index=False),
        lambda path: read_lines(path, "csv"),
        lambda batches: all(map(is_finite, batches)),
    ),
    "rows.jsonl": (
        lambda path: path.write_text(
            "".join(
                json.dumps({name: row.tolist() for name, row in zip(ARRAYS, rows, strict=True)})
                + "\n"
                for rows in zip(*ARRAYS.values(), strict=True)
            )
        ),
        lambda path: read_lines(path, "jsonl"),
        lambda batches: all(map(is_finite, batches)),
    ),
    "parameters.yml": (
        lambda path: path.write_text(yaml.safe_dump(PARAMETERS)),
        load_experiment,
        lambda read: Experiment.from_dict(json.loads(json.dumps(read.to_dict()))) == read,
    ),
    "grid.yml": (
        write_grid,
        load_grid,
        lambda read: isinstance(read, Grid) and len(read.cells("folder")) >= 1,
    ),
    "image.png": (
        lambda path: Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path),
        read_image,
        lambda image: image.mode == "RGB",
    ),
    "image.jpg": (
        lambda path: Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path),
        read_image,
        lambda image: image.mode == "RGB",
    ),
}  # fmt: skip


def damages(whole):
    """Some bytes replaced, removed or put in."""
    place = st.integers(0, len(whole) - 1)
    piece = st.binary(max_size=4)
    return st.tuples(place, st.integers(0, 4), piece).map(
        lambda d: whole[: d[0]] + d[2] + whole[d[0] + d[1] :]
    )


@pytest.mark.parametrize("load", [load_features, read_weights])
def test_a_damaged_directory_hides_no_array(tmp_path, load):
    """The logits' entry gets a comment of 256 bytes, which swallows that of the labels."""
    np.savez(tmp_path / "file.npz", **ARRAYS)
    contents = bytearray((tmp_path / "file.npz").read_bytes())
    name = contents.rindex(b"logits.npy")
    contents[name - 14 : name - 12] = (256).to_bytes(2, "little")  # the comment's length
    (tmp_path / "file.npz").write_bytes(contents)
    assert len(zipfile.ZipFile(tmp_path / "file.npz").namelist()) == 2
    with pytest.raises(ValueError, match=r"damaged.*2 entries instead of 3"):
        load(tmp_path / "file.npz")


@pytest.mark.parametrize("name", KINDS)
def test_what_is_whole_is_read(tmp_path, name):
    write, read, holds = KINDS[name]
    write(tmp_path / name)
    assert holds(read(tmp_path / name))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_what_is_damaged_is_refused_in_one_line_or_harmless(tmp_path, name):
    write, read, holds = KINDS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()

    @given(damages(whole))
    @settings(deadline=None, max_examples=1000, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    def damage(contents):
        path.write_bytes(contents)
        try:
            found = read(path)
        except (ValueError, FileNotFoundError) as error:
            first, *others = str(error).split("\n")  # one for each wrong setting
            assert first and all(line.startswith(f"{path}: experiment") for line in others)
        else:
            assert holds(found)

    damage()


@pytest.mark.parametrize("name", ["own.safetensors", "detector.safetensors", "weights.safetensors"])
def test_a_safetensors_file_cut_at_every_percent_is_refused(tmp_path, name):
    write, read, _ = KINDS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(ValueError, match=name):
            read(path)


@pytest.mark.parametrize("member", ["../features.npy", "/features.npy", "a/../../features.npy"])
def test_an_archive_that_points_out_of_its_folder_is_refused(tmp_path, member):
    buffer = io.BytesIO()
    np.save(buffer, ARRAYS["features"])
    path = tmp_path / "inner" / "file.npz"
    path.parent.mkdir()
    np.savez(path, **ARRAYS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, buffer.getvalue())
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="outside"):
        load_features(path)
    assert set(tmp_path.rglob("*")) == before
