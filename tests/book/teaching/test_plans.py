"""The lesson plans: what they tell a teacher to type is there and does what they say."""

import re
import shlex

import pytest
import typer

from mistakes_lib.book.notebooks import check_parameters, find_chapter
from mistakes_lib.book.teaching import find_exercise
from mistakes_lib.cli.app import app
from mistakes_lib.support.locations import ROOT
from tests.helpers.commands import mistakes

PAGES = {name: (ROOT / "book" / f"{name}.md") for name in ("teaching", "teachers_notes")}
TEXT = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
LINES = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT["teaching"], flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]


def test_the_plans_have_lines_to_try():
    assert len(LINES) >= 6


@pytest.mark.parametrize("line", [x for x in LINES if x.startswith("papermill")])
def test_papermill_lines_name_a_chapter_and_its_parameters(line):
    _, notebook, _, *options = shlex.split(line)
    check_parameters(find_chapter(notebook, beside=ROOT), options[1::3])


@pytest.mark.parametrize("line", [x for x in LINES if x.startswith("mistakes")])
def test_lines_of_the_command_have_options_that_exist(line):
    _, name, *arguments = shlex.split(line)
    typer.main.get_command(app).commands[name].make_context(name, arguments)  # or raises


@pytest.mark.parametrize("line", [x for x in LINES if x.startswith("mistakes check")])
def test_an_answer_that_is_shown_is_right(line):
    result = mistakes(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("line", [x for x in LINES if x.startswith("make ")])
def test_targets_are_in_the_makefile(line):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.split()[1]}:.*## ", makefile, flags=re.MULTILINE)


def test_the_exercises_that_are_named_exist():
    named = re.findall(r"\{ref\}`(ex-[\w-]+)`", "".join(TEXT.values()))
    assert len(named) > 10
    for label in named:
        assert find_exercise(label).label == label


def test_the_code_of_a_plan_runs_in_its_chapters_notebook():
    """Halving the test set, on scores that differ."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT["teaching"], flags=re.DOTALL)
    code = re.sub(r"^   ", "", code, flags=re.MULTILINE)
    lines = """
import numpy as np
from types import SimpleNamespace
from mistakes_lib import mann_whitney
rng = np.random.default_rng(0)
class Rows(SimpleNamespace):
    def __len__(self):
        return len(self.correct)
test = Rows(correct=rng.random(2000) < 0.8)
scores = rng.normal(size=2000) + test.correct
whole = mann_whitney(scores[test.correct], scores[~test.correct])
"""
    names = {}
    exec(lines + code, names)
    whole, fewer = names["whole"], names["fewer"]
    assert fewer.log10_p > whole.log10_p + 1, "p grows"
    assert (
        whole.auroc_ci[0] < fewer.auroc < whole.auroc_ci[1] or abs(fewer.auroc - whole.auroc) < 0.05
    )
    assert width(fewer) > width(whole)


def width(result):
    low, high = result.auroc_ci
    return high - low
