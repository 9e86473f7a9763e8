"""Files are whole or absent, the same every time, and refused once damaged."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from mistakes_lib.support.storage import (
    atomic_write,
    join_arrays,
    load_arrays,
    save_arrays,
    sha256_of,
)

DTYPES = st.sampled_from(["f2", "f4", "f8", "i8", "u1", "?"])
ARRAYS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    max_size=4,
)


@settings(deadline=None, max_examples=50)
@given(ARRAYS)
def test_arrays_and_metadata_come_back(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("storage") / "new" / "arrays.safetensors"
    metadata = {"kind": "test ü", "history": [{"loss": 0.1}, None]}
    save_arrays(path, arrays, metadata)
    loaded, loaded_metadata = load_arrays(path)
    assert loaded_metadata == metadata
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array)


def test_any_memory_layout_comes_back(tmp_path):
    array = np.arange(24.0).reshape(2, 3, 4)
    layouts = {"transposed": array.T, "reversed": array[::-1], "strided": array[..., ::2]}
    save_arrays(tmp_path / "a", layouts)
    for name, loaded in load_arrays(tmp_path / "a")[0].items():
        np.testing.assert_array_equal(loaded, layouts[name])


def test_the_same_contents_give_the_same_bytes(tmp_path):
    x, y = np.arange(3.0), np.eye(2)
    save_arrays(tmp_path / "a", {"x": x, "y": y}, {"p": 1, "q": 2})
    save_arrays(tmp_path / "b", {"y": y, "x": x}, {"q": 2, "p": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("row", [0, 1, 7, 15])
def test_one_flipped_bit_is_detected(tmp_path, row):
    path = tmp_path / "a"
    save_arrays(path, {"x": np.arange(16.0)})
    data = bytearray(path.read_bytes())
    data[len(data) - 16 * 8 + 8 * row] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged: its checksum"):
        load_arrays(path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "a"
    save_arrays(path, {"x": np.arange(16.0)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        load_arrays(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load_arrays(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_arrays(tmp_path)
    save_file({"x": np.ones(2)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="not written by mistakes_lib"):
        load_arrays(tmp_path / "foreign")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="killed"), atomic_write(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError("killed")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_finished_write_replaces_the_file_under_the_usual_permissions(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    old_mask = os.umask(0o027)
    try:
        with atomic_write(path) as temporary:
            temporary.write_text("new")
            assert not path.exists()
    finally:
        os.umask(old_mask)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(list(path.parent.iterdir())) == 1


def test_sha256_of_the_standards_example(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize("counts", [[1], [5, 1, 3], [4, 4, 4, 4]])
def test_joined_files_have_the_bytes_of_one_with_all_rows(tmp_path, counts):
    rng = np.random.default_rng(0)
    kinds = {"features": ("f4", 7), "logits": ("f8", 3), "half": ("f2", 5), "labels": ("i8", None)}
    parts = [
        {
            name: rng.normal(size=(n, columns) if columns else n).astype(dtype)
            for name, (dtype, columns) in kinds.items()
        }
        for n in counts
    ]
    paths = [tmp_path / f"{number}.safetensors" for number in range(len(parts))]
    for path, arrays in zip(paths, parts, strict=True):
        save_arrays(path, arrays)
    whole = {name: np.concatenate([arrays[name] for arrays in parts]) for name in kinds}
    save_arrays(tmp_path / "expected.safetensors", whole, {"kind": "test"})
    joined = tmp_path / "joined.safetensors"
    join_arrays(joined, paths, {"kind": "test"})
    assert joined.read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
    found, metadata = load_arrays(joined, ["test"], mapped=True)
    assert metadata == {"kind": "test"}
    for name, array in whole.items():
        assert isinstance(found[name], np.memmap) and not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: d[:100], lambda d: b""]
)
def test_a_damaged_file_is_refused_also_where_it_is_mapped_or_joined(tmp_path, damage):
    path = tmp_path / "arrays.safetensors"
    save_arrays(path, {"a": np.ones((40, 2))})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"arrays\.safetensors is damaged"):
        load_arrays(path, mapped=True)
    with pytest.raises(ValueError, match=r"arrays\.safetensors is damaged"):
        join_arrays(tmp_path / "joined.safetensors", [path])
    with pytest.raises(FileNotFoundError):
        join_arrays(tmp_path / "joined.safetensors", [tmp_path / "none.safetensors"])
    assert not (tmp_path / "joined.safetensors").exists()


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder: name a file in it"):
        save_arrays(tmp_path, {"x": np.zeros(1)})
