"""A detector keeps its promise, comes back bit for bit, and serves from the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.detector import Detector, fit_detector
from mistakes_lib.evaluation.thresholds import select_threshold
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import LogLikelihood, Mahalanobis
from mistakes_lib.support.storage import save_arrays
from tests.helpers.commands import mistakes


def batch(n, seed=0, shift=0.0):
    """Two classes in three dimensions; the head is right more often far from the border."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    features = rng.normal(size=(n, 3)) + 2 * labels[:, None] + shift
    edge = features.sum(axis=1) - 3
    return FeatureSet(features, np.stack([-edge, edge], axis=1), labels)


TRAIN, VALIDATION, TEST = batch(600), batch(400, 1), batch(500, 2)


def test_the_default_is_the_papers_detector_with_a_guarantee():
    detector = fit_detector(TRAIN, VALIDATION)
    assert isinstance(detector.scorer, LogLikelihood)
    assert detector.scorer.density_.n_components == 60
    assert detector.flag(VALIDATION)[VALIDATION.correct].mean() <= 0.05
    assert detector.flag(batch(200, 3, shift=9.0)).mean() > 0.95
    np.testing.assert_array_equal(
        detector.flag(TEST), detector.score_samples(TEST) < detector.threshold
    )


def test_a_criterion_chooses_as_select_threshold_does():
    detector = fit_detector(TRAIN, VALIDATION, scorer=Mahalanobis(), criterion="youden")
    scores = Mahalanobis().fit(TRAIN).score_samples(VALIDATION)
    expected = select_threshold(scores, VALIDATION.correct, criterion="youden")
    assert detector.threshold == expected.value and "youden" in detector.rule


def test_detectors_are_the_same_in_another_process(nursery, tmp_path):
    methods = ("likelihood", "zheng-hong", "calibrated", "vim", "energy")
    detectors = {m: fit_detector(TRAIN, VALIDATION, method=m) for m in methods}
    for method, detector in detectors.items():
        detector.save(tmp_path / method)
    TEST.save(tmp_path / "test.safetensors")
    code = (
        f"import os; os.chdir({str(tmp_path)!r});"
        "import numpy as np; from mistakes_lib import Detector, FeatureSet;"
        "batch = FeatureSet.load('test.safetensors');"
        f"loaded = {{m: Detector.load(m) for m in {methods}}};"
        "np.savez('scores', **{m: d.score_samples(batch) for m, d in loaded.items()});"
        "np.savez('flags', **{m: d.flag(batch) for m, d in loaded.items()})"
    )
    child = nursery.start(code)
    assert child.wait() == 0, child.stderr
    scores, flags = np.load(tmp_path / "scores.npz"), np.load(tmp_path / "flags.npz")
    for method, detector in detectors.items():
        np.testing.assert_array_equal(scores[method], detector.score_samples(TEST))
        np.testing.assert_array_equal(flags[method], detector.flag(TEST))
        assert Detector.load(tmp_path / method).rule == detector.rule


def test_what_cannot_be_promised_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"19 correct .* bring at least 99"):
        few = VALIDATION[VALIDATION.correct][:19]
        fit_detector(TRAIN, few, false_alarms=0.01)
    with pytest.raises(ValueError, match="chosen on validation labels, but there are none"):
        fit_detector(TRAIN, FeatureSet(TRAIN.features, TRAIN.logits))
    with pytest.raises(ValueError, match="unknown method 'x': choose from likelihood, nearest"):
        fit_detector(TRAIN, VALIDATION, method="x")
    DiagonalGMM(2).fit(TRAIN.features).save(tmp_path / "density")
    with pytest.raises(ValueError, match="holds a DiagonalGMM, not a Detector"):
        Detector.load(tmp_path / "density")
    save_arrays(tmp_path / "odd", {"a": np.ones(1)}, {"kind": "Detector", "scorer": {"kind": "x"}})
    with pytest.raises(ValueError, match="holds no detector of this version"):
        Detector.load(tmp_path / "odd")


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with files of features and the detector that the command fitted on them."""
    folder = tmp_path_factory.mktemp("detector")
    for name, part in {"train": TRAIN, "validation": VALIDATION, "test": TEST}.items():
        np.savez(folder / name, features=part.features, logits=part.logits, labels=part.labels)
    out = folder / "detector.safetensors"
    result = mistakes("fit", folder / "train.npz", folder / "validation.npz", "--out", out)
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_fit_says_what_the_detector_does(fitted):
    folder, said = fitted
    detector = Detector.load(folder / "detector.safetensors")
    np.testing.assert_array_equal(
        detector.score_samples(TEST), fit_detector(TRAIN, VALIDATION).score_samples(TEST)
    )
    alarms = detector.flag(VALIDATION)[VALIDATION.correct].mean()
    assert f"validation: {alarms:.1%} of {VALIDATION.correct.sum()} correct" in said
    assert "at most 5.00% false alarms, guaranteed" in said


@pytest.mark.parametrize("method", ["likelihood", "zheng-hong"])
def test_the_seed_of_fit_is_that_of_every_method(fitted, tmp_path, method):
    folder, scores = fitted[0], []
    for place, seed in enumerate((3, 3, 4)):
        options = ("--method", method, "--seed", seed)
        out = tmp_path / f"{place}.safetensors"
        data = (folder / "train.npz", folder / "validation.npz")
        result = mistakes("fit", *data, *options, "--out", out)
        assert result.exit_code == 0, result.output
        scores.append(Detector.load(out).score_samples(TEST))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_score_prints_a_line_an_input(fitted):
    folder, _ = fitted
    detector = Detector.load(folder / "detector.safetensors")
    options = ("--detector", folder / "detector.safetensors")
    lines = mistakes("score", folder / "test.npz", *options).stdout.splitlines()
    assert lines[0] == "score,flagged" and len(lines) == len(TEST) + 1
    scores, flags = zip(*(line.split(",") for line in lines[1:]), strict=True)
    np.testing.assert_array_equal(np.array(scores, dtype=float), detector.score_samples(TEST))
    np.testing.assert_array_equal(np.array(flags) == "true", detector.flag(TEST))
    rows = mistakes("score", folder / "test.npz", *options, "--format", "jsonl").stdout
    assert [json.loads(row)["flagged"] for row in rows.splitlines()] == detector.flag(TEST).tolist()


def test_score_reads_a_stream(fitted):
    folder, _ = fitted
    rows = zip(TEST.features.tolist(), TEST.logits.tolist(), strict=True)
    stdin = "".join(json.dumps({"features": f, "logits": z}) + "\n" for f, z in rows)
    options = ("--detector", folder / "detector.safetensors", "--format", "jsonl")
    streamed = mistakes("score", "-", *options, stdin=stdin).stdout
    assert streamed == mistakes("score", folder / "test.npz", *options).stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("test.npz", "--format", "xml"), "--format must be csv or jsonl"),
        (("none.npz",), "no file"),
        (("test.npz", "--detector", "test.npz"), "test.npz is damaged or no safetensors file"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(fitted, monkeypatch, arguments, complaint):
    monkeypatch.chdir(fitted[0])
    result = mistakes("score", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


# --- what users run into -------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_features_of_any_unit_give_the_same_flags(unit):
    """scikit-learn's regularisation is absolute: × 1e-4 it would be the mixture's whole spread."""
    sets = [FeatureSet(s.features * unit, s.logits, s.labels) for s in (TRAIN, VALIDATION, TEST)]
    detector = fit_detector(*sets[:2])
    expected = fit_detector(TRAIN, VALIDATION).flag(TEST)
    assert (detector.flag(sets[2]) == expected).mean() > 0.98


def test_a_service_gets_its_answer_row_by_row(fitted):
    """As the README shows: my_service | mistakes score -; it writes on when it has its answer."""
    folder, _ = fitted
    command = [sys.executable, "-m", "mistakes_lib", "score", "-", "--format", "jsonl",
               "--detector", str(folder / "detector.safetensors")]  # fmt: skip
    expected = Detector.load(folder / "detector.safetensors").score_samples(TEST)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as own:
        for row in range(3):
            features, logits = TEST.features[row].tolist(), TEST.logits[row].tolist()
            own.stdin.write(json.dumps({"features": features, "logits": logits}) + "\n")
            own.stdin.flush()
            assert json.loads(own.stdout.readline())["score"] == pytest.approx(expected[row])
        own.stdin.close()
        assert own.wait() == 0


def test_a_reader_that_has_read_enough_is_no_error(fitted):
    folder, _ = fitted
    command = (
        f"{sys.executable} -m mistakes_lib score {folder / 'test.npz'} "
        f"--detector {folder / 'detector.safetensors'} | head -1"
    )
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "score,flagged\n", "")
