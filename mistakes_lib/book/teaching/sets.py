"""Two sets of notebooks from the chapters: for students, without solutions, and with them."""

import re

import nbformat

from mistakes_lib.book.notebooks import load_parameters
from mistakes_lib.book.teaching.answers import ANSWERS
from mistakes_lib.book.teaching.exercises import EXERCISE, chapter_defaults, find_exercises
from mistakes_lib.book.teaching.plain import plain_markdown
from mistakes_lib.support.locations import CHAPTERS

__all__ = ["parameters_for", "solution_notebook", "student_notebook", "with_checks"]

# An exercise, or the begin or the end of its solution; what is between them stands as it is.
SEPARATOR = re.compile(
    r"(^```\{(?:exercise|solution-start|solution-end)\}.*?^```$)", re.DOTALL | re.MULTILINE
)
SETTING = re.compile(r"^(?P<name>\w+) = (?P<value>[^#\n]*?)(?P<comment>\s+#.*)?$", re.MULTILINE)
NOT_PASSED = {"run", "data_set", "classifier"}  # parameters that name the run, which is given


def parameters_for(chapter, parameters):
    """What a parameters file sets in a chapter, name → value.

    Args:
        chapter: its name, such as "04_mistakes".
        parameters: name or path of the file, such as "quick".

    Raises:
        FileNotFoundError: no such file; the message lists the book's.

    Example:
        >>> parameters_for("05_adversarial", "quick")["n_components"]
        50
    """
    shared, exceptions = load_parameters(parameters)
    values, declared = shared | exceptions.get(chapter, {}), chapter_defaults(chapter)
    return {name: value for name, value in values.items() if name in declared}


def student_notebook(chapter, *, parameters="quick"):
    """A chapter without solutions; a cell after each exercise checks the answer.

    Args:
        chapter: its name, such as "04_mistakes".
        parameters: name or path of a parameters file, whose values the notebook has.

    Returns:
        An ``nbformat`` notebook without outputs.

    Raises:
        FileNotFoundError: there is no such chapter, or no such parameters file.

    Example:
        >>> cells = student_notebook("03_hypothesis_tests").cells
        >>> [cell.source.splitlines()[-1] for cell in cells if "answer" in cell.source][0]
        'check("3.1", answer)'
        >>> any("**Solution" in cell.source for cell in cells)
        False
    """
    return _plain(with_checks(_read(chapter), chapter, solutions=False), chapter, parameters)


def solution_notebook(chapter, *, parameters="quick"):
    """A chapter with solutions, each of which is checked by the cell that students have.

    Args:
        chapter: its name, such as "04_mistakes".
        parameters: name or path of a parameters file, whose values the notebook has.

    Returns:
        An ``nbformat`` notebook without outputs.

    Raises:
        FileNotFoundError: there is no such chapter, or no such parameters file.

    Example:
        >>> cells = solution_notebook("03_hypothesis_tests").cells
        >>> any("**Solution" in cell.source for cell in cells)
        True
    """
    return _plain(with_checks(_read(chapter), chapter, solutions=True), chapter, parameters)


def with_checks(notebook, chapter, *, solutions):
    """A chapter's notebook, where a cell checks the answer to each exercise that has a number.

    Args:
        notebook: ``nbformat`` notebook of the chapter, whose solutions stand between the directives
            ``solution-start`` and ``solution-end`` and assign their number to ``answer``.
        chapter: its name.
        solutions: keep them, and check them; otherwise they are left out, and ``answer`` is open.

    Returns:
        A new notebook, with the same metadata.

    Raises:
        ValueError: a solution has no end.
    """
    asked = {e.label: e for e in find_exercises() if e.chapter == chapter}
    cells, inside, imported = [], None, False
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if solutions or inside is None:
                cells.append(cell)
            continue
        for part in filter(str.strip, SEPARATOR.split(cell.source)):
            label = re.search(r"(?::label:|\{solution-start\}) *(\S+)", part)
            to_check = None  # behind its solution or, where that is left out, behind the exercise
            if part.startswith("```{solution-start}"):
                inside = label[1]
            if part.startswith("```{solution-end}"):
                to_check, inside = inside if solutions else None, None
            elif solutions or inside is None:
                cells.append(nbformat.v4.new_markdown_cell(part.strip()))
                if part.startswith("```{exercise}") and not solutions:
                    to_check = label[1]
            if to_check in ANSWERS:
                cells += _check_cells(asked[to_check], solutions, imported)
                imported = True
    if inside is not None:
        raise ValueError(f"{chapter}: the solution of {inside} lacks its end, ```{{solution-end}}")
    return nbformat.from_dict({**notebook, "cells": cells})


def _read(chapter):
    path = CHAPTERS / f"{chapter}.ipynb"
    if not path.is_file():
        known = ", ".join(each.stem for each in sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb")))
        raise FileNotFoundError(f"no chapter {chapter}; the book's chapters are {known}")
    return nbformat.read(path, as_version=4)


def _check_cells(exercise, solutions, imported):
    """The cell that checks an answer, and before the first of a chapter the one that imports."""
    known = ANSWERS[exercise.label]
    near = f"to within {known.tolerance:g}" if known.tolerance else "a whole number"
    lines = [] if solutions else [f"answer = ...  # {known.asks}; {near}"]
    code = "\n".join([*lines, f'check("{exercise.number}", answer)'])
    cells = [nbformat.v4.new_code_cell(code)]
    return cells if imported else [nbformat.v4.new_code_cell(_imports(exercise.chapter)), *cells]


def _imports(chapter):
    """What a chapter's first check needs; run-dependent answers are computed from its own run."""
    labels = [e.label for e in find_exercises() if e.chapter == chapter]
    if not any(ANSWERS[label].compute for label in labels if label in ANSWERS):
        return "from mistakes_lib import check"
    names = [name for name in chapter_defaults(chapter) if name not in NOT_PASSED]
    given = "\n".join(f"    {name}={name}," for name in names)
    return (
        "# Answers are compared with what the library computes from this notebook's own run.\n"
        "from functools import partial\n\nfrom mistakes_lib import check\n\n"
        f"check = partial(\n    check,\n    run=source,\n{given}\n)"
    )


def _plain(notebook, chapter, parameters):
    """The notebook for any Jupyter: plain Markdown, the wanted parameters, plumbing folded."""
    values, number = parameters_for(chapter, parameters), {}
    for exercise in find_exercises():
        number[exercise.label] = exercise.number
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.source = SETTING.sub(lambda found: _setting(found, values), cell.source)
        folded = {"source_hidden": {"hide-input", "remove-input"} & {*tags}}
        folded |= {"outputs_hidden": {"hide-output"} & {*tags}}
        if any(folded.values()):
            cell.metadata["jupyter"] = {name: True for name, why in folded.items() if why}
        if cell.cell_type == "markdown":
            cell.source = plain_markdown(_numbered(cell.source, number))
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    for order, cell in enumerate(notebook.cells):
        cell.id = f"cell-{order}"
    return notebook


def _setting(found, values):
    """One line of the parameters cell, with the wanted value."""
    value = repr(values[found["name"]]) if found["name"] in values else found["value"]
    return f"{found['name']} = {value}{found['comment'] or ''}"


def _numbered(text, number):
    """Exercises and solutions by their number, as the page has it."""

    def exercise(found):
        title = found["title"].strip()
        label = re.search(r":label: (\S+)", found["options"])[1]
        head = f"**Exercise {number[label]}{f' ({title})' if title else ''}.**"
        return f"{head} {found['words'].strip()}"

    text = EXERCISE.sub(exercise, text)
    text = re.sub(
        r"^```\{solution-start\} (\S+)[^`]*^```$",
        lambda found: f"**Solution {number[found[1]]}.**",
        text,
        flags=re.MULTILINE,
    )
    return re.sub(r"\{ref\}`(ex-[\w-]+)`", lambda f: f"exercise {number.get(f[1], f[1])}", text)
