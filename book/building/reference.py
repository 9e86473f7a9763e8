"""The reference page of the command line, made from its own help."""

import click
import typer
from typer.cli import get_docs_for_click

from book.building.places import ROOT
from mistakes_lib.cli.app import app as mistakes

__all__ = ["COMMAND_LINE", "command_line_page", "write_command_line"]

COMMAND_LINE = ROOT / "book" / "reference" / "command_line.md"

COMMAND_LINE_HEAD = """# Command line

What the help of each command says; `mistakes --help` lists them, and `mistakes
--install-completion` lets the shell complete their names and options.

"""


def command_line_page():
    """Return the reference page of the ``mistakes`` command, made from its own help."""
    command = typer.main.get_command(mistakes)
    context = click.Context(command, info_name="mistakes")
    text = get_docs_for_click(obj=command, ctx=context, name="mistakes")
    _, start, sections = text.partition("\n## ")  # after the list of commands, cut short there
    return COMMAND_LINE_HEAD + (start + sections).strip() + "\n"


def write_command_line(root=ROOT):
    """Write that page where the book in ``root`` looks for it."""
    path = root / COMMAND_LINE.relative_to(ROOT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(command_line_page(), encoding="utf-8")
