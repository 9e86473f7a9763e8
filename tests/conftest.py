"""What all tests share: which of them can run here, and kernels that are the same everywhere."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: idle threads are not to spin
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before anything imports torch

import matplotlib.font_manager  # noqa: F401  makes the font cache now: later it would print so
import pytest

from book.building.executing import isolate_kernels
from tests.helpers.processes import Nursery

isolate_kernels()


@pytest.fixture(autouse=True)
def environment_as_it_was():
    """Dask sets thread counts in this process's environment, which later kernels would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def pytest_collection_modifyitems(items):
    """Skip tests on real images where there are none."""
    if os.environ.get("MISTAKES_DATA"):
        return
    skip = pytest.mark.skip(reason="needs real images: set MISTAKES_DATA to the folder with them")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    """Starts processes of their own, see :mod:`tests.helpers.processes`."""
    return Nursery(tmp_path_factory.mktemp("nursery"))
