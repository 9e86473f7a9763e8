"""The commands for lessons: material for students, and a check of an exercise's answer."""

from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.cli.shared import Debug, Quiet, clear_errors, named_values

__all__ = ["check", "teach"]


def teach(
    output: Annotated[
        Path, typer.Option(help="Folder to write to; what it has of an earlier call is replaced.")
    ] = Path("teach"),
    parameters: Annotated[
        str, typer.Option(help="quick, published or paper, or a file of yours: of the notebooks.")
    ] = "quick",
    runs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs that the notebooks read; made there where they are missing. "
            "[default: $MISTAKES_RUNS or ./runs]"
        ),
    ] = None,
    pack_runs: Annotated[
        bool, typer.Option(help="Copy the runs, so that the notebooks work anywhere.")
    ] = True,
    quiet: Quiet = False,
    debug: Debug = False,
):
    """Write notebooks for students, solutions, slides and a handout, and zip them for a lesson."""
    from mistakes_lib.book.teaching import write_lessons

    with clear_errors(debug):
        written = write_lessons(
            output, parameters=parameters, runs=runs, pack_runs=pack_runs, progress=not quiet
        )
    if not quiet:
        for path, what in written.items():
            typer.echo(f"{path}: {what}")


def check(
    exercise: Annotated[str, typer.Argument(help="Number on the chapter's page, such as 4.1.")],
    answer: Annotated[str, typer.Argument(help="A number, or a fraction such as 5/6.")],
    run: Annotated[
        str | None, typer.Option(help="Folder or name of the run. [default: the chapter's]")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE, as the chapter was run; many times."),
    ] = None,
    debug: Debug = False,
):
    """Say whether an answer to an exercise is right, or give a hint; exit code 1 if it is not."""
    from mistakes_lib.book.teaching import check as check_answer
    from mistakes_lib.support.values import read_value

    with clear_errors(debug):
        found = check_answer(exercise, read_value(answer), run=run, **named_values(parameter or []))
    typer.echo(found.message)
    raise typer.Exit(not found.right)
