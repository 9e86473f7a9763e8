"""The committed chapters and the pages made of them: complete, reproducible, offline.

That the committed outputs are what the chapters print is nbval's part: pytest executes
book/chapters again (see pyproject.toml).
"""

import re
from collections import Counter
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

import mistakes_lib
from book.building.ledger import (
    FRONT_PAGE,
    FRONT_PAGE_TEXT,
    front_page_picture,
    front_page_text,
    ledger,
)
from book.building.places import CHAPTERS, ROOT
from book.building.publishing import pages
from book.building.reference import COMMAND_LINE, command_line_page
from book.building.sources import NOTEBOOK_METADATA, chapter_sources, load_repository, read_source
from book.extensions.scorers import fill_in
from mistakes_lib.book.claims import load_claims
from mistakes_lib.book.evidence import stored_evidence
from mistakes_lib.book.sweep import load_grid, load_sweep
from mistakes_lib.scores.registry import METHODS

BOOK = ROOT / "book"
SOURCES = chapter_sources()
every_page = pytest.mark.parametrize("page", pages(ROOT))

# What would be different on another machine or another day.
MACHINE = re.compile(
    r"(?<![\w.~/-])/(?:home|root|Users|tmp|work|var|private)/\w"  # a path
    r"|\b0x[0-9a-f]{8,}"  # an address in memory
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d"  # a time
)


def committed(source):
    """The committed executed chapter of a source."""
    path = CHAPTERS / source.with_suffix(".ipynb").name
    assert path.is_file(), "run `make book` and commit book/chapters"
    return nbformat.read(path, as_version=4)


# --- The committed chapters ---------------------------------------------------------------------


def test_chapter_was_made_from_its_source(source):
    def contents(notebook):
        return [(c.id, c.cell_type, c.source, c.metadata) for c in notebook.cells]

    assert contents(committed(source)) == contents(read_source(source, load_repository())), (
        f"book/chapters/{source.stem}.ipynb is not what notebooks/{source.name} gives: `make book`"
    )


def test_chapter_was_executed_from_first_cell_to_last(source):
    code = [cell for cell in committed(source).cells if cell.cell_type == "code"]
    executed = [cell.execution_count for cell in code if cell.source]
    assert executed == list(range(1, len(executed) + 1))


def test_chapter_holds_nothing_of_the_machine_or_the_day(source):
    notebook = committed(source)
    assert notebook.metadata == NOTEBOOK_METADATA
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            texts = [output.get("text", "")]
            texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
            for text in texts:
                assert not MACHINE.search(text), text
                assert str(Path.home()) not in text
                assert str(ROOT) not in text


def test_front_page_shows_the_figure_of_its_chapter():
    assert FRONT_PAGE.read_bytes() == front_page_picture(), (
        "run `make book` and commit book/_static"
    )


def test_front_page_says_what_its_chapter_concludes():
    assert FRONT_PAGE_TEXT.read_text(encoding="utf-8") == front_page_text(), (
        "run `make book` and commit book/_static"
    )


def test_ledger_is_what_the_chapters_say():
    files = ledger()
    assert set(files) >= set((BOOK / "results").iterdir())
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, "run `make book` and commit book/"


def swept(name, **own):
    """Metric → value in a published sweep, and what the book stores of the run that it is of."""
    table = load_sweep(name, seed=0, **own)
    (run,) = {f"{d}/{c}/seed0" for d, c in zip(table.data_set, table.classifier, strict=True)}
    return table.set_index("metric").value, stored_evidence()[run]


@pytest.mark.parametrize(
    "grid", sorted((ROOT / "notebooks" / "sweeps").glob("*.yml")), ids=lambda grid: grid.stem
)
def test_a_published_sweep_has_every_cell_of_its_grid(grid):
    wanted = [tuple(cell.parameters.items()) for cell in load_grid(grid).cells(BOOK)]
    table = load_sweep(grid.stem)
    names = [name for name in table if name not in ("metric", "value")]
    found = {tuple(row.items()) for row in table[names].to_dict("records")}
    assert found == set(wanted)


def test_the_published_sweep_is_of_a_published_run():
    """Where a run's evidence and the sweep compute the same, they say the same."""
    values, evidence = swept("components", n_components=100)
    expected = evidence["mistakes"]["ours"]["auroc"]
    assert values["auroc.mistakes"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("classifier", ["densenet_bc_100_12", "wrn_16_2"])
@pytest.mark.parametrize("density", ["vae", "maf"])
def test_the_published_sweep_begins_with_the_published_deep_density(classifier, density):
    values, evidence = swept("deep_densities", classifier=classifier, density=density)
    expected = evidence["mistakes"][density]["auroc"]
    assert values["auroc.mistakes"] == pytest.approx(expected, abs=1e-3)


def test_command_line_page_is_what_its_help_says():
    assert COMMAND_LINE.read_text(encoding="utf-8") == command_line_page(), (
        "run `make book` and commit book/reference"
    )


def test_reference_lists_every_public_name():
    text = fill_in((BOOK / "reference" / "index.md").read_text(encoding="utf-8"))
    listed = re.findall(r"^   (\w+)$", text, flags=re.MULTILINE)
    assert sorted([*listed, "plotting"]) == sorted(mistakes_lib.__all__)  # a module, with its page


def test_reference_tells_of_every_method():
    page = fill_in((BOOK / "reference" / "scores.md").read_text(encoding="utf-8"))
    assert "@methods" not in page
    for method in METHODS:
        assert re.search(rf"\| `{method.key}` \|.*`~mistakes_lib\.scores\.{method.kind}`", page)


def test_every_chapter_that_a_claim_names_gives_evidence():
    chapters = {claim.where.partition("#")[0] for claim in load_claims(BOOK / "claims.yml")}
    assert {f"{chapter}.json" for chapter in chapters} == {
        path.name for path in (BOOK / "results").iterdir()
    }


def test_cell_with_alt_text_shows_a_picture_or_says_why_there_is_none(source):
    for cell in committed(source).cells:
        if "image" in cell.metadata.get("mystnb", {}):
            pictured = any("image/png" in o.get("data", {}) for o in cell.outputs)
            told = [o.get("text", o.get("data", {}).get("text/markdown", "")) for o in cell.outputs]
            assert pictured or re.search(r"\b(no|No)\b", "".join(told)), cell.source


def shown_outputs(source):
    """The outputs of a committed chapter that its page shows, cell by cell."""
    for cell in committed(source).cells:
        if cell.cell_type == "code" and not {"remove-cell", "remove-output"} & tags_of(cell):
            yield cell.outputs


def tags_of(cell):
    return set(cell.metadata.get("tags", []))


def test_every_figure_has_the_next_number_and_a_caption(source):
    numbers = []
    for outputs in shown_outputs(source):
        for place, picture in enumerate(outputs):
            if "image/png" in picture.get("data", {}):
                below = outputs[place + 1].get("data", {}) if place + 1 < len(outputs) else {}
                caption = below.get("text/markdown", "")
                found = re.match(r"\*\*Figure (\d+)\.(\d+)\.\*\* \S.{20,}\.$", caption)
                assert found, f"no caption below a picture: {caption!r}"
                numbers.append((int(found[1]), int(found[2])))
    chapter = int(source.stem[:2])
    assert numbers == [(chapter, place) for place in range(1, len(numbers) + 1)]


IDENTIFIER = re.compile(
    r"\b(?:gaussian_noise|tiny_imagenet\w*|fashion_mnist|photo_patches|bim_\d|fgsm_\d|n\d{8})\b"
)


def test_pages_show_names_and_no_json(source):
    for outputs in shown_outputs(source):
        for output in outputs:
            texts = [output.get("text", "")]
            texts += [
                output.get("data", {}).get(f"text/{kind}", "") for kind in ("html", "markdown")
            ]
            for text in texts:
                assert not IDENTIFIER.search(text), text[:300]
                assert not re.search(r'^\s*\{\s*"', text), text[:300]
                assert "<td>NaN</td>" not in text, "a dash stands where there is no number"


def test_no_line_of_a_formula_begins_a_list(source):
    """A line that begins with "+ " or "- " inside $…$ would end the paragraph, and the formula."""
    for cell in committed(source).cells:
        if cell.cell_type == "markdown":
            for formula in re.findall(r"(?<!\$)\$(?!\$)([^$]+)\$", cell.source):
                assert not re.search(r"^\s*[-+*] ", formula, flags=re.MULTILINE), formula


def test_no_sentence_of_a_chapter_is_empty(source):
    """The page would show the name of a Python object in its place."""
    for outputs in shown_outputs(source):
        for output in outputs:
            assert output.get("data", {}).get("text/markdown", "a table or a figure").strip()


def test_chapter_opens_with_a_box_and_ends_with_what_it_found(source):
    words = [cell.source for cell in read_source(source).cells if cell.cell_type == "markdown"]
    box = words[0].partition("```{admonition} This chapter")[2].partition("```")[0]
    for part in ("*You will learn*", "*You need*", "*Time:*", "*Paper:*"):
        assert part in box.replace("\n", " "), part
    headings = re.findall(r"^## (.+)$", "\n\n".join(words), flags=re.MULTILINE)
    end = ["In short", "The paper's claims", "Exercises", "Go further"]
    has_claims = any("claim_badges(" in cell.source for cell in read_source(source).cells)
    assert [heading for heading in headings if heading in end] == [
        heading for heading in end if has_claims or heading != "The paper's claims"
    ]
    assert headings[-1] == "Go further"


def test_figures_of_the_paper_are_called_so(source):
    for cell in read_source(source).cells:
        if cell.cell_type == "markdown":
            text = " ".join(cell.source.split())
            for before in re.findall(r"(.{0,60})\bFig\. \d", text):
                assert re.search(r"paper's|\bits\b", before), before


def test_every_folded_cell_says_what_is_in_it(source):
    for cell in read_source(source).cells:
        tags = tags_of(cell)
        if tags & {"hide-input", "hide-output", "hide-cell"} and "remove-cell" not in tags:
            assert cell.metadata.get("mystnb", {}).get("code_prompt_show"), cell.source[:80]


def test_no_chapter_is_left_without_a_source():
    assert {p.stem for p in CHAPTERS.glob("*.ipynb")} == {p.stem for p in SOURCES}


def test_every_chapter_is_in_the_table_of_contents():
    listed = [page for page in pages(ROOT) if page.startswith("book/chapters/")]
    assert listed == [f"book/chapters/{source.stem}" for source in SOURCES]


# --- The pages ----------------------------------------------------------------------------------

# What a browser fetches by itself, and the attribute that says from where.
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """The text of a page, how many pictures it has, and what a browser loads for it."""

    def __init__(self, path):
        super().__init__()
        self.text, self.loads, self.pictures = "", [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.pictures += tag == "img"
        address = attributes.get(LOADED.get(tag))
        if address and not address.startswith(("data:", "#")):
            self.loads.append(address)

    def handle_data(self, data):
        self.text += data

    def holds(self, text):
        """Whether the page has this text, leaving spaces and markup out of account."""
        return letters(text) in letters(self.text)


def letters(text):
    return "".join(filter(str.isalnum, text))


def test_page_holds_the_chapter(source, html):
    chapter = committed(source)
    page = Page(html / "book" / "chapters" / f"{source.stem}.html")
    figures = 0
    for cell in chapter.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", cell.source, flags=re.MULTILINE)
            assert all(page.holds(heading) for heading in headings if "$" not in heading)
        elif not tags & {"remove-cell", "remove-input"}:
            assert page.holds(cell.source), cell.source
        if not tags & {"remove-cell", "remove-output"}:
            figures += sum("image/png" in o.get("data", {}) for o in cell.get("outputs", []))
    assert page.pictures >= figures
    assert len(letters(page.text)) > 500


def test_page_joins_pictures_with_captions_and_folds(source, html):
    page = (html / "book" / "chapters" / f"{source.stem}.html").read_text(encoding="utf-8")
    soup = BeautifulSoup(page, "html.parser")
    pictures = soup.select(".cell_output img")
    assert all(picture.find_parent("figure") for picture in pictures)
    for figure in soup.select(".cell_output figure:not(.explore)"):
        caption = figure.figcaption.get_text().strip()
        number = re.match(r"Figure (\d+)\.(\d+)\.", caption)
        assert figure["id"] == f"figure-{number[1]}-{number[2]}"
    folds = [each.get_text(strip=True) for each in soup.select("details.hide summary .collapsed")]
    assert folds.count("Parameters and imports") == 1
    assert not any(name.startswith("Show code cell") for name in folds)


def test_every_public_name_is_explained_where_the_reference_says(html):
    folder = html / "book" / "reference"
    index = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="(\w+\.html)#(mistakes_lib(?:\.\w+)*\.(\w+))"', index)
    explained = {
        name: f'id="{anchor}"' in (folder / page).read_text(encoding="utf-8")
        for page, anchor, name in links
    }
    found = {name for name, found in explained.items() if found}
    assert found == set(mistakes_lib.__all__) - {"plotting"}  # a module, with a page of its own


def test_reference_shows_no_default_that_is_no_python(html):
    for page in (html / "book" / "reference").glob("*.html"):
        assert "&lt;factory&gt;" not in page.read_text(encoding="utf-8"), page.name


def documented(name):
    """Module and name of what a heading of the reference is about; None for a part of a class."""
    module, _, last = name.rpartition(".")
    try:
        found = getattr(import_module(module), last)
    except ImportError:
        return None
    return getattr(found, "__module__", module), last


def test_reference_explains_each_name_once(html):
    pages = sorted((html / "book" / "reference").glob("*.html"))
    headings = [
        heading
        for page in pages
        for heading in re.findall(r'<dt class="sig[^>]* id="([\w.]+)"', page.read_text("utf-8"))
    ]
    counts = Counter(filter(None, map(documented, headings)))
    assert len(counts) > 200
    assert [name for name, count in counts.items() if count > 1] == []


@every_page
def test_page_loads_only_files_that_are_there(page, html):
    path = html / f"{page}.html"
    for address in Page(path).loads:
        assert not re.match(r"(?:https?:)?//", address), f"{page} loads {address} from the network"
        assert (path.parent / re.split(r"[?#]", address)[0]).is_file(), f"{page}: no {address}"
