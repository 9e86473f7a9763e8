"""What no page, no source and no run of the repository says any more."""

import subprocess

from mistakes_lib.support.locations import BOOK


def test_no_file_tells_of_compressed_copies():
    """The images of both data sets are the original ones."""
    command = ["git", "grep", "-I", "-i", "-n", " ".join(("JPEG", "copies"))]
    found = subprocess.run(command, cwd=BOOK.parent, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (1, "", "")
