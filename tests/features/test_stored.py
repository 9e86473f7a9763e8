"""Features on disk: whole, or in blocks of which a killed computation has some."""

import numpy as np
import pytest
from PIL import Image
from torch import nn

from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.data.files import list_files
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.features.stored import fingerprint_of, stored_features


@pytest.fixture
def files(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for i in range(10):
        Image.new("L", (2, 2), 20 * i).save(tmp_path / "images" / "cat" / f"{i}.png")
    return list_files(tmp_path / "images")


class Compute:
    """Features of files, and how many files were asked for; dies after some calls."""

    def __init__(self, dies_at=99):
        self.asked, self.dies_at = [], dies_at

    def __call__(self, files):
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append(len(files))
        values = np.array([[float(path.stem)] for path in files.paths])
        return FeatureSet(values, np.tile([2.0, -1.0], (len(files), 1)), files.labels)


def test_a_killed_computation_goes_on_where_it_was(tmp_path, files):
    dying, again, third = Compute(dies_at=2), Compute(), Compute()
    with pytest.raises(KeyboardInterrupt):
        stored_features(dying, tmp_path / "out", "train", files, "net", block=4)
    found = stored_features(again, tmp_path / "out", "train", files, "net", block=4)
    assert (dying.asked, again.asked) == ([4, 4], [2])
    np.testing.assert_array_equal(found.features.ravel(), np.arange(10))
    same = stored_features(third, tmp_path / "out", "train", files, "net", block=4)
    np.testing.assert_array_equal(same.features, found.features)
    assert third.asked == [] and [p.name for p in (tmp_path / "out").iterdir()] == [
        "train.safetensors"
    ]
    assert len(FeatureSet.load(tmp_path / "out" / "train.safetensors")) == 10


def test_features_of_another_network_or_of_changed_files_are_made_again(tmp_path, files):
    stored_features(Compute(), tmp_path / "out", "train", files, "net")
    other, changed = Compute(), Compute()
    stored_features(other, tmp_path / "out", "train", files, "another net")
    Image.new("RGB", (3, 3)).save(files.paths[0])
    stored_features(changed, tmp_path / "out", "train", files, "another net")
    assert other.asked == changed.asked == [10]
    (tmp_path / "out" / "train.safetensors").write_bytes(b"cut")
    damaged = Compute()
    stored_features(damaged, tmp_path / "out", "train", files, "another net")
    assert damaged.asked == [10]


def test_the_fingerprint_is_of_the_weights_and_not_of_their_names():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    one, other = (FeatureClassifier.from_module(net, mean=(m,) * 3) for m in (0.0, 0.5))
    assert fingerprint_of(one) == fingerprint_of(other)
    before = fingerprint_of(one)
    nn.init.zeros_(net[1].bias)
    nn.init.zeros_(net[1].weight)
    assert fingerprint_of(one) != before
