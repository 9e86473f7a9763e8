"""The commands that make runs, copy them and tell what they are."""

from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.cli.shared import Data, Debug, Device, Quiet, Runs, clear_errors

__all__ = ["publish", "run", "show", "train"]

# What `train` and `run` have in common.
Parameters = Annotated[
    Path, typer.Argument(help="Parameters file, or the name of one of the book's, such as paper.")
]
Preset = Annotated[
    str | None, typer.Option(help="Classifier, one of the file's presets. [default: the file's]")
]
DataSet = Annotated[
    str | None, typer.Option(help="Data set, such as cifar100. [default: the file's]")
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything. [default: the file's]")]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Train for so many epochs, milestones moved in proportion."),
]
Precision = Annotated[str | None, typer.Option(help="float32 or bfloat16. [default: the recipe's]")]


def train(
    parameters: Parameters,
    preset: Preset = None,
    data_set: DataSet = None,
    seed: Seed = None,
    epochs: Epochs = None,
    precision: Precision = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew; without it, go on where it was.")
    ] = False,
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
):
    """Train a classifier and keep its features; killed, it goes on at its last epoch.

    On several GPUs or machines: `accelerate launch -m mistakes_lib train …`
    """
    from mistakes_lib.runs import train_run
    from mistakes_lib.runs.experiment import load_experiment

    with clear_errors(debug):
        experiment = load_experiment(
            parameters,
            preset=preset,
            data_set=data_set,
            seed=seed,
            epochs=epochs,
            precision=precision,
        )
        _log_epochs(quiet)
        made = train_run(
            experiment, root=runs, data=data, device=device, progress=not quiet, restart=restart
        )
        _say_where(made, quiet)


def run(
    parameters: Parameters,
    preset: Preset = None,
    data_set: DataSet = None,
    seed: Seed = None,
    epochs: Epochs = None,
    precision: Precision = None,
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
):
    """Train a classifier and compute what the chapters read; killed, it goes on where it was."""
    from mistakes_lib.runs import make_run
    from mistakes_lib.runs.experiment import load_experiment

    with clear_errors(debug):
        experiment = load_experiment(
            parameters,
            preset=preset,
            data_set=data_set,
            seed=seed,
            epochs=epochs,
            precision=precision,
        )
        _log_epochs(quiet)
        made = make_run(experiment, root=runs, data=data, device=device, progress=not quiet)
        _say_where(made, quiet)


def publish(
    name: Annotated[
        str, typer.Argument(help="A run's folder or name, such as cifar100/wrn_16_2/seed0.")
    ],
    to: Annotated[Path | None, typer.Option(help="Folder of runs. [default: book/runs]")] = None,
    training_features: Annotated[
        bool, typer.Option(help="Copy the largest file, which fitting anew needs, as well.")
    ] = True,
    logits: Annotated[
        bool, typer.Option(help="Copy logits; without, they come from features and last layer.")
    ] = True,
    pixel_cnn: Annotated[
        bool, typer.Option(help="Copy the PixelCNN; what it says of the images comes anyway.")
    ] = True,
    classifier: Annotated[
        bool, typer.Option(help="Copy the network; without, only its last layer.")
    ] = True,
    full_precision: Annotated[
        bool, typer.Option(help="Copy densities and detectors in float64; without, in float32.")
    ] = True,
    refits: Annotated[
        int,
        typer.Option(min=0, help="Add fits of the mixture with so many further seeds."),
    ] = 0,
    debug: Debug = False,
):
    """Copy a finished run to where others read it, every file checked."""
    from mistakes_lib.runs import load_run, publish_run

    with clear_errors(debug):
        copy = publish_run(
            load_run(name),
            to,
            training_features=training_features,
            logits=logits,
            pixel_cnn=pixel_cnn,
            classifier=classifier,
            full_precision=full_precision,
            refits=refits,
        )
    size = sum(path.stat().st_size for path in copy.path.rglob("*") if path.is_file())
    typer.echo(f"{copy.title}: {size / 1e6:.1f} MB in {copy.path}")


def show(
    name: Annotated[
        str, typer.Argument(help="A run's folder or name, such as cifar100/wrn_16_2/seed0.")
    ],
):
    """Say what a run is: network, data, recipe, accuracy, where it was made."""
    from mistakes_lib.runs import load_run

    with clear_errors(debug=False):
        info = load_run(name).info
    typer.echo(f"{info['title']} on {info['data']['description']}")
    for split, accuracy in info["accuracy"].items():
        typer.echo(f"  {split:<11} {info['data']['counts'][split]:>6} images  {accuracy:.2%}")
    typer.echo(
        f"  trained     {info['training']['seconds']:.0f} s on {info['training']['hardware']}"
    )


def _log_epochs(quiet):
    """Where nobody sees a bar, such as in a cluster's log, write a line after each epoch."""
    import logging

    from mistakes_lib.support.progress import somebody_watches

    if not (quiet or somebody_watches()):
        logging.basicConfig(level=logging.INFO, format="%(message)s")


def _say_where(made, quiet):
    from mistakes_lib.training import distributed as processes

    if not quiet and processes.is_main():
        typer.echo(f"{made.title}: {made.path}")
