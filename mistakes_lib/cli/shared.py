"""What the commands share: their common options, and errors in one line."""

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Data", "Debug", "Device", "Quiet", "Runs", "clear_errors", "named_values"]

Runs = Annotated[
    Path | None, typer.Option(help="Folder of runs. [default: $MISTAKES_RUNS or ./runs]")
]
Data = Annotated[Path | None, typer.Option(help="Folder of images. [default: $MISTAKES_DATA]")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]

NO_SPACE = "; free some space and give the same command again: what is whole is kept"
NO_ACCESS = "; choose a folder that you may write to"
WHAT_TO_DO = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EROFS: NO_ACCESS,
    errno.EACCES: NO_ACCESS,
    errno.EPERM: NO_ACCESS,
}
EXTRAS = {  # a module that is missing → the part of the package that brings it
    "papermill": "book",
    "nbformat": "book",
    "jinja2": "report",
    "plotly": "report",
    "dask": "cluster",
    "distributed": "cluster",
    "pyarrow": "cluster",
}


@contextmanager
def clear_errors(debug):
    """What a user did wrong ends in one line and exit code 1, not in a traceback."""
    try:
        yield
    except BrokenPipeError:  # whoever reads has read enough, as `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush
        raise typer.Exit(0) from None
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        if debug:
            raise
        typer.secho(f"error: {error}{_advice(error)}", fg="red", err=True)
        raise typer.Exit(1) from None


def _advice(error):
    """What to do about an error that does not say so itself."""
    module = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and module in EXTRAS:
        return f'; install it with: pip install "mistakes[{EXTRAS[module]}]"'
    return WHAT_TO_DO.get(getattr(error, "errno", None), "")


def named_values(given):
    """NAME=VALUE, many times → dict; numbers, fractions such as 8 / 255 and YAML are read."""
    from mistakes_lib.support.values import read_value

    values = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not (name and separator):
            raise ValueError(f"-p {text}: must be NAME=VALUE, such as n_components=500")
        try:
            values[name] = read_value(value)
        except ValueError as error:
            raise ValueError(f"-p {text}: {error}") from None
    return values
