"""The ``mistakes`` command. Each command imports what it needs, so that ``--help`` is instant."""

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.support.locations import BOOK

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Understanding classifier mistakes with generative models: an executable book.",
)


NO_SPACE = "; free some space and give the same command again: what is whole is kept"
NO_ACCESS = "; choose a folder that you may write to"
WHAT_TO_DO = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EROFS: NO_ACCESS,
    errno.EACCES: NO_ACCESS,
    errno.EPERM: NO_ACCESS,
}


@contextmanager
def _clear_errors(debug):
    """What a user did wrong ends in one line and exit code 1, not in a traceback."""
    try:
        yield
    except BrokenPipeError:  # whoever reads has read enough, as `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush
        raise typer.Exit(0) from None
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        if debug:
            raise
        advice = WHAT_TO_DO.get(getattr(error, "errno", None), "")
        typer.secho(f"error: {error}{advice}", fg="red", err=True)
        raise typer.Exit(1) from None


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
Runs = Annotated[
    Path | None, typer.Option(help="Folder of runs. [default: $MISTAKES_RUNS or ./runs]")
]
Data = Annotated[Path | None, typer.Option(help="Folder of images. [default: $MISTAKES_DATA]")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@app.command()
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

    On several GPUs or machines: accelerate launch -m mistakes_lib train …
    """
    from mistakes_lib.runs import train_run
    from mistakes_lib.runs.experiment import load_experiment

    with _clear_errors(debug):
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


@app.command()
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

    with _clear_errors(debug):
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


@app.command()
def publish(
    name: Annotated[
        str, typer.Argument(help="A run's folder or name, such as cifar10/densenet_bc_40_12/seed0.")
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
    debug: Debug = False,
):
    """Copy a finished run to where others read it, every file checked."""
    from mistakes_lib.runs import load_run, publish_run

    with _clear_errors(debug):
        parts = {"training_features": training_features, "logits": logits, "pixel_cnn": pixel_cnn}
        copy = publish_run(load_run(name), to, **parts)
    size = sum(path.stat().st_size for path in copy.path.rglob("*") if path.is_file())
    typer.echo(f"{copy.title}: {size / 1e6:.1f} MB in {copy.path}")


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


@app.command()
def fit(
    train_features: Annotated[
        Path, typer.Argument(metavar="TRAIN", help="npz, safetensors or Parquet.")
    ],
    validation_features: Annotated[
        Path, typer.Argument(metavar="VALIDATION", help="The same of other inputs, with labels.")
    ],
    out: Annotated[Path, typer.Option(help="Where the detector goes.")] = Path(
        "detector.safetensors"
    ),
    method: Annotated[
        str, typer.Option(help="likelihood, mahalanobis, vim, calibrated, energy, …")
    ] = "likelihood",
    false_alarms: Annotated[
        float, typer.Option(help="Share of correct predictions that may be flagged, guaranteed.")
    ] = 0.05,
    criterion: Annotated[
        str | None, typer.Option(help="Instead: the threshold with the best f1, youden, accuracy.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fit.")] = 0,
    debug: Debug = False,
):
    """Fit a detector to features of your classifier, and choose its threshold.

    The files hold features (n, d), logits (n, c) and labels (n,).
    """
    from mistakes_lib.detector import fit_detector, named_scorer
    from mistakes_lib.features.files import load_features

    with _clear_errors(debug):
        train_set, validation = load_features(train_features), load_features(validation_features)
        detector = fit_detector(
            train_set,
            validation,
            scorer=named_scorer(method),
            false_alarms=false_alarms,
            criterion=criterion,
            random_state=seed,
            progress=True,
        )
        detector.save(out)
    flags, correct = detector.flag(validation), validation.correct
    typer.echo(f"{detector.scorer.name}, {detector.rule}: {out}")
    typer.echo(
        f"validation: {flags[correct].mean():.1%} of {correct.sum()} correct and "
        f"{flags[~correct].mean() if (~correct).any() else 0:.1%} of {(~correct).sum()} wrong "
        "predictions are flagged"
    )


@app.command()
def score(
    features: Annotated[
        str, typer.Argument(help="npz, safetensors or Parquet file, or - for rows on stdin.")
    ],
    detector: Annotated[Path, typer.Option(help="What `mistakes fit` wrote.")] = Path(
        "detector.safetensors"
    ),
    form: Annotated[
        str, typer.Option("--format", help="csv or jsonl, of what is read on stdin and printed.")
    ] = "csv",
    debug: Debug = False,
):
    """Score features with a detector: a line an input, its score and whether it is flagged."""
    from mistakes_lib.detector import Detector
    from mistakes_lib.features.files import load_features, read_stream

    with _clear_errors(debug):
        if form not in ("csv", "jsonl"):
            raise ValueError(f"--format must be csv or jsonl, got {form!r}")
        loaded = Detector.load(detector)
        batches = read_stream(sys.stdin, form) if features == "-" else [load_features(features)]
        if form == "csv":
            typer.echo("score,flagged")
        line = {"csv": "{},{}", "jsonl": '{{"score": {}, "flagged": {}}}'}[form]
        for batch in batches:
            for value in loaded.score(batch):
                flagged = "true" if value < loaded.threshold else "false"
                typer.echo(line.format(repr(float(value)), flagged))


@app.command()
def report(
    train_features: Annotated[
        Path | None,
        typer.Option("--train", help="Training inputs: npz, safetensors or Parquet."),
    ] = None,
    validation_features: Annotated[
        Path | None, typer.Option("--validation", help="The same of held-out inputs.")
    ] = None,
    test_features: Annotated[
        Path | None, typer.Option("--test", help="The same of other held-out inputs.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Instead: torchvision:NAME, timm:NAME or package.module:function, a function "
            "that returns a network."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Its images: DIR/train, DIR/validation, DIR/test with a subfolder a class each, "
            "or one subfolder a class, split 80/10/10."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Its state dict, safetensors or torch.save; or pretrained."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Names of its outputs in their order, one a line. [default: the subfolders, "
            "sorted; what pretrained weights say]"
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Resize the shorter side to so many pixels and cut out the central square. "
            "[default: what the network's own weights want; for a function 256, then 224]",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="What it subtracts of red, green, blue in 0…1, such as 0.5,0.5,0.5. "
            "[default: the same; for a function ImageNet's]"
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(help="What it divides them by.")] = None,
    head: Annotated[
        str | None, typer.Option(help="Its last linear layer, if that is not found.")
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE of inputs from elsewhere, with --model NAME=DIR; many times."),
    ] = None,
    adversarial: Annotated[
        list[str] | None, typer.Option(help="The same of attacked inputs; many times.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    components: Annotated[
        int | None, typer.Option(min=1, help="Gaussians in the mixture. [default: 100]")
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(help="Share of correct predictions that the detector may flag.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of the fits and of a division.")] = 0,
    features: Annotated[
        Path | None,
        typer.Option(help="Keep features here; killed, the same command goes on where it was."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images. [default: the cores]")
    ] = None,
    validation_from_test: Annotated[
        bool,
        typer.Option(
            "--validation-from-test", help="Half of the test images are the validation images."
        ),
    ] = False,
    device: Device = "auto",
    debug: Debug = False,
):
    """Report where your classifier fails: one HTML page, report.json and a detector.

    From files of features (n, d), logits (n, c) and, but for the suspects, labels (n,); or from a
    model and a folder of images. Weights are loaded as tensors only: a file that would run code is
    refused.
    """
    import json

    from mistakes_lib.features.files import load_features
    from mistakes_lib.report.facts import make_report
    from mistakes_lib.report.page import report_html

    with _clear_errors(debug):
        given = [*(ood or []), *(adversarial or [])]
        suspects = _named_paths(given, "DIR" if model else "FILE")
        files = (train_features, validation_features, test_features)
        for_models = {
            "--weights": weights,
            "--classes": classes,
            "--size": size,
            "--mean": mean,
            "--std": std,
            "--head": head,
            "--features": features,
            "--workers": workers,
            "--validation-from-test": validation_from_test or None,
        }
        unused = [name for name, value in for_models.items() if value is not None]
        if unused and all(files) and not model:
            raise ValueError(f"{', '.join(unused)}: for --model only, files of features need none")
        options = {
            "n_components": components,
            "false_alarms": false_alarms,
            "seed": seed,
            "progress": True,
        }
        if model and images and not any(files):
            from mistakes_lib.report.model import report_on_model

            found, page = report_on_model(
                model,
                images,
                weights=weights,
                classes=_lines(classes),
                size=size,
                mean=_three_numbers(mean, "--mean"),
                std=_three_numbers(std, "--std"),
                head=head,
                suspects=suspects,
                device=device,
                workers=workers,
                keep=features,
                validation_from_test=validation_from_test,
                say=typer.echo,
                **options,
            )
        elif all(files) and not (model or images):
            suspects = {name: load_features(path) for name, path in suspects.items()}
            sets = [load_features(path) for path in files]
            found = make_report(*sets, suspects=suspects, **options)
            page = report_html(found)
        else:
            raise ValueError("give --train, --validation and --test, or --model and --images")
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(page, encoding="utf-8")
        (out / "report.json").write_text(json.dumps(found.facts, indent=1), encoding="utf-8")
        found.detector.save(out / "detector.safetensors")
        if found.watched is not None:
            found.watched.save(out / "watched.safetensors")
    for alarm in found.facts["alarms"]:
        typer.secho(f"ALARM: {alarm['alarm']}", fg="red")
        typer.echo(f"  likeliest cause: {alarm['cause']}\n  what to do: {alarm['cure']}")
    for verdict in found.facts["verdicts"]:
        typer.echo(
            f"{verdict['set']}: {verdict['flagged_by_likelihood']}, AUROC {verdict['auroc']:.3f} "
            f"(best: {verdict['best']}, {verdict['best_auroc']:.3f})"
        )
    for row in found.facts["advice"]:
        typer.echo(
            f"against {row['set']}: {row['method']}, which refuses {row['catch_50']:.1%} of the "
            f"trusted inputs to catch half of them, {row['catch_90']:.1%} to catch 90 %: "
            f"{row['deploy']}"
        )
    typer.echo(f"{out / 'report.html'}")


def _named_paths(given, kind):
    """NAME=PATH, many times → dict."""
    paths = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not (name and separator and path) or name in paths:
            raise ValueError(f"{text!r} must be NAME={kind}, with a name for each")
        paths[name] = Path(path)
    return paths


def _lines(path):
    """The lines of a file, without empty ones."""
    if path is None:
        return None
    text = path.read_text(encoding="utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _three_numbers(text, name):
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):  # one: grey images
        raise ValueError(f"{name} must be three numbers, such as 0.5,0.5,0.5; got {text}")
    return numbers


@app.command()
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

    with _clear_errors(debug):
        source = find_chapter(name)
        if list_parameters:
            for declared, default in parameters_of(source).items():
                typer.echo(f"{declared} = {default}")
            return
        out = out or Path(source.name)
        if out.resolve() == source:
            raise ValueError(f"{out} is the chapter itself: say with --out where the result goes")
        execute_chapter(source, _values(parameter or []), out, progress=not quiet)
        if not quiet:
            typer.echo(out)


def _values(given):
    """NAME=VALUE, many times → dict; numbers, fractions such as 8 / 255 and YAML are read."""
    from mistakes_lib.support.values import read_value

    values = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not (name and separator):
            raise ValueError(f"-p {text}: must be NAME=VALUE, such as n_components=500")
        values[name] = read_value(value)
    return values


@app.command()
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

    build = BOOK / "build.py"
    with _clear_errors(debug=False):
        if not build.is_file():
            raise FileNotFoundError(
                "the book is not here, only its library: clone the repository and install that"
            )
        if not os.access(BOOK, os.W_OK):
            raise ValueError(f"{BOOK} cannot be written to: publish from a clone of your own")
    only = [part for name in chapter or [] for part in ("--chapter", name)]
    command = [sys.executable, build, "book", "--parameters", parameters, *only]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
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

    with _clear_errors(debug):
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


@app.command()
def claims(
    ledger: Annotated[
        Path | None, typer.Option(help="The claims and their rules. [default: the book's]")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder of evidence. [default: the book's]")
    ] = None,
    debug: Debug = False,
):
    """Say which of the paper's claims reproduce, by the rules of the ledger."""
    from mistakes_lib.book.claims import VERDICTS, judge, load_claims, load_evidence

    with _clear_errors(debug):
        judgements = judge(
            load_claims(ledger or BOOK / "claims.yml"), load_evidence(results or BOOK / "results")
        )
    for verdict in VERDICTS:
        found = [judgement for judgement in judgements if judgement.verdict == verdict]
        typer.secho(f"{len(found)} {verdict}", bold=True)
        for judgement in found:
            typer.echo(f"  {judgement.claim.id}: {judgement.claim.says}")
            typer.echo(f"    {judgement.ours}")


@app.command()
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


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A run's folder or name, such as cifar10/densenet_bc_40_12/seed0.")
    ],
):
    """Say what a run is: network, data, recipe, accuracy, where it was made."""
    from mistakes_lib.runs import load_run

    with _clear_errors(debug=False):
        info = load_run(name).info
    typer.echo(f"{info['title']} on {info['data']['description']}")
    for split, accuracy in info["accuracy"].items():
        typer.echo(f"  {split:<11} {info['data']['counts'][split]:>6} images  {accuracy:.2%}")
    typer.echo(
        f"  trained     {info['training']['seconds']:.0f} s on {info['training']['hardware']}"
    )
