"""The ``mistakes`` command."""

from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.experiment import load_experiment
from mistakes_lib.runs import load_run, make_run

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Understanding classifier mistakes with generative models: an executable book.",
)


@contextmanager
def _clear_errors(debug):
    """What a user did wrong ends in one line and exit code 1, not in a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError, RuntimeError) as error:  # torch: "no such device"
        if debug:
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


@app.command()
def run(
    parameters: Annotated[Path, typer.Argument(help="Parameters file, such as quick.yml.")],
    runs: Annotated[
        Path | None, typer.Option(help="Folder of runs. [default: $MISTAKES_RUNS or ./runs]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images. [default: $MISTAKES_DATA]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
):
    """Train a classifier and compute what the chapters read; killed, it goes on where it was."""
    with _clear_errors(debug):
        made = make_run(
            load_experiment(parameters), root=runs, data=data, device=device, progress=not quiet
        )
    if not quiet:
        typer.echo(f"{made.title}: {made.path}")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A run's folder or name, such as cifar10/densenet_bc_40_12/seed0.")
    ],
):
    """Say what a run is: network, data, recipe, accuracy, where it was made."""
    with _clear_errors(debug=False):
        info = load_run(name).info
    typer.echo(f"{info['title']} on {info['data']['description']}")
    for split, accuracy in info["accuracy"].items():
        typer.echo(f"  {split:<11} {info['data']['counts'][split]:>6} images  {accuracy:.2%}")
    typer.echo(
        f"  trained     {info['training']['seconds']:.0f} s on {info['training']['hardware']}"
    )
