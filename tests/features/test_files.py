"""Features that users bring are read as they are, or refused in one line; nothing is executed."""

import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.features.files import load_features, read_stream

ARRAYS = {
    "features": np.arange(12, dtype=np.float32).reshape(4, 3) / 7,
    "logits": np.arange(8, dtype=np.float32).reshape(4, 2) / 3,
    "labels": np.array([0, 1, 1, 0]),
}


def write(path, arrays=ARRAYS):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        pd.DataFrame({name: list(array) for name, array in arrays.items()}).to_parquet(path)
    return path


def assert_same(batch, arrays=ARRAYS):
    np.testing.assert_array_equal(batch.features, arrays["features"])
    np.testing.assert_array_equal(batch.logits, arrays["logits"])
    if "labels" in arrays:
        np.testing.assert_array_equal(batch.labels, arrays["labels"])
    else:
        assert batch.labels is None


every_kind = pytest.mark.parametrize("kind", ["npz", "safetensors", "parquet"])
without_labels = {name: ARRAYS[name] for name in ("features", "logits")}


@every_kind
@pytest.mark.parametrize("arrays", [ARRAYS, without_labels], ids=["labels", "none"])
def test_what_is_written_is_read(tmp_path, kind, arrays):
    assert_same(load_features(write(tmp_path / f"file.{kind}", arrays)), arrays)


def test_our_own_files_are_read(tmp_path):
    FeatureSet(**ARRAYS).save(tmp_path / "own.safetensors")
    assert_same(load_features(tmp_path / "own.safetensors"))


@every_kind
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"logits": None}, "has no logits; it has: features, labels"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels"),
        ({"features": np.full((4, 3), np.nan)}, "features has a NaN or an infinity in 4 of 4"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, kind, change, complaint):
    arrays = {k: v for k, v in (ARRAYS | change).items() if v is not None}
    path = write(tmp_path / f"file.{kind}", arrays)
    with pytest.raises(ValueError, match=complaint) as caught:
        load_features(path)
    assert str(path) in str(caught.value)


def test_unknown_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load_features(tmp_path / "none.npz")
    (tmp_path / "file.txt").touch()
    with pytest.raises(ValueError, match=r"must end in \.npz, \.safetensors, \.parquet"):
        load_features(tmp_path / "file.txt")


class Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_not_executed(tmp_path):
    harm = tmp_path / "harm"
    pickle.loads(pickle.dumps(Bomb(harm))).close()
    assert harm.exists(), "this bomb is no bomb"
    harm.unlink()
    bomb = np.array([Bomb(harm)], dtype=object)
    np.savez(tmp_path / "bomb.npz", features=bomb, logits=ARRAYS["logits"])
    with pytest.raises(ValueError, match="holds pickled Python objects, which could run code"):
        load_features(tmp_path / "bomb.npz")
    assert not harm.exists()


@every_kind
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    path = write(tmp_path / f"file.{kind}")
    whole = path.read_bytes()
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(ValueError, match="file"):
            load_features(path)


# --- streams -------------------------------------------------------------------------------------


def as_lines(kind, arrays):
    if kind == "jsonl":
        names = list(arrays)
        rows = zip(*(array.tolist() for array in arrays.values()), strict=True)
        return [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows]
    columns = {
        **{f"feature_{i}": column for i, column in enumerate(arrays["features"].T)},
        **{f"logit_{i}": column for i, column in enumerate(arrays["logits"].T)},
    }
    if "labels" in arrays:
        columns["label"] = arrays["labels"]
    text = pd.DataFrame(columns).to_csv(index=False)
    return io.StringIO(text)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("arrays", [ARRAYS, without_labels], ids=["labels", "none"])
@pytest.mark.parametrize("block", [1, 3, 1000])
def test_a_stream_gives_the_rows_in_blocks(kind, arrays, block):
    batches = list(read_stream(as_lines(kind, arrays), kind, block=block))
    assert [len(batch) for batch in batches] == {1: [1] * 4, 3: [3, 1], 1000: [4]}[block]
    features = np.concatenate([batch.features for batch in batches])
    np.testing.assert_allclose(features, arrays["features"], rtol=1e-6)
    if "labels" in arrays:
        labels = np.concatenate([batch.labels for batch in batches])
        np.testing.assert_array_equal(labels, arrays["labels"])


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("jsonl", '{"features": [1], "logits": [1, 2]}\nnot json', "line 2 is no JSON"),
        ("jsonl", '{"features": [1]}', "line 1 must be an object with features and logits"),
        ("jsonl", "[1, 2]", "line 1 must be an object"),
        ("jsonl", '{"features": ["x"], "logits": [1, 2]}', "rows 1 to 1: features must be numeric"),
        ("jsonl", '{"features": [1], "logits": [NaN, 2]}', "rows 1 to 1: logits has a NaN"),
        ("csv", "feature_0,logit_0\n1,x\n", "line 2 holds no number"),
        ("csv", "feature_0,logit_0\n1\n", "line 2 has 1 cells, but the header has 2 columns"),
        ("csv", "feature_0,logit_0\n1,2,3\n", "line 2 has 3 cells, but the header has 2 col"),
        ("csv", "feature_0,feature_2,logit_0\n1,2,3\n", "the header has no column feature_1"),
        ("csv", "feature_0,feature_0,logit_0\n1,2,3\n", "has the column feature_0 twice"),
        ("csv", "feature_0\n1\n", "the header has no column logit_0"),
        ("csv", "", "the header has no column feature_0"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(kind, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        list(read_stream(io.StringIO(text), kind))


def test_labels_in_some_rows_only_are_refused():
    rows = '{"features": [1], "logits": [1, 2], "labels": 0}\n{"features": [1], "logits": [1, 2]}'
    with pytest.raises(ValueError, match="rows 1 to 2: some have labels, some not"):
        list(read_stream(rows.splitlines(), "jsonl"))
