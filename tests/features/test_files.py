"""Features that users bring are read as they are, or refused in one line; nothing is executed."""

import io
import json
import os
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


# --- what users run into -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["F.SAFETENSORS", "F.NPZ", "f.pq", "F.Parquet"])
def test_suffixes_in_any_case(tmp_path, name):
    plain = write(tmp_path / f"file{name[1:].lower().replace('.pq', '.parquet')}")
    plain.rename(tmp_path / name)
    assert_same(load_features(tmp_path / name))


def test_a_folder_of_parquet_parts_is_one_table(tmp_path):
    for i, rows in enumerate((slice(0, 1), slice(1, 4))):
        part = tmp_path / "features.parquet" / f"part-{i}.parquet"
        part.parent.mkdir(exist_ok=True)
        write(part, {name: array[rows] for name, array in ARRAYS.items()})
    assert_same(load_features(tmp_path / "features.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is a folder without"):
        load_features(tmp_path / "empty")


def table(order=1):
    """The arrays as columns with numbers; eleven features, so that 10 sorts before 2 as text."""
    features = np.arange(44.0).reshape(4, 11)
    columns = {f"feature_{i}": features[:, i] for i in range(11)}
    columns |= {f"logit_{i}": column for i, column in enumerate(ARRAYS["logits"].T)}
    names = sorted(columns)[::order]
    return pd.DataFrame({n: columns[n] for n in names} | {"label": ARRAYS["labels"]}), features


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", ["csv", "parquet", "CSV"])
def test_columns_are_found_by_name_and_number(tmp_path, kind, order):
    frame, features = table(order)
    path = tmp_path / f"table.{kind}"
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    assert_same(load_features(path), ARRAYS | {"features": features})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_of_spreadsheets_is_read(tmp_path, separator, encoding):
    frame, features = table()
    frame.to_csv(tmp_path / "t.csv", index=False, sep=separator, encoding=encoding,
                 lineterminator="\r\n")  # fmt: skip
    assert_same(load_features(tmp_path / "t.csv"), ARRAYS | {"features": features})


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_byte_order_mark_is_read_past(kind):
    lines = list(as_lines(kind, ARRAYS))
    lines[0] = "\ufeff" + lines[0]
    (batch,) = read_stream(lines, kind)
    np.testing.assert_allclose(batch.features, ARRAYS["features"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "parquet", "jsonl"])
def test_labels_in_a_column_and_labels_that_are_missing(tmp_path, kind):
    path = tmp_path / f"file.{kind}"
    for labels in (ARRAYS["labels"][:, None], None):
        rows = {**without_labels, "labels": labels}
        if kind == "jsonl":
            texts = [
                {n: (None if a is None else a[i].tolist()) for n, a in rows.items()}
                for i in range(4)
            ]
            path.write_text("".join(json.dumps(row) + "\n" for row in texts))
        elif labels is None and kind == "parquet":
            frame = pd.DataFrame({n: list(a) for n, a in without_labels.items()})
            frame.assign(labels=pd.Series([None] * 4, dtype="Int64")).to_parquet(path)
        else:
            write(path, {n: a for n, a in rows.items() if a is not None})
        assert_same(load_features(path), without_labels if labels is None else ARRAYS)


@every_kind
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, kind):
    path = write(tmp_path / f"file.{kind}", ARRAYS | {"labels": np.array([0.7, 1, 1, 0])})
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        load_features(path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float64"])
def test_safetensors_of_any_precision(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    tensors = {name: torch.tensor(array) for name, array in ARRAYS.items()}
    kept = {name: tensors[name].to(getattr(torch, dtype)) for name in ("features", "logits")}
    others = {"weights": torch.ones(3, dtype=torch.bfloat16)}
    save_tensors(kept | others | {"labels": tensors["labels"]}, tmp_path / "f.safetensors")
    found = load_features(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(found.features, kept["features"].float())


def test_probabilities_where_logits_belong_are_said(tmp_path):
    path = write(tmp_path / "f.npz", ARRAYS | {"logits": np.array([[0.9, 0.1]] * 4)})
    with pytest.warns(UserWarning, match="these look like probabilities; pass what enters the sof"):
        load_features(path)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_has_come_through_a_pipe_is_given_on_at_once(kind):
    """The writer waits for the answer to each row before it writes the next."""
    ours, theirs = os.pipe()
    lines = list(as_lines(kind, without_labels))
    with os.fdopen(ours, encoding="utf-8") as reader, os.fdopen(theirs, "w") as writer:
        batches = read_stream(reader, kind)
        if kind == "csv":
            writer.write(lines.pop(0))
        for row, line in enumerate(lines):
            writer.write(line)
            writer.flush()
            np.testing.assert_allclose(
                next(batches).features[0], ARRAYS["features"][row], rtol=1e-6
            )
        writer.close()
        assert next(batches, None) is None
