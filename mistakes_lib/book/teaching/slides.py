"""Slides and a handout of the book's figures: one HTML file each, which needs no network."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mistakes_lib.book.teaching.plain import plain_markdown

__all__ = ["Chapter", "Picture", "handout_html", "read_chapter", "slides_html"]

CAPTION = re.compile(r"\*\*Figure (?P<number>\d+\.\d+)\.\*\*\s*(?P<words>.*)", re.DOTALL)
SIGNS = {r"\varepsilon": "ε", r"\alpha": "α", r"\nu": "ν", r"\mu": "μ", r"\Sigma": "Σ", r"\,": " "}
VERDICT = "**Verdict.**"
GUESS = "```{admonition} Guess first"


@dataclass(frozen=True)
class Picture:
    """A figure of an executed chapter.

    Attributes:
        number: "4.1", or "" for a figure without a caption.
        words: its caption, or else the text that stands for it where it is not seen; Markdown.
        alt: that text.
        png: base64.
        tags: of its cell, a tuple.
    """

    number: str
    words: str
    alt: str
    png: str
    tags: tuple = ()


@dataclass(frozen=True)
class Chapter:
    """What slides take from an executed chapter.

    Attributes:
        name: of its notebook.
        title: its heading.
        question: the sentence below the heading, Markdown.
        verdict: what it found, Markdown; "" for a chapter without a verdict.
        guesses: its questions to guess first, Markdown; "" if it has none.
        pictures: list of :class:`Picture`, in order.
    """

    name: str
    title: str
    question: str
    verdict: str
    guesses: str
    pictures: list


def read_chapter(path):
    """Take title, question, verdict and figures out of an executed chapter.

    Args:
        path: of the notebook with its outputs.

    Returns:
        Chapter.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the notebook has no heading, or was not executed.
    """
    notebook = nbformat.read(path, as_version=4)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    head = next((text for text in prose if text.startswith("# ")), None)
    if head is None:
        raise ValueError(f"{path} has no heading: no chapter")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not any(cell.outputs for cell in code):
        raise ValueError(f"{path} has no outputs: execute it, by `make book`")
    shown = [
        _text(output)
        for cell in code
        for output in cell.outputs
        if "text/markdown" in _data(output)
    ]
    return Chapter(
        name=Path(path).stem,
        title=head.splitlines()[0].removeprefix("# "),
        question=next((p for p in head.split("\n\n") if p.startswith("*")), "").strip("*\n"),
        verdict=next((t.removeprefix(VERDICT) for t in shown if t.startswith(VERDICT)), "").strip(),
        guesses=next((text for text in prose if text.startswith(GUESS)), ""),
        pictures=[picture for cell in code for picture in _pictures(cell)],
    )


def slides_html(chapters, *, title="Mistakes"):
    """The slides: for each chapter its question, what to guess, its figures and its verdict.

    Args:
        chapters: list of :class:`Chapter`.
        title: of the first slide.

    Returns:
        str: HTML with its pictures inside. Arrow keys turn the slides; printing gives a page each.
    """
    return _template("slides.html").render(chapters=chapters, title=title)


def handout_html(picture, exercises, *, title="Mistakes"):
    """One page on paper: words, what to work out by hand, a figure to read.

    Args:
        picture: :class:`Picture`.
        exercises: list of :class:`~mistakes_lib.book.teaching.exercises.Exercise`, by hand.
        title: of the page.

    Returns:
        str: HTML, whose print fits one A4 page.
    """
    return _template("handout.html").render(picture=picture, exercises=exercises, title=title)


def _template(name):
    environment = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent))
    environment.filters["words"] = _as_html
    return environment.get_template(name)


def _data(output):
    return output.get("data", {})


def _text(output):
    return _data(output)["text/markdown"]


def _pictures(cell):
    """The pictures of a cell, each with the caption that follows it."""
    found, outputs = [], [output for output in cell.outputs if _data(output)]
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    for place, output in enumerate(outputs, start=1):
        if "image/png" in _data(output):
            following = _data(outputs[place]) if place < len(outputs) else {}
            caption = CAPTION.match(following.get("text/markdown", ""))
            number, words = (caption["number"], caption["words"]) if caption else ("", alt)
            own = output.get("metadata", {}).get("image/png", {}).get("alt", alt)
            png = _data(output)["image/png"].replace("\n", "")
            tags = tuple(cell.metadata.get("tags", ()))
            found.append(Picture(number, words or own, alt or own, png, tags))
    return found


def _as_html(text):
    """Markdown of captions and exercises: paragraphs, lists, emphasis and code."""
    blocks = []
    text = re.sub(r"^> ?", "", plain_markdown(text), flags=re.MULTILINE)
    text = re.sub(r"\n(?=\d+\. |- )", "\n\n", text)  # a paragraph for each point of a list
    for block in re.split(r"\n\s*\n", text):
        words = html.escape(block.strip(), quote=False)
        words = re.sub(r"`([^`]+)`", r"<code>\1</code>", words)
        words = re.sub(r"\$([^$]+)\$", lambda found: _formula(found[1]), words)
        words = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", words, flags=re.DOTALL)
        words = re.sub(r"(?<!\w)\*(.+?)\*(?!\w)", r"<em>\1</em>", words, flags=re.DOTALL)
        if words:
            blocks.append(f"<p>{words}</p>")
    return Markup("\n".join(blocks))


def _formula(tex):
    """A short formula without MathJax: subscripts, and the commands that captions have."""
    for command, sign in SIGNS.items():
        tex = tex.replace(command, sign)
    lowered = re.sub(r"_(\w)", r"<sub>\1</sub>", tex)
    return f"<em>{lowered}</em>"
