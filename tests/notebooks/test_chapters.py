"""The chapters: their notebooks agree with their sources, and they run on quick parameters."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from book.building.executing import execute
from book.building.parameters import choose_parameters, declared_parameters
from book.building.places import CHAPTERS, NOTEBOOKS, ROOT
from book.building.sources import (
    as_text,
    chapter_sources,
    load_repository,
    read_source,
    sweep_sources,
)
from mistakes_lib.book.claims import printed_evidence
from mistakes_lib.book.notebooks import load_parameters, run_notebook
from mistakes_lib.book.sweep import load_grid
from mistakes_lib.book.teaching.sets import with_checks
from mistakes_lib.evaluation.tables import auroc_table, score_pairs
from mistakes_lib.runs import load_run, make_run
from mistakes_lib.runs.experiment import load_experiments
from mistakes_lib.scores import LogLikelihood
from mistakes_lib.support.locations import PARAMETERS

SOURCES = chapter_sources()


@pytest.fixture(scope="module")
def declared():
    """What each chapter's notebook declares: path → (name → default)."""
    notebooks = [source.with_suffix(".ipynb") for source in SOURCES]
    return {notebook: declared_parameters(notebook) for notebook in notebooks}


@pytest.mark.parametrize("source", [*SOURCES, *sweep_sources()], ids=lambda source: source.stem)
def test_notebook_is_what_its_source_says(source):
    notebook = source.with_suffix(".ipynb")
    assert notebook.is_file(), "run `make notebooks`"
    text = as_text(read_source(source, load_repository()))
    assert notebook.read_text(encoding="utf-8") == text, (
        f"{notebook.name} and {source.name} disagree: edit the .py file, then run `make notebooks`"
    )


def test_no_notebook_is_left_without_a_source():
    assert {p.stem for p in NOTEBOOKS.glob("*.ipynb")} == {p.stem for p in SOURCES}


def test_every_parameter_is_explained(source):
    (cell,) = [c for c in read_source(source).cells if "parameters" in c.metadata.get("tags", [])]
    lines = [line for line in cell.source.splitlines() if " = " in line]
    assert lines
    for line in lines:
        assert "# " in line, f"{source.name}: {line!r} lacks a comment with meaning and unit"


# Decimals and percentages that prose may type: the paper's own, and levels that are chosen, not
# found. The paper itself does not lie in the repository.
PRINTED = {
    "0.1",  # ε of its Fig. 1
    "25.5",  # the same in grey levels
    "1.9",  # p = 1.9e-13, §4.1
    "8.58",  # p = 8.58e-5, §4.1
    "2.92",  # bits per dimension that Salimans et al. (2017) reach on CIFAR-10
    "72.76",  # accuracy of its DenseNet, §4.1
    "72.76 %",
    "0.76",  # AUROCs of Fig. 4
    "1.00",
    "0.6",  # largest gain of purification, Appendix B
    "1.25",  # BIM's steps for each grey level of ε, Kurakin et al. (2016)
}
CHOSEN = {
    "0.05",  # what a p-value is compared with
    "0.9",  # what a confidence is compared with
    "1 %",  # false alarms
    "5 %",
    "80 %",  # confidence in the glossary's example
    "10 %",  # the share of inputs that is refused, in the closing chapter
    "90 %",  # what a confidence is compared with
    "95 %",  # recall of FPR95
}
PAGES = [ROOT / "book" / f"{name}.md" for name in ("intro", "teaching", "glossary")]


def typed_numbers(prose):
    """Decimals and percentages in Markdown that are neither code nor the number of a section."""
    prose = re.sub(r"^ *```\w+\n.*?^ *```$|`[^`\n]*`", "", prose, flags=re.DOTALL | re.MULTILINE)
    decimals = re.findall(r"(?<![§.\d])\d+\.\d+(?!\.?\d)", prose)
    percentages = re.findall(r"(?<![.\d])(\d+(?:\.\d+)?)[ \u00a0]?(?:\\?%|percent\b)", prose)
    return {*decimals, *(f"{number} %" for number in percentages)}


def displayed_strings(code):
    """What is typed in the strings of a cell that displays Markdown; values and formats are not."""
    tree = ast.parse(code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if not any(getattr(call.func, "id", None) == "Markdown" for call in calls):
        return ""
    formats = [node.format_spec for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
    computed = {id(part) for spec in formats if spec for part in ast.walk(spec)}
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(n.value for n in strings if isinstance(n.value, str) and id(n) not in computed)


def test_typed_numbers_are_found():
    directive = "```{note}\nSays 7.5.\n```\n"
    prose = "See §3.1: 0.5 points, `0.7` in code, and 12.25 %.\n```bash\n-p eps 0.1\n```\n"
    prose += "Then 7 %, $8\\%$, 9% and 10 percent, but 11 percentage points.\n"
    found = {"0.5", "7.5", "12.25", "12.25 %", "7 %", "8 %", "9 %", "10 %"}
    assert typed_numbers(directive + prose + directive) == found


def test_numbers_typed_in_a_displayed_string_are_found():
    code = 'Markdown(f"It is {accuracy:.1%} right, " + "or 0.857, " f"or {x:.3f} as 86 %.")'
    assert typed_numbers(displayed_strings(code)) == {"0.857", "86 %"}
    assert displayed_strings('print("0.857")') == "", "what is printed is shown beside its code"


def test_no_result_is_typed_in_prose(source):
    """Numbers of ours come from the cell that computes them."""
    cells = read_source(source).cells
    prose = [
        cell.source if cell.cell_type == "markdown" else displayed_strings(cell.source)
        for cell in cells
    ]
    typed = typed_numbers("\n".join(prose)) - PRINTED - CHOSEN
    assert not typed, f"{source.name} types {typed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_result_is_typed_on_a_page(page):
    typed = typed_numbers(page.read_text(encoding="utf-8")) - PRINTED - CHOSEN
    assert not typed, f"{page.name} types {typed}"


@pytest.mark.parametrize("name", sorted(path.stem for path in PARAMETERS.glob("*.yml")))
def test_parameter_files_name_real_parameters(name, declared):
    choose_parameters(load_parameters(name), declared)  # raises for a name no chapter has


def test_published_parameters_are_the_chapters_defaults(declared):
    differing = choose_parameters(load_parameters("published"), declared)
    assert not any(differing.values()), differing


@pytest.fixture(scope="module")
def quick_runs(tmp_path_factory):
    """A folder for the executed chapters, and the runs that they read, trained from scratch."""
    folder = tmp_path_factory.mktemp("quick")
    for experiment in load_experiments("quick"):
        make_run(experiment, root=folder / "runs", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MISTAKES_RUNS", str(folder / "runs"))
        yield folder


@pytest.mark.slow
def test_chapter_runs_on_quick_parameters_and_its_solutions_are_right(
    source, declared, quick_runs, tmp_path
):
    """With the cells that check a student's answer behind each solution."""
    notebook = source.with_suffix(".ipynb")
    parameters = choose_parameters(load_parameters("quick"), declared)[notebook]
    checked = tmp_path / notebook.name
    chapter = nbformat.read(notebook, as_version=4)
    nbformat.write(with_checks(chapter, source.stem, solutions=True), checked)
    destination = quick_runs / notebook.name
    execute(checked, destination, parameters, scratch=quick_runs / "scratch")
    cells = nbformat.read(destination, as_version=4).cells
    assert any(cell.get("outputs") for cell in cells), f"{source.stem} shows nothing"
    for cell in cells:
        if cell.source.startswith('check("'):
            assert "right." in cell.outputs[0].data["text/plain"], cell.source


@pytest.mark.slow
def test_the_sweep_judges_the_fit_it_is_asked_for(quick_runs):
    grid = load_grid(NOTEBOOKS / "sweeps" / "components.yml")
    quick, _ = load_parameters("quick")
    wanted = {"data_set": quick["data_set"], "classifier": quick["classifier"]}
    wanted |= {"n_components": 3, "seed": 1}
    assert wanted.keys() == grid.parameters.keys()
    destination = quick_runs / grid.notebook.name
    execute(grid.notebook, destination, wanted, scratch=quick_runs / "scratch")
    found = printed_evidence(nbformat.read(destination, as_version=4))["auroc"]
    source = load_run("{data_set}/{classifier}/seed0".format_map(wanted))
    scorer, test = LogLikelihood(source.density(3, seed=1)), source.features("test")
    pairs = score_pairs({"mistakes": scorer}, test[test.correct], test[~test.correct])
    assert found.keys() == {"mistakes", *source.ood_sets}
    assert found["mistakes"] == pytest.approx(auroc_table(pairs).AUROC["mistakes"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", ["05_adversarial", "06_out_of_distribution", "09_setups"])
def test_a_chapter_can_be_executed_on_a_smaller_run(chapter, tmp_path):
    """One without its network, without a preset in the paper, its noise unseen by a PixelCNN."""
    out = tmp_path / "out.ipynb"
    run_notebook(
        NOTEBOOKS / f"{chapter}.ipynb", out, {"classifier": "wrn_16_2_few"}, folder=tmp_path
    )


@pytest.mark.slow
def test_papermill_reruns_a_chapter_from_any_folder_with_another_result(tmp_path):
    papermill = Path(sys.executable).with_name("papermill")
    notebook = NOTEBOOKS / "03_hypothesis_tests.ipynb"  # of those with a mixture, the quickest
    command = [papermill, notebook, "out.ipynb", "-p", "n_components", "10"]
    rerun = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert rerun.returncode == 0, rerun.stderr

    def figures(path):
        outputs = [o for c in nbformat.read(path, as_version=4).cells for o in c.get("outputs", [])]
        return [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]

    assert figures(tmp_path / "out.ipynb") != figures(CHAPTERS / notebook.name)
