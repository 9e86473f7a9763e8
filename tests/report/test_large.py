"""A report on features that are larger than memory: blocks on disk, mapped files, equal results."""

import sys

import numpy as np
import pytest

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.report import facts as report_facts
from mistakes_lib.report.facts import make_report
from mistakes_lib.report.page import report_html
from mistakes_lib.scores import likelihoods
from mistakes_lib.support.storage import join_arrays, load_arrays, save_arrays
from tests.helpers.batches import blobs


def mapped(batch, folder, name, parts=4):
    """The same FeatureSet, as blocks on disk that are joined and mapped."""
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(len(batch)), parts)):
        own = {part: getattr(batch, part)[rows] for part in ("features", "logits", "labels")}
        paths.append(folder / f"{name}-{number}.safetensors")
        save_arrays(paths[-1], own)
    join_arrays(folder / f"{name}.safetensors", paths)
    return FeatureSet(**load_arrays(folder / f"{name}.safetensors", mapped=True)[0])


def test_mapped_features_give_the_report_of_those_in_memory(tmp_path):
    sets = [blobs(n=n, seed=seed) for seed, n in enumerate((9000, 5000, 5000))]
    on_disk = [mapped(batch, tmp_path, str(i)) for i, batch in enumerate(sets)]
    assert all(isinstance(batch.features.base, np.memmap) for batch in on_disk)
    expected, found = (make_report(*each, n_components=3).facts for each in (sets, on_disk))
    assert found == expected and found["learned_from"] == {}


def test_what_needs_memory_learns_from_some_and_says_so(monkeypatch, tmp_path):
    """Scores of the others, of classes in blocks too, are those of all inputs."""
    train, validation, test = (blobs(n=n, seed=seed) for seed, n in enumerate((6000, 500, 500)))
    expected = make_report(train, validation, test, n_components=3).facts
    monkeypatch.setattr(report_facts, "MOST_IN_MEMORY", 300)
    monkeypatch.setattr(likelihoods, "MANY", 300)
    report = make_report(mapped(train, tmp_path, "train"), validation, test, n_components=3, seed=0)
    assert report.facts["learned_from"] == {"Nearest neighbors": 300, "ViM": 300}
    page = " ".join(report_html(report).split())
    assert "ViM has learned from 300 of the 6,000 training inputs, drawn at random" in page
    rows = {row["method"]: row for row in report.facts["methods"]["mistakes"]}
    for row in expected["methods"]["mistakes"]:
        near = 0.1 if row["method"] in report.facts["learned_from"] else 1e-9
        assert rows[row["method"]]["AUROC"] == pytest.approx(row["AUROC"], abs=near)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
import mistakes_lib.report.facts as facts
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import likelihoods
from mistakes_lib.support.storage import join_arrays, load_arrays, save_arrays

facts.MOST_IN_MEMORY = likelihoods.MANY = 2000
folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
head = rng.normal(size=(512, 3)).astype(np.float32)
centres = 2 * rng.normal(size=(3, 512)).astype(np.float32)

def block(n):
    labels = rng.integers(3, size=n)
    features = centres[labels] + rng.normal(size=(n, 512)).astype(np.float32)
    logits = features @ centres.T - np.square(centres).sum(axis=1) / 2
    labels[::20] = (labels[::20] + 1) % 3
    return {"features": features, "logits": logits / 100, "labels": labels}

def stored(name, n):
    paths = [folder / f"{name}{start}.safetensors" for start in range(0, n, 5000)]
    for path in paths:
        save_arrays(path, block(min(5000, n)))
    join_arrays(folder / f"{name}.safetensors", paths)
    return FeatureSet(**load_arrays(folder / f"{name}.safetensors", mapped=True)[0])

small = [FeatureSet(**block(n)) for n in (3000, 1000, 1000)]
facts.make_report(*small, n_components=3)  # libraries have what they need from now on
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
limit = used + 150 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
sets = stored("train", 90_000), stored("validation", 2000), stored("test", 2000)
found = facts.make_report(*sets, n_components=3).facts
assert len(found["methods"]["mistakes"]) == 11, found["left_out"]
try:
    np.empty((90_000, 512), dtype=np.float32)  # the training features: the limit is real
except MemoryError:
    print("done within the limit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_report_takes_less_memory_than_its_training_features(nursery, tmp_path):
    child = nursery.start(LIMITED, tmp_path)
    assert child.wait() == 0, child.stderr
    assert child.stdout == "done within the limit\n"
