"""What no page, no source and no run of the repository says any more."""

import subprocess

import pytest

from mistakes_lib.support.locations import BOOK


@pytest.mark.parametrize("words", [("JPEG", "copies"), ("not", "at", "hand")])
def test_no_file_says(words):
    """The images of both data sets are the original ones."""
    command = ["git", "grep", "-I", "-i", "-n", " ".join(words)]
    found = subprocess.run(command, cwd=BOOK.parent, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (1, "", "")
