"""Notebooks for students and solutions: what they have, what they lack, and that they agree."""

import ast
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mistakes_lib.book.teaching import find_exercises, solution_notebook, student_notebook
from mistakes_lib.book.teaching.answers import ANSWERS
from mistakes_lib.book.teaching.plain import plain_markdown
from mistakes_lib.book.teaching.sets import parameters_for, with_checks
from mistakes_lib.support.locations import CHAPTERS

NAMES = [path.stem for path in sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb"))]


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


@pytest.fixture(scope="module", params=NAMES)
def sets(request):
    """A chapter, and its notebooks for students and with solutions."""
    name = request.param
    notebook = nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)
    return name, notebook, student_notebook(name), solution_notebook(name)


def test_students_get_every_exercise_and_no_solution(sets):
    name, _, student, solution = sets
    own = [e for e in find_exercises() if e.chapter == name]
    for notebook in (student, solution):
        heads = re.findall(r"\*\*Exercise (\d+\.\d+)", "\n".join(sources(notebook, "markdown")))
        assert heads == [e.number for e in own]
    prose = "\n".join(sources(student, "markdown"))
    assert "olution" not in prose.replace("resolution", "")
    hidden = [code for code in sources(solution, "code") if re.search(r"\banswer = ", code)]
    assert not set(hidden) & set(sources(student, "code"))
    assert "ecause" in "\n".join(sources(solution, "markdown")) or not own


def test_a_cell_checks_each_answer_that_is_a_number(sets):
    name, _, student, solution = sets
    checked = [e.number for e in find_exercises() if e.chapter == name and e.label in ANSWERS]
    for notebook in (student, solution):
        found = re.findall(r'check\("([\d.]+)", answer\)', "\n".join(sources(notebook, "code")))
        assert found == checked
    open_answers = re.findall(r"^answer = \.\.\.", "\n".join(sources(student, "code")), re.M)
    assert len(open_answers) == len(checked)


def test_the_solutions_hold_all_cells_of_the_chapter_in_order(sets):
    _, chapter, _, solution = sets
    rest = iter(sources(solution, "code"))
    for code in sources(chapter, "code"):
        if not code.startswith("run = None"):  # parameters, which have other values
            assert code in rest, code


def test_they_are_valid_without_outputs_and_every_cell_is_python(sets):
    for notebook in sets[2:]:
        nbformat.validate(notebook)
        for code in sources(notebook, "code"):
            ast.parse(code)
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_they_show_no_directive_and_no_role(sets):
    for notebook in sets[2:]:
        prose = "\n".join(sources(notebook, "markdown"))
        assert not re.search(r"```\{|\{[a-z:]+\}`|^:\w+:", prose, flags=re.MULTILINE), prose


def test_they_have_the_parameters_of_the_file(sets):
    name, *notebooks = sets
    for notebook in notebooks[1:]:
        (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        values = {}
        exec(cell.source, {}, values)
        wanted = parameters_for(name, "quick")
        assert {key: values[key] for key in wanted} == wanted
        assert all("#" in line for line in cell.source.splitlines() if " = " in line)


def toy(*cells):
    kinds = {"m": new_markdown_cell, "c": new_code_cell}
    return new_notebook(cells=[kinds[kind](source) for kind, source in cells])


STAIRS = "```{exercise} By hand\n:label: ex-staircase\n\nCount.\n```"
BEGIN = "```{solution-start} ex-staircase\n:class: dropdown\n```"
END = "```{solution-end}\n```"


def test_what_stands_between_and_behind_exercises_stays():
    cells = [("m", f"Before.\n\n{STAIRS}\n\n{BEGIN}"), ("c", "answer = 8")]
    cells += [("m", f"Because.\n\n{END}\n\n## Behind")]
    student = with_checks(toy(*cells), "03_hypothesis_tests", solutions=False)
    assert sources(student, "markdown") == ["Before.", STAIRS, "## Behind"]
    *_, last = sources(student, "code")
    assert last.endswith('check("3.1", answer)') and "answer = 8" not in last
    solved = with_checks(toy(*cells), "03_hypothesis_tests", solutions=True)
    assert sources(solved, "markdown") == ["Before.", STAIRS, BEGIN, "Because.", "## Behind"]
    assert sources(solved, "code")[0] == "answer = 8"
    assert sources(solved, "code")[-1] == 'check("3.1", answer)'


def test_a_solution_without_an_end_is_an_error():
    with pytest.raises(ValueError, match="the solution of ex-staircase lacks its end"):
        with_checks(toy(("m", f"{STAIRS}\n\n{BEGIN}")), "03_hypothesis_tests", solutions=False)


@pytest.mark.parametrize("make", [student_notebook, solution_notebook])
def test_an_unknown_chapter_or_file_is_an_error_that_lists_the_known(make):
    with pytest.raises(FileNotFoundError, match="no chapter 99_none; the book's chapters are 01_"):
        make("99_none")
    with pytest.raises(FileNotFoundError, match="no parameters 'slow': choose from paper"):
        make("04_mistakes", parameters="slow")


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("{term}`AUROC` and {term}`this <that>`", "AUROC and this"),
        ("{doc}`05_adversarial`, {doc}`chapter 3 <03_x>`", "`05_adversarial`, chapter 3"),
        ("see {eq}`eq-u` and {prf:ref}`thm-auroc`", "see (u) and the theorem above"),
        ("$$\nx\n$$ (eq-u)", "$$\nx\n\\tag{u}\n$$"),
        ("(target)=\n## Head", "## Head"),
        ("```{prf:proof}\nNo.\n```", "> **Proof**\n>\n> No."),
        ("```{prf:theorem} It\n:label: t\n\nIs.\n```", "> **Theorem (It)**\n>\n> Is."),
        ("```bash\nls {x}\n```", "```bash\nls {x}\n```"),
        (
            "````{admonition} net.py\n```{literalinclude} ../reports/net.py\n:n: 1\n```\n````",
            "> **net.py**\n>\n> See `book/reports/net.py` in the book's repository.",
        ),
    ],
)
def test_markdown_is_plain(myst, plain):
    assert plain_markdown(myst) == plain


@pytest.mark.parametrize("name", NAMES[:8])
def test_a_chapter_asks_three_questions_before_its_verdict_and_folds_the_answers(name):
    cells = student_notebook(name).cells
    texts = [cell.source for cell in cells]
    (place,) = [i for i, text in enumerate(texts) if text.startswith("> **Guess first**")]
    questions = re.findall(r"^> \d\. .*?(?=^> \d\. |\Z)", texts[place], re.MULTILINE | re.DOTALL)
    assert len(questions) == 3
    for question in questions:
        assert re.findall(r"\((\w)\)", question) in (["a", "b"], ["a", "b", "c"])
    answers, verdict = cells[place + 1], texts[place + 2]
    assert all(f'f"{number}. ' in answers.source for number in (1, 2, 3))
    assert len(re.findall(r"\{[^}]+:[+.]\d", answers.source)) >= 1, "numbers are computed"
    assert answers.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    assert "**Verdict.**" in verdict
