"""A notebook executed with parameters of one's own: by the library, and by the command."""

import json
import sys

import nbformat
import pytest

from mistakes_lib.book.notebooks import (
    default_values,
    execute_chapter,
    find_chapter,
    load_parameters,
    parameters_of,
)
from mistakes_lib.cli import book as commands
from tests.helpers.commands import mistakes


@pytest.fixture
def notebook(tmp_path):
    """A notebook that prints its parameters, and fails for n_components = 0."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "n_components = 100\ndata_set = 'digits'", metadata={"tags": ["parameters"]}
            ),
            nbformat.v4.new_code_cell("print(repr(n_components), repr(data_set))"),
            nbformat.v4.new_code_cell("1 / n_components"),
        ],
        metadata={"kernelspec": kernel},
    )
    path = tmp_path / "chapter.ipynb"
    nbformat.write(book, path)
    return path


def printed(executed):
    return [o.text for cell in executed.cells for o in cell.get("outputs", []) if "text" in o]


def test_it_is_executed_with_the_given_values_and_the_other_defaults(notebook, tmp_path):
    out = tmp_path / "new" / "out.ipynb"
    executed = execute_chapter(notebook, {"n_components": 7}, out, progress=False)
    assert printed(executed) == ["7 'digits'\n"]
    assert printed(nbformat.read(out, as_version=4)) == ["7 'digits'\n"]


def test_a_failing_cell_is_named_and_what_was_computed_is_kept(notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    complaint = r"cell \d of chapter failed: ZeroDivisionError: division by zero; .*out\.ipynb"
    with pytest.raises(RuntimeError, match=complaint):
        execute_chapter(notebook, {"n_components": 0}, out, progress=False)
    assert "0 'digits'\n" in printed(nbformat.read(out, as_version=4))


def test_the_books_chapters_are_found_by_name_from_any_folder(tmp_path, monkeypatch, notebook):
    monkeypatch.chdir(tmp_path)
    published, _ = load_parameters("published")
    declared = parameters_of(find_chapter("04_mistakes"))
    assert declared["data_set"] == f'"{published["data_set"]}"'
    assert find_chapter("chapter.ipynb") == notebook
    with pytest.raises(FileNotFoundError, match=r"no notebook 99_none; .*04_mistakes"):
        find_chapter("99_none")


# --- the command ---------------------------------------------------------------------------------


def test_the_command_reads_values_as_yaml_and_says_where_the_result_is(notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    result = mistakes(
        "chapter", notebook, "-p", "n_components=5", "-p", "data_set=x=y", "--out", out
    )
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    assert printed(nbformat.read(out, as_version=4)) == ["5 'x=y'\n"]


def test_by_default_the_result_goes_here(notebook, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert mistakes("chapter", notebook, "--quiet").stdout == ""
    assert printed(nbformat.read("chapter.ipynb", as_version=4)) == ["100 'digits'\n"]


def test_the_parameters_are_listed(notebook):
    assert (
        mistakes("chapter", notebook, "--list").stdout
        == "n_components = 100\ndata_set = 'digits'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-p", "n_component=5", "--out", "out.ipynb"], "did you mean 'n_components'?"),
        (["-p", "n_components", "--out", "out.ipynb"], "must be NAME=VALUE"),
        (
            ["-p", "n_components=[1", "--out", "out.ipynb"],
            "-p n_components=[1: '[1': no value that YAML can read",
        ),
        (["--out", "chapter.ipynb"], "is the chapter itself"),
        (["-p", "n_components=0", "--out", "out.ipynb"], "ZeroDivisionError: division by zero"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(notebook, monkeypatch, arguments, complaint):
    monkeypatch.chdir(notebook.parent)
    before = notebook.read_bytes()
    result = mistakes("chapter", "chapter.ipynb", *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert notebook.read_bytes() == before


def test_parameters_for_chapters_are_those_that_describe_no_run(tmp_path):
    file = tmp_path / "own.yml"
    file.write_text("seed: 3\nchapters: {04_mistakes: {seed: 4}}\nexperiment: {}\npresets: {}\n")
    assert load_parameters(file) == ({"seed": 3}, {"04_mistakes": {"seed": 4}})
    with pytest.raises(FileNotFoundError, match=r"no parameters 'slow'.*paper, published, quick"):
        load_parameters("slow")
    file.write_text("- seed\n")
    with pytest.raises(ValueError, match="must map names of parameters to values"):
        load_parameters(file)


@pytest.mark.parametrize("name", ["04_mistakes", "08_purification", "10_your_own_classifier"])
def test_default_values_are_what_executing_their_cell_gives(name):
    notebook, values = find_chapter(name), {}
    cells = nbformat.read(notebook, as_version=4).cells
    [cell] = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    exec(cell.source, {}, values)
    assert default_values(notebook) == values


def test_book_hands_over_to_the_books_own_build(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(commands, "BOOK", tmp_path)
    said = mistakes("book").stderr
    assert f"no book in {tmp_path}" in said and "Traceback" not in said
    (tmp_path / "build.py").write_text(
        "import json, sys\nprint(json.dumps([sys.executable, *sys.argv[1:]]))\nsys.exit(3)"
    )
    result = mistakes("book", "--parameters", "quick", "--chapter", "04_mistakes")
    assert result.exit_code == 3
    assert json.loads(capfd.readouterr().out) == [
        sys.executable, "book", "--parameters", "quick", "--chapter", "04_mistakes",
    ]  # fmt: skip
