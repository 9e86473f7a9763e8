"""Rows that come in blocks, and memory."""

import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mistakes_lib.density import DiagonalGMM
from tests.helpers.rows import overlapping, tanh_features


def test_blocks_and_mapped_files_give_the_mixture_of_the_array(tmp_path):
    rows = tanh_features(np.random.default_rng(0))
    np.save(tmp_path / "rows.npy", rows)
    others = [
        np.load(tmp_path / "rows.npy", mmap_mode="r"),
        [rows[:1], rows[1:1000], rows[1000:]],
        DataLoader(TensorDataset(torch.from_numpy(rows)), 700, collate_fn=stacked),
    ]
    options = {"random_state": 0, "device": "cpu"}
    for start in ("k-means++", "kmeans", "random_from_data"):
        expected = DiagonalGMM(40, init_params=start, **options).fit(rows)
        for X in others:
            gmm = DiagonalGMM(40, init_params=start, **options).fit(X)
            assert gmm.n_features_in_ == 64
            np.testing.assert_allclose(gmm.lower_bounds_, expected.lower_bounds_, rtol=1e-9)
            np.testing.assert_allclose(gmm.means_, expected.means_, atol=1e-6)
            np.testing.assert_allclose(gmm.covariances_, expected.covariances_, atol=1e-6)


def stacked(items):
    return torch.stack([row for (row,) in items])


@pytest.mark.parametrize(
    ("blocks", "error", "complaint"),
    [
        (lambda rows: iter([rows]), TypeError, "an iterator ends: pass a list of arrays"),
        (lambda rows: (block for block in [rows]), TypeError, "an iterator ends"),
        (lambda rows: [rows, rows[:, :2]], ValueError, "block 1 of X has 2 features, those befo"),
        (lambda rows: [rows, rows * np.nan], ValueError, "block 1 of X has a NaN or an infinity"),
        (lambda rows: [rows, rows[0]], ValueError, r"block 1 of X must have shape \(n, d\)"),
        (lambda rows: {1: rows}.values(), ValueError, "n_samples=600 rows are too few"),
        (lambda rows: {}.values(), ValueError, "X has no blocks"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks, error, complaint):
    with pytest.raises(error, match=complaint):
        DiagonalGMM(700, device="cpu").fit(blocks(overlapping()))


LIMITED = """
import resource
import numpy as np
from mistakes_lib import DiagonalGMM

rng = np.random.default_rng(0)
centres = rng.normal(size=(500, 64)).astype(np.float32)
rows = centres[rng.integers(500, size=200_000)]
rows += 0.3 * rng.normal(size=rows.shape).astype(np.float32)
DiagonalGMM(2, max_iter=2, tol=1e9).fit(rows[:5000])  # libraries have what they need from now on
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
limit = used + 400 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
gmm = DiagonalGMM(500, max_iter=2, tol=0, random_state=0).fit(rows)
assert np.isfinite(gmm.lower_bounds_).all()
try:
    np.ones((200_000, 500))  # what responsibilities of all rows would take: the limit is real
except MemoryError:
    print("done within the limit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_does_not_grow_with_rows_times_components(nursery):
    child = nursery.start(LIMITED)
    assert child.wait() == 0, child.stderr
    assert child.stdout == "done within the limit\n"


@pytest.mark.slow
def test_a_thousand_components_on_as_many_rows_as_cifar_has():
    """45,000 × 342 tanh features of low intrinsic dimension, some dead: EM converges, no NaN."""
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(1000, 20))[rng.integers(1000, size=45_000)]
    hidden = (groups + 0.2 * rng.normal(size=groups.shape)).astype(np.float32)
    rows = np.tanh(hidden @ rng.normal(size=(20, 342)).astype(np.float32) / 3)
    rows[:, :5] = 1.0
    gmm = DiagonalGMM(1000, random_state=0).fit(rows)
    assert gmm.converged_
    assert gmm.n_iter_ > 2, "the start is not the end"
    for values in (gmm.weights_, gmm.means_, gmm.covariances_, gmm.score_samples(rows[:2000])):
        assert np.isfinite(values).all()
    assert np.diff(gmm.lower_bounds_).min() > 0
