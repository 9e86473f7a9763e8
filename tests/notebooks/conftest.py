"""The pages, and the browser, which several files of tests look at."""

import shutil

import pytest
from filelock import FileLock
from playwright.sync_api import sync_playwright

from book.build import ROOT, publish

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
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("needs Chromium on the path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=OFFLINE)
        yield chromium
        chromium.close()
