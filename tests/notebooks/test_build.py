"""book/build.py, on small notebooks made here."""

import json

import nbformat
import pytest

from book.building.executing import execute, merge_streams
from book.building.ledger import front_page_picture, write_ledger
from book.building.parameters import choose_parameters, declared_parameters
from book.building.places import BuildError
from book.building.publishing import pages
from book.building.sources import as_text, chapter_sources, read_source, write_notebooks

SOURCE = """\
# %% [markdown]
# # Toy

# %% tags=["parameters"]
size = 3  # how many
run = "cifar10"  # which
flag = None

# %%
import sys
import time

print("size", size)
sys.stdout.flush()
time.sleep(0.2)
print("size", size)
print("be" + "ware", file=sys.stderr)

# %%
print("size", size)
"""


@pytest.fixture
def toy(tmp_path):
    """A chapter without outputs, in a folder of its own."""
    (tmp_path / "01_toy.py").write_text(SOURCE)
    return write_notebooks(chapter_sources(tmp_path))[0]


def test_a_notebook_depends_on_its_source_alone(toy):
    first = toy.read_text()
    toy.unlink()
    write_notebooks(chapter_sources(toy.parent))
    assert toy.read_text() == first
    nbformat.validate(nbformat.read(toy, as_version=4))


def test_an_unchanged_notebook_is_not_touched(toy):
    before = toy.stat().st_mtime_ns
    write_notebooks(chapter_sources(toy.parent))
    assert toy.stat().st_mtime_ns == before


def test_equal_cells_have_different_ids(tmp_path):
    source = tmp_path / "01_toy.py"
    source.write_text("# %%\nprint(1)\n\n# %%\nprint(1)\n")
    ids = [cell.id for cell in read_source(source).cells]
    assert len(set(ids)) == 2


def test_an_open_header_is_an_error_and_no_page(tmp_path):
    source = tmp_path / "01_toy.py"
    source.write_text(SOURCE.replace("# %%", "# ---\n# jupyter:\n#   a: b\n\n# %%", 1))
    with pytest.raises(BuildError, match=r"01_toy\.py: the header lacks its closing line"):
        read_source(source)


LENDER = """\
# %% [markdown]
# # Toy

# %% [markdown] tags=["appendix"]
# ## A heading
# and its text, # which has no other

# %% tags=["appendix", "front-page", "hide-input"] mystnb={"image": {"alt": "dots"}}
draw(size)

# %%
print("not lent")
"""

BORROWER = """\
# %% [markdown] tags=["repeat:01_toy"]
# ## Toys

# %% [markdown]
# The end.
"""


def test_a_chapter_repeats_the_cells_that_another_lends(tmp_path):
    (tmp_path / "01_toy.py").write_text(LENDER)
    (tmp_path / "02_again.py").write_text(BORROWER)
    own, heading, code, end = read_source(tmp_path / "02_again.py").cells
    assert (own.source, end.source) == ("## Toys", "The end.")
    assert heading.source == "### A heading\nand its text, # which has no other"
    assert code.source == "draw(size)"
    assert code.metadata == {"tags": ["hide-input"], "mystnb": {"image": {"alt": "dots"}}}
    (tmp_path / "01_toy.py").write_text(LENDER.replace("draw(size)", "draw(2 * size)"))
    assert read_source(tmp_path / "02_again.py").cells[2].source == "draw(2 * size)"


@pytest.mark.parametrize(
    ("lender", "message"),
    [
        (None, r"02_again\.py repeats 01_toy, but there is no 01_toy\.py"),
        (SOURCE, "02_again\\.py repeats 01_toy, where no cell is tagged appendix"),
    ],
)
def test_a_chapter_that_lends_nothing_cannot_be_repeated(tmp_path, lender, message):
    if lender:
        (tmp_path / "01_toy.py").write_text(lender)
    (tmp_path / "02_again.py").write_text(BORROWER)
    with pytest.raises(BuildError, match=message):
        read_source(tmp_path / "02_again.py")


def test_a_folder_without_chapters_is_an_error(tmp_path):
    with pytest.raises(BuildError, match="No chapter"):
        chapter_sources(tmp_path)


def test_executed_twice_gives_the_same_bytes_and_keeps_no_trace_of_the_run(toy, tmp_path):
    written = []
    for name in ("once.ipynb", "twice.ipynb"):
        complaints = execute(toy, tmp_path / name, {}, scratch=tmp_path / "scratch")
        assert complaints == ["beware"]
        written.append((tmp_path / name).read_text())
    assert written[0] == written[1]
    for trace in ("papermill", "duration", "start_time", "beware", str(tmp_path)):
        assert trace not in written[0]
    executed = nbformat.reads(written[0], as_version=4)
    assert executed.cells[2].outputs[0].text == "size 3\nsize 3\n"
    assert [c.source for c in executed.cells] == [
        c.source for c in nbformat.read(toy, as_version=4).cells
    ]


def test_parameters_change_the_result(toy, tmp_path):
    execute(toy, tmp_path / "out.ipynb", {"size": 7}, scratch=tmp_path / "scratch")
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "size 7\n"


def test_a_failing_cell_is_named_and_publishes_nothing(toy, tmp_path):
    broken = nbformat.read(toy, as_version=4)
    broken.cells[-1].source = "size / 0"
    toy.write_text(as_text(broken))
    with pytest.raises(BuildError, match=r"(?s)01_toy, cell 3.*size / 0.*ZeroDivisionError"):
        execute(toy, tmp_path / "out.ipynb", {}, scratch=tmp_path / "scratch")
    assert not (tmp_path / "out.ipynb").exists()


def test_front_page_takes_the_one_tagged_figure(tmp_path):
    figure = {"output_type": "display_data", "data": {"image/png": "AAEC"}, "metadata": {}}
    cell = nbformat.v4.new_code_cell("draw()", outputs=[nbformat.from_dict(figure)])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    path = tmp_path / "04_toy.ipynb"
    path.write_text(as_text(notebook))
    with pytest.raises(BuildError, match="found 0"):
        front_page_picture(tmp_path)
    cell.metadata["tags"] = ["front-page"]
    path.write_text(as_text(notebook))
    assert front_page_picture(tmp_path) == b"\0\1\2"
    (tmp_path / "05_toy.ipynb").write_text(as_text(notebook))
    with pytest.raises(BuildError, match="found 2"):
        front_page_picture(tmp_path)


def test_the_ledger_judges_by_what_the_chapters_print(tmp_path):
    printed = {"output_type": "stream", "name": "stdout", "text": '{"test": {"p": 0.05}}\n'}
    cell = nbformat.v4.new_code_cell("show()", outputs=[nbformat.from_dict(printed)])
    chapters = tmp_path / "book" / "chapters"
    chapters.mkdir(parents=True)
    claim = "{id: x, section: §1, says: It is., reproduced: test.p < 0.1, ours: 'p = {test.p}', "
    (tmp_path / "book" / "claims.yml").write_text(f"- {claim}where: 04_toy}}\n")
    (tmp_path / "book" / "results").mkdir()
    (tmp_path / "book" / "results" / "old.json").write_text("{}")
    for tags, verdict in [([], "not testable here"), (["evidence"], "reproduced")]:
        cell.metadata["tags"] = tags
        notebook = nbformat.v4.new_notebook(cells=[cell])
        (chapters / "04_toy.ipynb").write_text(as_text(notebook))
        write_ledger(tmp_path)
        assert f"**1 {verdict}**" in (tmp_path / "book" / "claims.md").read_text(encoding="utf-8")
    [results] = (tmp_path / "book" / "results").iterdir()
    assert json.loads(results.read_text()) == {"test": {"p": 0.05}}


def test_printed_text_is_joined_only_with_its_neighbours():
    printed = [{"output_type": "stream", "name": "stdout", "text": text} for text in "abc"]
    picture = {"output_type": "display_data", "data": {}}
    outputs = [nbformat.from_dict(o) for o in (*printed[:2], picture, printed[2])]
    assert [output.get("text") for output in merge_streams(outputs)] == ["ab", None, "c"]


def test_a_chapter_gets_the_parameters_it_declares_with_another_default(toy):
    declared = {toy: declared_parameters(toy)}
    assert declared[toy] == {"size": 3, "run": "cifar10", "flag": None}
    shared = {"size": 3, "run": "digits"}
    assert choose_parameters((shared, {}), declared) == {toy: {"run": "digits"}}
    exceptions = {"01_toy": {"size": 9}}
    assert choose_parameters((shared, exceptions), declared) == {toy: {"run": "digits", "size": 9}}


@pytest.mark.parametrize(
    ("shared", "exceptions", "message"),
    [
        ({"sise": 3}, {}, r"no parameter 'sise'.*mean 'size'"),
        ({}, {"01_joy": {}}, r"no chapter '01_joy'.*mean '01_toy'"),
        ({}, {"01_toy": {"rum": 1}}, r"no parameter of 01_toy 'rum'.*mean 'run'"),
    ],
)
def test_an_unknown_parameter_is_an_error_that_names_the_nearest(toy, shared, exceptions, message):
    with pytest.raises(BuildError, match=message):
        choose_parameters((shared, exceptions), {toy: declared_parameters(toy)})


def test_a_chapter_needs_a_parameters_cell(tmp_path):
    (tmp_path / "01_toy.py").write_text("# %%\nsize = 3\n")
    with pytest.raises(BuildError, match=r"01_toy\.ipynb needs one cell tagged"):
        declared_parameters(write_notebooks(chapter_sources(tmp_path))[0])


def test_pages_are_those_of_the_table_of_contents_and_those_below_them(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "root: a\nparts:\n  - chapters: [{file: b}, {file: c, sections: [{file: d}, {file: e}]}]\n"
    )
    assert pages(tmp_path) == ["a", "b", "c", "d", "e"]
