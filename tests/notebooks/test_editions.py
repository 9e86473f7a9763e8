"""The book's other forms: a chapter's files, where it can be run, and the PDF of the whole."""

import importlib.util
import re
import subprocess
from types import SimpleNamespace

import jupytext
import nbformat
import pytest
import yaml
from pypdf import PdfReader

from book.building.places import CHAPTERS, ROOT
from book.building.printing import find_browser
from book.building.publishing import pages, publish_pdf
from book.building.sources import chapter_sources, load_repository, read_source
from book.extensions.editions import add_buttons, launch_links
from mistakes_lib.runs import published_runs

SOURCES = chapter_sources()
REPOSITORY = {"url": "https://github.com/somebody/their-fork", "branch": "main"}


# --- Downloads ----------------------------------------------------------------------------------


def test_page_offers_its_notebook_and_its_source(source, html):
    folder = html / CHAPTERS.relative_to(ROOT)
    page = (folder / f"{source.stem}.html").read_text(encoding="utf-8")
    offered = {}
    for address in re.findall(r'href="([^"]*_sources/[^"]*)"', page):
        file = (folder / address).resolve()
        offered[file.suffix] = file.read_bytes()
    own, whole = jupytext.read(source), read_source(source)
    if len(own.cells) == len(whole.cells):
        assert offered[".py"] == source.read_bytes()
    else:  # it repeats cells of others, and is offered with these
        cells = jupytext.reads(offered[".py"].decode(), fmt="py:percent").cells
        assert [cell.source for cell in cells] == [cell.source for cell in whole.cells]
    assert offered[".ipynb"] == (CHAPTERS / f"{source.stem}.ipynb").read_bytes()


# --- Elsewhere ----------------------------------------------------------------------------------


def files_of_the_repository(*which):
    """What git tracks, as ``git ls-files`` says it."""
    command = ["git", "ls-files", *which]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


def buttons_of(page, repository):
    """The buttons of a page, group → (text → address), as the extension makes them."""

    names = ("repository_url", "repository_branch")
    options = dict(zip(names, repository.values(), strict=True))
    app = SimpleNamespace(config=SimpleNamespace(html_theme_options=options))
    notebook = {"text": ".ipynb", "url": "../../_sources/a.ipynb"}
    groups = [{"label": "download-buttons", "buttons": [notebook]}]
    context = {"header_buttons": groups, "pathto": lambda name, _: f"../../{name}"}
    add_buttons(app, page, "page.html", context, None)
    return {g["label"]: {b["text"]: b["url"] for b in g["buttons"]} for g in groups}


def test_buttons_to_run_a_chapter_appear_only_with_an_address():
    page = "book/chapters/04_mistakes"
    plain = buttons_of(page, {"url": "", "branch": "main"})
    assert plain["download-buttons"][".py"] == f"../../_sources/{page}.py"
    assert "launch-buttons" not in plain
    links = buttons_of(page, REPOSITORY)["launch-buttons"]
    assert links == launch_links(*REPOSITORY.values(), "04_mistakes")
    assert list(links) == ["Binder", "Colab"]
    assert "launch-buttons" not in buttons_of("book/glossary", REPOSITORY)


def test_launch_links_lead_to_files_of_the_repository(source):
    tracked = files_of_the_repository("notebooks")
    links = launch_links(*REPOSITORY.values(), source.stem)
    binder, colab = "gh/somebody/their-fork/main", "github/somebody/their-fork/blob/main"
    for link, head in ((links["Binder"], f"{binder}?urlpath=lab/tree"), (links["Colab"], colab)):
        place, _, path = link.partition(f"{head}/")
        assert place.startswith("https://")
        assert path in tracked


def test_page_has_launch_buttons_exactly_if_the_repository_has_an_address(source, html):
    page = (html / CHAPTERS.relative_to(ROOT) / f"{source.stem}.html").read_text(encoding="utf-8")
    repository = load_repository()
    links = launch_links(repository["url"], repository["branch"], source.stem)
    assert all(f'href="{link}"' in page for link in links.values())
    assert bool(links) == ("mybinder.org" in page) == ("colab.research" in page)


def test_colab_fetches_the_book_before_the_first_import(monkeypatch):
    title, setup, *others = read_source(SOURCES[0], REPOSITORY).cells
    assert title.source.startswith("# ")
    assert [c.source for c in (title, *others)] == [c.source for c in read_source(SOURCES[0]).cells]
    said = []
    python = re.sub(r"^    ([!%].*)$", r"    say(r'''\1''')", setup.source, flags=re.MULTILINE)
    exec(python, {"say": said.append})
    assert said == [], "the library is there: nothing is fetched"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(python, {"say": said.append})
    clone, enter, install = said
    assert clone == f"!git clone --quiet --depth 1 --branch main {REPOSITORY['url']} book"
    assert enter == "%cd -q book"
    assert extras_of(install)


def extras_of(command):
    """The extras that a line of pip installs, each of them one of pyproject.toml."""
    extras = set(re.search(r'"\.\[([\w,]+)\]"', command)[1].split(","))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert extras <= set(re.findall(r"^(\w+) = \[$", text, flags=re.MULTILINE))
    return extras


def test_binder_installs_what_colab_does():
    """repo2docker reads binder/ and nothing else where there is such a folder."""
    install = (ROOT / "binder" / "postBuild").read_text(encoding="utf-8")
    colab = read_source(SOURCES[0], REPOSITORY).cells[1].source
    assert extras_of(install) == extras_of(colab)
    assert re.fullmatch(r"python-3\.1\d\n", (ROOT / "binder" / "runtime.txt").read_text())
    (entry,) = files_of_the_repository("--stage", "binder/postBuild")
    assert entry.startswith("100755"), "repo2docker runs it"


def test_a_clone_has_the_runs_that_its_chapters_read():
    tracked = files_of_the_repository("book/runs")
    for run in published_runs():
        assert f"book/runs/{run.name}/run.json" in tracked


# --- PDF ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(html, tmp_path_factory):
    """The PDF of the published pages, printed anew."""
    if not find_browser():
        pytest.skip("needs Chromium or Chrome on the path")
    path = tmp_path_factory.mktemp("pdf") / "mistakes.pdf"
    publish_pdf(html, path)
    return PdfReader(path)


@pytest.fixture(scope="module")
def texts(printed):
    """The letters and digits of each page of the PDF, first those of its number."""
    return [letters(page.extract_text()) for page in printed.pages]


def letters(text):
    return "".join(filter(str.isalnum, text))


def headings(reader):
    """The outline of a PDF as a list of (depth, title, page number from 1)."""

    def walk(entries, depth):
        for entry in entries:
            if isinstance(entry, list):
                yield from walk(entry, depth + 1)
            else:
                title = " ".join(entry.title.split())
                yield depth, title, reader.get_destination_page_number(entry) + 1

    return list(walk(reader.outline, 1))


@pytest.mark.slow
def test_pdf_has_the_chapter_its_prose_and_its_pictures(source, printed, texts):
    number = SOURCES.index(source) + 1
    title = re.search(r"^# # (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)[1]
    starts = [(own, page) for depth, own, page in headings(printed) if depth == 1]
    (index,) = [i for i, (own, _) in enumerate(starts) if own == f"{number}. {title}"]
    first, after = starts[index][1], starts[index + 1][1]
    text = "".join(texts[first - 1 : after - 1])
    assert letters(title) in text
    for cell in nbformat.read(CHAPTERS / f"{source.stem}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown" and (heading := re.match(r"## (.+)", cell.source)):
            assert letters(heading[1]) in text
        if "hide-output" in cell.metadata.get("tags", []):  # on the screen, not on paper
            shown = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
            lines = [re.sub(r"^\d+\. ", "", line) for own in shown for line in own.splitlines()]
            parts = [part for line in lines for part in re.split(r"\$[^$]*\$", line)]
            assert [part for part in parts if letters(part) not in text] == []  # formulas apart
    assert "Verdict" in text
    assert any(page.images for page in printed.pages[first - 1 : after - 1])


@pytest.mark.slow
def test_pdf_holds_every_page_of_the_book_in_order(printed):
    starts = [title for depth, title, _ in headings(printed) if depth == 1]
    assert starts[0] == "Contents"
    assert len(starts) == 1 + len(pages(ROOT))
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    assert printed.metadata.title == title


@pytest.mark.slow
def test_pdf_numbers_its_pages_and_its_contents_say_the_numbers(printed, texts):
    first = next(page for _, _, page in headings(printed)[1:])
    assert all(texts[i].startswith(str(i + 1)) for i in range(first - 1, len(texts)))
    contents = "".join(texts[:first])
    for depth, title, page in headings(printed)[1:]:
        if depth == 1:
            assert f"{letters(title)}{page}" in contents, title


@pytest.mark.slow
def test_links_of_the_pdf_stay_in_it_or_name_a_host(printed):
    addresses = {
        note.get_object()["/A"]["/URI"]
        for page in printed.pages
        for note in page.get("/Annots", [])
        if "/URI" in note.get_object().get("/A", {})
    }
    assert addresses
    assert all(re.match(r"(?!file:)[a-z]+:", address) for address in addresses)
    assert len(printed.named_destinations) > 100


@pytest.mark.slow
def test_pdf_shows_no_formula_as_its_source(texts):
    assert not any(re.search(r"\\\(|\\\[|\\begin\{", text) for text in texts)
