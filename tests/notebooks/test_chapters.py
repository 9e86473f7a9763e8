"""The chapters: their notebooks agree with their sources, and they run on quick parameters."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from book.build import (
    CHAPTERS,
    NOTEBOOKS,
    PARAMETERS,
    as_text,
    chapter_sources,
    choose_parameters,
    declared_parameters,
    execute,
    load_parameters,
    parameters_file,
    read_source,
)
from mistakes_lib.experiment import load_experiment
from mistakes_lib.runs import make_run

SOURCES = chapter_sources()
every_chapter = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@pytest.fixture(scope="module")
def declared():
    """What each chapter's notebook declares: path → (name → default)."""
    notebooks = [source.with_suffix(".ipynb") for source in SOURCES]
    return {notebook: declared_parameters(notebook) for notebook in notebooks}


@every_chapter
def test_notebook_is_what_its_source_says(source):
    notebook = source.with_suffix(".ipynb")
    assert notebook.is_file(), "run `make notebooks`"
    assert notebook.read_text(encoding="utf-8") == as_text(read_source(source)), (
        f"{notebook.name} and {source.name} disagree: edit the .py file, then run `make notebooks`"
    )


def test_no_notebook_is_left_without_a_source():
    assert {p.stem for p in NOTEBOOKS.glob("*.ipynb")} == {p.stem for p in SOURCES}


@every_chapter
def test_every_parameter_is_explained(source):
    (cell,) = [c for c in read_source(source).cells if "parameters" in c.metadata.get("tags", [])]
    lines = [line for line in cell.source.splitlines() if " = " in line]
    assert lines
    for line in lines:
        assert "# " in line, f"{source.name}: {line!r} lacks a comment with meaning and unit"


@pytest.mark.parametrize("name", sorted(path.stem for path in PARAMETERS.glob("*.yml")))
def test_parameter_files_name_real_parameters(name, declared):
    choose_parameters(load_parameters(name), declared)  # raises for a name no chapter has


def test_published_parameters_are_the_chapters_defaults(declared):
    differing = choose_parameters(load_parameters("published"), declared)
    assert not any(differing.values()), differing


@pytest.fixture(scope="module")
def quick_runs(tmp_path_factory):
    """A folder for the executed chapters, and the run that they read, trained from scratch."""
    folder = tmp_path_factory.mktemp("quick")
    make_run(load_experiment(parameters_file("quick")), root=folder / "runs", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MISTAKES_RUNS", str(folder / "runs"))
        yield folder


@pytest.mark.slow
@every_chapter
def test_chapter_runs_on_quick_parameters(source, declared, quick_runs):
    notebook = source.with_suffix(".ipynb")
    parameters = choose_parameters(load_parameters("quick"), declared)[notebook]
    destination = quick_runs / notebook.name
    execute(notebook, destination, parameters, scratch=quick_runs / "scratch")
    cells = nbformat.read(destination, as_version=4).cells
    assert any(cell.get("outputs") for cell in cells), f"{source.stem} shows nothing"


@pytest.mark.slow
def test_papermill_reruns_a_chapter_from_any_folder_with_another_result(tmp_path):
    papermill = Path(sys.executable).with_name("papermill")
    notebook = NOTEBOOKS / "04_mistakes.ipynb"
    command = [papermill, notebook, "out.ipynb", "-p", "n_components", "10"]
    rerun = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert rerun.returncode == 0, rerun.stderr

    def figures(path):
        outputs = [o for c in nbformat.read(path, as_version=4).cells for o in c.get("outputs", [])]
        return [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]

    assert figures(tmp_path / "out.ipynb") != figures(CHAPTERS / notebook.name)
