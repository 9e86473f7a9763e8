"""Small densities that the room's tests share."""

import pytest

from mistakes_lib.density import DiagonalGMM
from tests.helpers.blobs import blobs


@pytest.fixture(scope="module")
def gaussian():
    return DiagonalGMM(1).fit(blobs())


@pytest.fixture(scope="module")
def mixture():
    return DiagonalGMM(3, random_state=0).fit(blobs())
