"""The exercises of the chapters, found in their notebooks: number, label, words."""

import json
import re
from dataclasses import dataclass

from mistakes_lib.support.locations import CHAPTERS
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["EXERCISE", "Exercise", "chapter_defaults", "find_exercise", "find_exercises"]

# ```{exercise} Title, then options such as :label: ex-price, an empty line, and the words.
EXERCISE = re.compile(
    r"^```\{exercise\}(?P<title>[^\n]*)\n(?P<options>(?::[^\n]*\n)*)(?P<words>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Exercise:
    """An exercise of a chapter.

    Attributes:
        number: as its page has it, "4.1" for the first of chapter 4.
        label: "ex-price", which stays when exercises are added before it.
        chapter: name of the notebook, "04_mistakes".
        title: what stands in brackets beside the number, perhaps "".
        words: Markdown.

    Example:
        >>> find_exercise("ex-confusions").chapter
        '01_background'
    """

    number: str
    label: str
    chapter: str
    title: str
    words: str


def find_exercises():
    """The exercises of all chapters, a list of :class:`Exercise` in the order of the book.

    Example:
        >>> [exercise.chapter for exercise in find_exercises()][0]
        '01_background'
    """
    exercises = []
    for path in sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb")):
        text = "\n".join(cell for cell, kind, _ in _cells(path) if kind == "markdown")
        for order, found in enumerate(EXERCISE.finditer(text), start=1):
            label = re.search(r":label: (\S+)", found["options"])[1]
            number = f"{int(path.stem[:2])}.{order}"
            title, words = found["title"].strip(), found["words"].strip()
            exercises.append(Exercise(number, label, path.stem, title, words))
    return exercises


def find_exercise(name):
    """The exercise of that number or label.

    Args:
        name: "4.1" or "ex-price".

    Raises:
        ValueError: there is none; the message lists the chapter's, or names the nearest.

    Example:
        >>> find_exercise("1.1") == find_exercises()[0]
        True
    """
    known = find_exercises()
    for exercise in known:
        if str(name) in (exercise.number, exercise.label):
            return exercise
    chapter = str(name).partition(".")[0]
    same = [e.number for e in known if e.number.partition(".")[0] == chapter]
    guess = did_you_mean(name, [e.label for e in known])
    if same:
        guess = f": chapter {chapter} has {', '.join(same)}"
    raise ValueError(f"there is no exercise {str(name)!r}{guess or '; their numbers are like 4.1'}")


def chapter_defaults(chapter):
    """What the cell tagged ``parameters`` of the book's own chapter sets, name → value.

    Args:
        chapter: its name, such as "04_mistakes".

    Example:
        >>> chapter_defaults("04_mistakes")["n_components"]
        100
    """
    values = {}
    for source, _, tags in _cells(CHAPTERS / f"{chapter}.ipynb"):
        if "parameters" in tags:
            exec(source, {}, values)
    return values


def _cells(path):
    """Source, kind and tags of each cell; without nbformat, which a student may lack."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = cell["source"]
        text = source if isinstance(source, str) else "".join(source)
        yield text, cell["cell_type"], cell["metadata"].get("tags", [])
