"""A mixture fitted by Dask workers is the one fitted in memory, even if a worker dies."""

import os
import signal
import threading

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.density.gmm.dask_rows import DaskRows

OPTIONS = {"random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 16))
    return centres[rng.integers(60, size=4000)] + 0.5 * rng.normal(size=(4000, 16))


def assert_same_mixture(ours, expected):
    assert ours.n_features_in_ == expected.n_features_in_
    np.testing.assert_allclose(ours.lower_bounds_, expected.lower_bounds_, rtol=1e-9)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(expected, name), atol=1e-6)


@pytest.mark.parametrize("start", ["k-means++", "kmeans", "random_from_data"])
@pytest.mark.parametrize("chunks", [(4000, 16), (300, 16), (1000, 5)])
def test_a_dask_array_gives_the_mixture_of_the_array(rows, start, chunks):
    expected = DiagonalGMM(40, init_params=start, **OPTIONS).fit(rows)
    with dask.config.set(scheduler="synchronous"):
        ours = DiagonalGMM(40, init_params=start, **OPTIONS).fit(da.from_array(rows, chunks))
    assert_same_mixture(ours, expected)


@pytest.mark.slow
def test_the_death_of_a_worker_changes_nothing(rows, monkeypatch):
    """Of two worker processes one is killed between two EM iterations."""
    expected = DiagonalGMM(40, tol=0, max_iter=12, **OPTIONS)
    with pytest.warns(match="did not converge"):
        expected.fit(rows)
    workers = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with workers as cluster, Client(cluster) as client:
        X = client.persist(da.from_array(rows, (250, 16)))
        pids = list(client.run(os.getpid).values())
        sums, plain = [], DaskRows.sum

        def sum_and_kill(self, make):
            sums.append(make)
            if len(sums) == 4:
                threading.Timer(0.05, os.kill, (pids[0], signal.SIGKILL)).start()
            return plain(self, make)

        monkeypatch.setattr(DaskRows, "sum", sum_and_kill)
        with pytest.warns(match="did not converge"):
            ours = DiagonalGMM(40, tol=0, max_iter=12, **OPTIONS).fit(X)
        survivors = list(client.run(os.getpid).values())
    assert pids[0] not in survivors, "nobody was killed"
    assert_same_mixture(ours, expected)


def test_a_dask_array_that_does_not_fit_is_refused(rows):
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(ValueError, match=r"must have shape \(n, d\), got 1 dimensions"):
            DiagonalGMM(3).fit(da.ones(30))
        with pytest.raises(ValueError, match="a chunk of X has a NaN or an infinity in 300 of 300"):
            DiagonalGMM(3).fit(da.from_array(rows[:3900] * np.nan, (300, 16)))  # equal chunks
        with pytest.raises(ValueError, match="n_samples=4000 rows are too few for n_components"):
            DiagonalGMM(5000).fit(da.from_array(rows, (300, 16)))
