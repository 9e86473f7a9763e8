"""The ``mistakes`` command. Each command imports what it needs, so that ``--help`` is instant."""

import typer

from mistakes_lib.cli import book, checks, detectors, lessons, report, runs

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Understanding classifier mistakes with generative models: an executable book.",
)

# In the order of --help and of the reference page.
COMMANDS = (
    runs.train,
    runs.run,
    runs.publish,
    detectors.fit,
    detectors.score,
    report.report,
    book.chapter,
    book.book,
    book.sweep,
    book.claims,
    lessons.teach,
    lessons.check,
    checks.doctor,
    checks.data,
    runs.show,
)
# An answer below zero is no option.
SETTINGS = {lessons.check: {"ignore_unknown_options": True}}
for command in COMMANDS:
    app.command(context_settings=SETTINGS.get(command))(command)
