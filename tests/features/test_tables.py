"""Relatives of the files in ``test_files``: other names, other missing values, other parts."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from mistakes_lib.features.files import load_features

RNG = np.random.default_rng(0)
FEATURES, LOGITS = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))
LABELS = np.array([0, 1, 1, 0])
KINDS = ["npz", "safetensors", "parquet", "jsonl", "csv"]


def write(path, names, labels=LABELS):
    """The arrays under these names; csv has a column for each number."""
    kind = path.suffix[1:]
    arrays = dict(zip(names, (FEATURES, LOGITS, labels), strict=True))
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "safetensors":
        save_file({name: np.asarray(array) for name, array in arrays.items()}, path)
    elif kind == "parquet":
        pd.DataFrame({name: list(array) for name, array in arrays.items()}).to_parquet(path)
    elif kind == "jsonl":
        rows = [{n: np.asarray(a)[i].tolist() for n, a in arrays.items()} for i in range(4)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        columns = {f"{names[0][:-1]}_{i}": FEATURES[:, i] for i in range(3)}
        columns |= {f"{names[1][:-1]}_{i}": LOGITS[:, i] for i in range(2)}
        pd.DataFrame(columns | {names[2]: labels}).to_csv(path, index=False, na_rep="NaN")
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", ["labels", "label", "Labels", "LABEL"])
@pytest.mark.parametrize("names", [("features", "logits"), ("Features", "Logits")])
def test_names_are_read_in_any_case_and_a_label_is_one_of_the_labels(tmp_path, kind, label, names):
    found = load_features(write(tmp_path / f"f.{kind}", (*names, label)))
    np.testing.assert_allclose(found.features, FEATURES, rtol=1e-6)
    np.testing.assert_allclose(found.logits, LOGITS, rtol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_all_missing_are_none_and_some_missing_are_refused(tmp_path, kind):
    names = ("features", "logits", "labels")
    assert load_features(write(tmp_path / f"f.{kind}", names, np.full(4, np.nan))).labels is None
    some = write(tmp_path / f"f.{kind}", names, np.array([0, np.nan, 1, 0]))
    with pytest.raises(ValueError, match=r"labels has a NaN|some have labels|1 rows have no label"):
        load_features(some)


@pytest.mark.parametrize("text", ["", "NA", "nan", "null", "None"])
def test_every_way_to_write_a_missing_label_in_csv(tmp_path, text):
    lines = ["feature_0,logit_0,logit_1,label", f"1,2,3,{text}", f"1,2,4,{text}"]
    (tmp_path / "f.csv").write_text("\n".join(lines))
    assert load_features(tmp_path / "f.csv").labels is None


@pytest.mark.parametrize("kind", KINDS)
def test_two_kinds_of_labels_are_refused(tmp_path, kind):
    path = tmp_path / f"f.{kind}"
    both = {"labels": LABELS, "label": 1 - LABELS}
    if kind == "npz":
        np.savez(path, features=FEATURES, logits=LOGITS, **both)
    elif kind == "safetensors":
        save_file({"features": FEATURES, "logits": LOGITS} | both, path)
    elif kind == "jsonl":
        path.write_text('{"features": [1], "logits": [1, 2], "labels": 0, "label": 1}')
    elif kind == "csv":
        path.write_text("feature_0,logit_0,logit_1,labels,label\n1,2,3,0,1\n")
    else:
        columns = {"features": list(FEATURES), "logits": list(LOGITS)}
        pd.DataFrame(columns | both).to_parquet(path)
    with pytest.raises(ValueError, match=r"labels? and labels? are both there: keep one of them"):
        load_features(path)


def test_a_missing_label_beside_one_that_is_there(tmp_path):
    row = '{"features": [1], "logits": [1, 2], "labels": null, "label": 1}\n'
    (tmp_path / "f.jsonl").write_text(row)
    np.testing.assert_array_equal(load_features(tmp_path / "f.jsonl").labels, [1])


def part(path, features):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"features": [[float(f)] for f in features], "logits": [[0.0, 2.0]] * len(features)}
    pd.DataFrame(rows).to_parquet(path)


def test_parts_stand_in_the_order_of_their_numbers(tmp_path):
    """Dask writes part.0 to part.11, Spark part-00000; as text, part.10 comes before part.2."""
    for i in range(12):
        part(tmp_path / "dask" / f"part.{i}.parquet", [i])
    found = load_features(tmp_path / "dask").features.ravel()
    np.testing.assert_array_equal(found, np.arange(12))


def test_hidden_parts_and_what_a_writer_left_are_passed_over(tmp_path):
    part(tmp_path / "f" / "part-0.parquet", [1, 2])
    part(tmp_path / "f" / "_temporary" / "part-0.parquet", [9])
    for name in ("._part-0.parquet", "_metadata", "_SUCCESS", ".part-0.parquet.crc"):
        (tmp_path / "f" / name).write_bytes(b"x")
    np.testing.assert_array_equal(load_features(tmp_path / "f").features.ravel(), [1, 2])


def test_labels_in_the_names_of_folders_are_labels(tmp_path):
    for label in (1, 0):
        part(tmp_path / "f" / f"label={label}" / "part-0.parquet", [10 * label, 10 * label + 1])
    found = load_features(tmp_path / "f")
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.features.ravel(), [0, 1, 10, 11])


def test_tab_separated_values_have_a_suffix_of_their_own(tmp_path):
    (tmp_path / "f.tsv").write_text("feature_0\tlogit_0\tlogit_1\tlabel\n1\t2\t3\t1\n")
    np.testing.assert_array_equal(load_features(tmp_path / "f.tsv").labels, [1])


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_in_another_encoding_is_said(tmp_path, encoding, kind):
    text = "feature_0,logit_0,note\n1,2,é\n" if kind == "csv" else '{"é": 1}'
    (tmp_path / f"f.{kind}").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=rf"f\.{kind} is no text in UTF-8, save it as such"):
        load_features(tmp_path / f"f.{kind}")
