"""The pages, and the browser, which several files of tests look at."""

import pytest
from filelock import FileLock
from playwright.sync_api import sync_playwright

from book.building.places import ROOT
from book.building.printing import find_browser
from book.building.publishing import publish
from book.building.sources import chapter_sources

OFFLINE = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # it finds no host
)


@pytest.fixture(params=chapter_sources(), ids=lambda source: source.stem)
def source(request):
    """A chapter's source: each of them in turn."""
    return request.param


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


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if not path:
        pytest.skip("needs Chromium or Chrome on the path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=OFFLINE)
        yield chromium
        chromium.close()
