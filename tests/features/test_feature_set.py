"""Feature sets: their arithmetic, their files, and how a classifier fills one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mistakes_lib.classifiers import FeatureClassifier, densenet_bc
from mistakes_lib.features.feature_set import FeatureSet, _usual_batch_size, extract_features
from mistakes_lib.support.devices import resolve_device
from mistakes_lib.support.storage import save_arrays


def feature_set(n=20, d=3, c=4, seed=0, labelled=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(c, size=n) if labelled else None
    return FeatureSet(rng.normal(size=(n, d)), rng.normal(size=(n, c)), labels)


def assert_same(ours, expected):
    np.testing.assert_array_equal(ours.features, expected.features)
    np.testing.assert_array_equal(ours.logits, expected.logits)
    np.testing.assert_array_equal(ours.labels, expected.labels)  # None equals None


def assert_close(ours, expected):
    np.testing.assert_allclose(ours.features, expected.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.labels, expected.labels)


@pytest.mark.parametrize(
    "convert", [np.asarray, torch.tensor, list, lambda rows: torch.tensor(rows).double()]
)
def test_dtypes_are_the_documented_ones(convert):
    rows, labels = [[1.0, 2.0], [3.0, 4.0]], [1, 0]
    batch = FeatureSet(convert(rows), convert(rows), convert(labels))
    assert batch.features.dtype == batch.logits.dtype == np.float32
    assert batch.labels.dtype == batch.predictions.dtype == np.int64
    assert batch.correct.dtype == bool
    np.testing.assert_array_equal(batch.features, rows)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 10**6))
def test_a_prediction_is_the_largest_logit_and_correct_if_it_is_the_label(n, c, seed):
    batch = feature_set(n, 2, c, seed)
    predictions = [max(range(c), key=lambda j: row[j]) for row in batch.logits]
    correct = [p == y for p, y in zip(predictions, batch.labels, strict=True)]
    assert batch.predictions.tolist() == predictions
    assert batch.correct.tolist() == correct
    assert batch.accuracy == pytest.approx(sum(correct) / n)
    assert len(batch) == n


def test_without_labels_nothing_is_right_or_wrong():
    batch = feature_set(labelled=False)
    assert batch.labels is None
    assert len(batch.predictions) == 20
    for name in ("correct", "accuracy"):
        with pytest.raises(ValueError, match="has no labels"):
            getattr(batch, name)


ROWS = {
    "mask": np.arange(20) % 3 == 0,
    "tensor mask": torch.arange(20) % 3 == 0,
    "slice": slice(2, 15, 4),
    "reversed": slice(None, None, -1),
    "indices": np.array([5, 5, 0, -1]),
    "list": [7, 3],
    "one": 4,
}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_picking_rows_picks_them_everywhere(rows, labelled):
    batch = feature_set(labelled=labelled)
    picked = np.atleast_1d(np.arange(20)[rows])
    part = batch[rows]
    assert isinstance(part, FeatureSet)
    assert len(part) == len(picked)
    np.testing.assert_array_equal(part.features, [batch.features[i] for i in picked])
    np.testing.assert_array_equal(part.logits, [batch.logits[i] for i in picked])
    if labelled:
        np.testing.assert_array_equal(part.labels, [batch.labels[i] for i in picked])
    else:
        assert part.labels is None


def test_correct_and_wrong_rows_are_all_rows():
    batch = feature_set()
    right, wrong = batch[batch.correct], batch[~batch.correct]
    assert right.accuracy == 1
    assert wrong.accuracy == 0
    assert len(right) + len(wrong) == len(batch)


def test_picking_rows_that_are_not_there_is_an_error():
    batch = feature_set()
    with pytest.raises(IndexError):
        batch[20]
    with pytest.raises(IndexError):
        batch[[True, False]]
    with pytest.raises(ValueError, match="empty"):
        batch[np.zeros(20, bool)]


NAN = np.array([[0.0], [np.nan], [0.0]])
INFINITE = np.array([[0.0], [0.0], [np.inf]])


@pytest.mark.parametrize(
    ("features", "logits", "labels", "complaint"),
    [
        (np.zeros(3), np.zeros((3, 2)), None, r"features must have shape \(n, d\)"),
        (np.zeros((3, 2)), np.zeros(3), None, r"logits must have shape \(n, d\)"),
        (np.zeros((3, 2)), np.zeros((4, 2)), None, "features has 3 rows, but logits has 4"),
        (np.zeros((0, 2)), np.zeros((0, 2)), None, "features is empty"),
        (NAN, np.zeros((3, 2)), None, "features has a NaN .* first at index 1"),
        (np.zeros((3, 2)), INFINITE, None, "logits has a NaN or an infinity"),
        (np.zeros((3, 2)), np.zeros((3, 2)), [0, 1], "labels has 2 entries, but there are 3"),
        (np.zeros((3, 2)), np.zeros((3, 2)), [0, 2, 1], r"labels\[1\] is 2, outside 0…1"),
        (np.zeros((3, 2)), np.zeros((3, 2)), [0, 1, -1], r"labels\[2\] is -1"),
        (np.zeros((3, 2)), np.zeros((3, 2)), [0, 0.5, 1], "whole numbers"),
        (np.zeros((3, 2)), np.zeros((3, 2)), [[0, 2]] * 3, "labels must be one-dimensional"),
        (
            np.zeros((3, 2)),
            np.zeros((3, 2)),
            [[0, 1]] * 3,
            r"one-hot, \(3, 2\): pass lab",
        ),
        (np.zeros((3, 2)), np.zeros((3, 2)), [1, 2, 1], "if your labels begin with 1, subtract 1"),
    ],
)
def test_bad_contents_get_one_clear_error(features, logits, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        FeatureSet(features, logits, labels)


def test_contents_that_are_not_numbers_are_refused():
    with pytest.raises(TypeError, match="features must be numeric"):
        FeatureSet([["a"]], [[1.0]])


@pytest.mark.parametrize("labelled", [True, False])
def test_a_saved_set_comes_back(tmp_path, labelled):
    batch = feature_set(labelled=labelled)
    batch.save(tmp_path / "new" / "a.safetensors")
    assert_same(FeatureSet.load(tmp_path / "new" / "a.safetensors"), batch)


def test_half_precision_halves_the_features_and_keeps_the_rest(tmp_path):
    batch = feature_set(1000, 50)
    batch.save(tmp_path / "whole")
    batch.save(tmp_path / "half", features_dtype=np.float16)
    again = FeatureSet.load(tmp_path / "half")
    assert again.features.dtype == np.float32
    np.testing.assert_array_equal(again.features, batch.features.astype(np.float16))
    np.testing.assert_allclose(again.features, batch.features, rtol=2**-11, atol=2**-25)
    np.testing.assert_array_equal(again.logits, batch.logits)
    np.testing.assert_array_equal(again.labels, batch.labels)
    saved = (tmp_path / "whole").stat().st_size - (tmp_path / "half").stat().st_size
    assert saved == pytest.approx(2 * 1000 * 50, abs=200)


def test_what_half_precision_cannot_hold_is_not_saved(tmp_path):
    batch = FeatureSet([[1.0], [-1e5]], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"100000\.0 does not fit float16"):
        batch.save(tmp_path / "a", features_dtype=np.float16)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a"
    feature_set().save(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        FeatureSet.load(path)
    path.write_bytes(data[:-7])
    with pytest.raises(ValueError, match="damaged"):
        FeatureSet.load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        FeatureSet.load(tmp_path / "nothing")
    save_arrays(tmp_path / "gmm", {"a": np.ones(2)}, {"kind": "DiagonalGMM"})
    with pytest.raises(ValueError, match="holds a DiagonalGMM, not a FeatureSet"):
        FeatureSet.load(tmp_path / "gmm")
    save_arrays(tmp_path / "other", {"a": np.ones(2)})
    with pytest.raises(ValueError, match="holds something else, not a FeatureSet"):
        FeatureSet.load(tmp_path / "other")


@pytest.fixture(scope="module")
def classifier():
    """A small network whose batch normalisation and dropout act differently in training."""
    torch.manual_seed(0)
    network = densenet_bc(3, depth=10, growth_rate=4, mean=(0.5,) * 3, std=(0.25,) * 3)
    network(torch.rand(50, 3, 8, 8))  # running statistics
    return network.eval()


def pictures(n=23):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(n, 3, 8, 8), dtype=np.uint8), rng.integers(3, size=n)


def by_hand(classifier, images, labels=None):
    with torch.no_grad():
        x = torch.tensor(images / 255, dtype=torch.float32)
        return FeatureSet(classifier.features(x), classifier(x), labels)


SOURCES = {
    "uint8 array": lambda images: images,
    "uint8 tensor": torch.tensor,
    "float array": lambda images: (images / 255).astype(np.float32),
    "double array": lambda images: images / 255,
    "float tensor": lambda images: torch.tensor(images / 255, dtype=torch.float32),
    "reversed twice": lambda images: images[::-1].copy()[::-1],
    "batches": lambda images: [torch.tensor(images[:9]), torch.tensor(images[9:])],
    "array batches": lambda images: (images[i : i + 5] for i in range(0, len(images), 5)),
    "loader": lambda images: DataLoader(torch.tensor(images), batch_size=4),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_gives_the_classifiers_features(classifier, source):
    images, labels = pictures()
    ours = extract_features(classifier, source(images), labels=labels, device="cpu")
    assert_close(ours, by_hand(classifier, images, labels))


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 1000])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_the_batch_size_changes_nothing(classifier, batch_size, make):
    images, labels = pictures()
    ours = extract_features(
        classifier, make(images), labels=labels, batch_size=batch_size, device="cpu"
    )
    assert_close(ours, by_hand(classifier, images, labels))


def test_a_cpu_takes_64_images_a_step_and_another_device_512(classifier, monkeypatch):
    sizes = []
    body = classifier.body.forward
    monkeypatch.setattr(classifier.body, "forward", lambda x: sizes.append(len(x)) or body(x))
    extract_features(classifier, np.zeros((130, 3, 8, 8), dtype=np.uint8), device="cpu")
    assert sizes == [64, 64, 2]
    assert _usual_batch_size(torch.device("cuda", 1)) == 512


def test_a_densenets_features_depend_on_the_batch_by_rounding_only():
    """Convolutions may choose their algorithm by the batch's size."""
    torch.manual_seed(0)
    classifier = densenet_bc(4, depth=16, growth_rate=4)
    images = np.random.default_rng(0).integers(256, size=(140, 3, 8, 8), dtype=np.uint8)
    usual, *others = (
        extract_features(classifier, images, batch_size=size, device="cpu")
        for size in (None, 1, 512)
    )
    for other in others:
        assert_close(other, usual)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_loader_brings_its_labels(classifier, batch_size):
    images, labels = pictures()
    pairs = TensorDataset(torch.tensor(images / 255, dtype=torch.float32), torch.tensor(labels))
    ours = extract_features(classifier, DataLoader(pairs, batch_size=batch_size), device="cpu")
    assert_close(ours, by_hand(classifier, images, labels))


def test_without_labels_there_are_none(classifier):
    assert extract_features(classifier, pictures()[0], device="cpu").labels is None


def test_the_images_are_not_written_to(classifier):
    images, _ = pictures()
    images.flags.writeable = False
    before = images.copy()
    extract_features(classifier, images, device="cpu")
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("training", [True, False])
def test_features_are_those_of_eval_mode_and_the_mode_is_restored(classifier, training):
    images, _ = pictures()
    expected = by_hand(classifier, images)
    statistics = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
    frozen = classifier.body[-4]  # a user may train a network while its last norm stands still
    try:
        classifier.train(training)
        frozen.eval()
        modes = [module.training for module in classifier.modules()]
        assert_close(extract_features(classifier, images, device="cpu"), expected)
        assert [module.training for module in classifier.modules()] == modes
        with pytest.raises(ValueError, match="images have 5 channels"):
            extract_features(classifier, np.zeros((2, 5, 8, 8), np.uint8), device="cpu")
        assert [module.training for module in classifier.modules()] == modes
    finally:
        classifier.eval()
    for name, buffer in classifier.named_buffers():
        assert torch.equal(buffer, statistics[name]), name


def test_a_double_precision_classifier_is_run_in_double_precision():
    torch.manual_seed(0)
    classifier = FeatureClassifier(nn.Flatten(), nn.Linear(192, 3)).double()
    images, _ = pictures()
    ours = extract_features(classifier, images, device="cpu")
    np.testing.assert_array_equal(ours.features, (images.reshape(-1, 192) / 255).astype("f4"))


@pytest.mark.parametrize(
    ("images", "options", "complaint"),
    [
        (np.zeros((0, 3, 8, 8), np.uint8), {}, "no images"),
        (torch.zeros(0, 3, 8, 8), {}, "no images"),
        ([], {}, "no images"),
        (np.zeros((3, 8, 8), np.uint8), {}, r"images must have shape \(n, 3, h, w\)"),
        (np.zeros((2, 3, 8, 8), np.int64), {}, "images must be uint8 or float, got torch.int64"),
        (np.full((2, 3, 8, 8), np.nan), {}, "NaN"),
        (np.zeros((2, 3, 8, 8)), {"labels": [0]}, "labels has 1 entries, but there are 2 rows"),
        (np.zeros((2, 3, 8, 8)), {"labels": [0, 3]}, r"labels\[1\] is 3"),
        (np.zeros((2, 3, 8, 8)), {"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_input_gets_one_clear_error(classifier, images, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        extract_features(classifier, images, device="cpu", **options)


def test_devices_are_read_as_torch_reads_them():
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(RuntimeError):
        resolve_device("abacus")
