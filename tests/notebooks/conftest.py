"""The pages, which several files of tests look at."""

import pytest
from filelock import FileLock

from book.build import ROOT, publish


@pytest.fixture(scope="session")
def html(tmp_path_factory, worker_id):
    """The pages of the committed book, published anew with every warning an error.

    pytest's processes publish them once, for all.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent
    pages = shared / "book" / "_build" / "html"
    with FileLock(shared / "book.lock"):
        if not (shared / "published").exists():
            publish(ROOT, shared / "book")
            (shared / "published").touch()
    return pages
