"""The commands of the book: execute chapters, build it, sweep a grid, judge its claims."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.cli.shared import Debug, Quiet, clear_errors, named_values
from mistakes_lib.support.locations import BOOK, without_a_clone

__all__ = ["book", "chapter", "claims", "sweep"]


def chapter(
    name: Annotated[
        str, typer.Argument(help="A chapter, such as 04_mistakes, or the path of a notebook.")
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE instead of the default; many times."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The executed notebook. [default: NAME.ipynb, here]")
    ] = None,
    list_parameters: Annotated[
        bool, typer.Option("--list", help="Print the parameters and their defaults, and no more.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
):
    """Execute a chapter with parameters of your own, as papermill does."""
    from mistakes_lib.book.notebooks import execute_chapter, find_chapter, parameters_of

    with clear_errors(debug):
        source = find_chapter(name)
        if list_parameters:
            for declared, default in parameters_of(source).items():
                typer.echo(f"{declared} = {default}")
            return
        out = out or Path(source.name)
        if out.resolve() == source:
            raise ValueError(f"{out} is the chapter itself: say with --out where the result goes")
        execute_chapter(source, named_values(parameter or []), out, progress=not quiet)
        if not quiet:
            typer.echo(out)


def book(
    parameters: Annotated[
        str, typer.Option(help="published, paper, or quick: all from scratch, in minutes.")
    ] = "published",
    chapter: Annotated[
        list[str] | None, typer.Option(help="Execute only this chapter; many times.")
    ] = None,
):
    """Execute the chapters and publish the book to _build/html, as `make book` does."""
    import subprocess

    build = BOOK / "build.py"  # of a clone
    with clear_errors(debug=False):
        if not build.is_file():
            raise FileNotFoundError(f"no book in {BOOK}.{without_a_clone('the pages of the book')}")
        if not os.access(BOOK, os.W_OK):
            raise ValueError(f"{BOOK} cannot be written to: publish from a clone of your own")
    only = [part for name in chapter or [] for part in ("--chapter", name)]
    command = [sys.executable, build, "book", "--parameters", parameters, *only]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def sweep(
    grid: Annotated[
        Path, typer.Argument(help="YAML file: chapter, and parameters with lists of values.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of results. [default: sweeps/NAME OF THE GRID]")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler. [default: start workers here]")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes to start here; 0: this one does all.")
    ] = 1,
    quiet: Quiet = False,
    debug: Debug = False,
):
    """Execute a chapter over a grid of parameters; killed, it goes on with the missing cells.

    Failed cells are listed and tried again by the next call. Exit code 1 if there are any.
    """
    from mistakes_lib.book.sweep import load_grid, run_sweep

    with clear_errors(debug):
        folder = out or Path("sweeps") / grid.stem
        result = run_sweep(
            load_grid(grid),
            folder,
            scheduler=scheduler,
            workers=workers,
            progress=not quiet,
        )
    for cell in result.failed:
        typer.secho(f"failed: {cell.parameters}", fg="red", err=True)
        typer.echo(f"  {cell.error.strip().splitlines()[-1]}\n  {cell.notebook}", err=True)
    if not quiet:
        typer.echo(f"{len(result.finished)} of {len(result.cells)} cells have results: {folder}")
    raise typer.Exit(bool(result.failed))


def claims(
    ledger: Annotated[
        Path | None, typer.Option(help="The claims and their rules. [default: the book's]")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of evidence of one run. [default: the book's, of every run]"),
    ] = None,
    debug: Debug = False,
):
    """Say which of the paper's claims reproduce, by the rules of the ledger."""
    from mistakes_lib.book.claims import VERDICTS, judge, load_claims, load_evidence
    from mistakes_lib.book.evidence import stored_evidence
    from mistakes_lib.book.matrix import judge_runs, overall_sentences

    with clear_errors(debug):
        known = load_claims(ledger or BOOK / "claims.yml")
        if results is None:
            cells = judge_runs(known, stored_evidence())
            for claim in known:
                typer.secho(f"{claim.id}: {claim.says}", bold=True)
                for (name, run), judgement in cells.items():
                    if name == claim.id:
                        typer.echo(f"  {run}: {judgement.verdict}. {judgement.ours}")
            typer.echo("\n".join(overall_sentences(known, cells)))
            return
        judgements = judge(known, load_evidence(results))
    for verdict in VERDICTS:
        found = [judgement for judgement in judgements if judgement.verdict == verdict]
        typer.secho(f"{len(found)} {verdict}", bold=True)
        for judgement in found:
            typer.echo(f"  {judgement.claim.id}: {judgement.claim.says}")
            typer.echo(f"    {judgement.ours}")
