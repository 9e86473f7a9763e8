"""One run of the small experiment for all tests of the room."""

import shutil

import pytest
import yaml

from mistakes_lib.runs import load_run
from tests.helpers.runs import (
    EXPERIMENT,
    make,
)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A folder with one undisturbed run; tests read it only."""
    root = tmp_path_factory.mktemp("published")
    make(root)
    return root


@pytest.fixture(scope="session")
def run(published):
    return load_run(published / EXPERIMENT.name)


@pytest.fixture
def root(published, tmp_path):
    """A copy of that folder, with the same times, which a test may change."""
    return shutil.copytree(published, tmp_path / "runs")


@pytest.fixture
def write(tmp_path):
    """Write a parameters file from a dict or a text."""

    def write(parameters):
        path = tmp_path / "parameters.yml"
        path.write_text(parameters if isinstance(parameters, str) else yaml.safe_dump(parameters))
        return path

    return write
