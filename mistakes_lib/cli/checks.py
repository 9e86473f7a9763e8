"""The commands that say what is there: versions, hardware, disk, images."""

from typing import Annotated

import typer

from mistakes_lib.cli.shared import Data, Debug, Runs, clear_errors

__all__ = ["data", "doctor"]


def doctor(runs: Runs = None, data: Data = None):
    """Check versions, GPU, images and disk; say what to do. Exit code 1 if something is wrong."""
    from mistakes_lib.cli.doctor import examine

    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    checks = examine(data=data, runs=runs)
    for check in checks:
        typer.secho(f"{check.status:<8}", fg=colours[check.status], nl=False)
        typer.echo(f"{check.name}: {check.found}")
        if check.advice:
            typer.echo(f"        → {check.advice}")
    raise typer.Exit(any(check.status == "problem" for check in checks))


def data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets to look for. [default: all]")
    ] = None,
    data: Data = None,
    debug: Debug = False,
):
    """Say what is there of each named data set, where it was looked for, and what to do.

    Every image that is there is read: that takes a minute where all sets are whole.
    """
    from mistakes_lib.cli.images import advise, describe
    from mistakes_lib.data.inventory import take_stock

    with clear_errors(debug):
        stock = take_stock(data, names=names or None, progress=True)
    for holding in stock:
        good = holding.status in ("original", "made here")
        typer.secho(f"{holding.name}, {holding.part}: ", fg="green" if good else "yellow", nl=False)
        typer.echo(describe(holding))
        if advice := advise(holding):
            typer.echo(f"    → {advice}")
