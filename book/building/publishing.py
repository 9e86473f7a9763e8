"""The pages, made by Jupyter Book, and the PDF, printed from them."""

import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import yaml

from book.building.places import BUILD, CHAPTERS, ROOT, BuildError
from book.building.printing import BROWSERS, find_browser, one_document, print_pdf
from book.building.reports import publish_reports
from book.building.sources import REPEAT, chapter_sources, read_source

__all__ = ["pages", "publish", "publish_pdf", "stage"]


def stage(name):
    """Copy what the book needs, apart from its chapters, to _build/NAME; return that folder."""
    folder = BUILD / name
    shutil.rmtree(folder / "book", ignore_errors=True)
    shutil.copytree(
        ROOT / "book",
        folder / "book",
        ignore=shutil.ignore_patterns("chapters", "runs", "twins", "__pycache__", "build*"),
    )
    for file in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / file, folder)
    return folder


def pages(root):
    """Return the pages named in _toc.yml, in order, as paths without a suffix."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [page for part in contents["parts"] for page in part["chapters"]]
    files = [own["file"] for page in chapters for own in (page, *page.get("sections", []))]
    return [contents["root"], *files]


def publish(root=ROOT, output=None):
    """Publish the book in ``root``, whose chapters are executed already, as strictly as can be.

    Returns:
        Path: the folder with the pages, ``_build/html`` in ``output`` (default: ``root``).

    Raises:
        BuildError: a warning (a broken reference, say), or a page that was not written.
    """
    output = output or root
    html = output / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    strict = ("--all", "-W", "-n", "--keep-going", "--quiet")
    command = [jupyter_book, "build", root, "--path-output", output, *strict]
    if subprocess.run(command).returncode:
        raise BuildError("Jupyter Book found the faults above; the pages are not complete.")
    missing = [page for page in pages(root) if not (html / f"{page}.html").is_file()]
    if missing:
        raise BuildError(f"Jupyter Book did not write {', '.join(missing)} to {html}.")
    publish_reports(html)
    offered = html / "_sources" / CHAPTERS.relative_to(ROOT)  # for the button beside the notebook's
    for source in chapter_sources():
        shutil.copy(source, offered)
        if f'"{REPEAT}' in source.read_text(encoding="utf-8"):  # by itself it would lack cells
            jupytext.write(read_source(source), offered / source.name, fmt="py:percent")
    return html


def publish_pdf(html, destination):
    """Print the published pages in the folder ``html`` to one PDF.

    Raises:
        BuildError: there is no browser that could.
    """
    browser = find_browser()
    if browser is None:
        raise BuildError(f"The PDF needs a browser on the path: {' or '.join(BROWSERS)}.")
    document = destination.with_suffix(".html")
    text = one_document(html, ROOT / "_toc.yml", ROOT / "_config.yml")
    document.write_text(text, encoding="utf-8")
    print_pdf(document, destination, browser)
    document.unlink()
