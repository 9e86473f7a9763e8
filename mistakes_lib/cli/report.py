"""The command that reports where somebody's classifier fails."""

from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.cli.shared import Debug, Device, clear_errors

__all__ = ["report"]

Training = Annotated[
    Path | None, typer.Option("--train", help="Training inputs: npz, safetensors or Parquet.")
]
Validation = Annotated[
    Path | None, typer.Option("--validation", help="The same of held-out inputs.")
]
Test = Annotated[Path | None, typer.Option("--test", help="The same of other held-out inputs.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Instead: torchvision:NAME, timm:NAME or package.module:function, a function "
        "that returns a network."
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Its images: DIR/train, DIR/validation, DIR/test with a subfolder a class each, "
        "or one subfolder a class, split 80/10/10."
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="Its state dict, safetensors or torch.save; or pretrained.")
]
Classes = Annotated[
    Path | None,
    typer.Option(
        help="Names of its outputs in their order, one a line. [default: the subfolders, "
        "sorted; what pretrained weights say]"
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Resize the shorter side to so many pixels and cut out the central square. "
        "[default: what the network's own weights want; for a function 256, then 224]",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="What it subtracts of red, green, blue in 0…1, such as 0.5,0.5,0.5. "
        "[default: the same; for a function ImageNet's]"
    ),
]
Std = Annotated[str | None, typer.Option(help="What it divides them by.")]
Head = Annotated[str | None, typer.Option(help="Its last linear layer, if that is not found.")]
Ood = Annotated[
    list[str] | None,
    typer.Option(help="NAME=FILE of inputs from elsewhere, with `--model` NAME=DIR; many times."),
]
Adversarial = Annotated[
    list[str] | None, typer.Option(help="The same of attacked inputs; many times.")
]
Out = Annotated[Path, typer.Option(help="Folder of the report.")]
Components = Annotated[
    int | None, typer.Option(min=1, help="Gaussians in the mixture. [default: 100]")
]
FalseAlarms = Annotated[
    float, typer.Option(help="Share of correct predictions that the detector may flag.")
]
Seed = Annotated[int, typer.Option(help="Seed of the fits and of a division.")]
Features = Annotated[
    Path | None,
    typer.Option(help="Keep features here; killed, the same command goes on where it was."),
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that read images. [default: the cores]")
]
ValidationFromTest = Annotated[
    bool,
    typer.Option(
        "--validation-from-test", help="Half of the test images are the validation images."
    ),
]


def report(
    train: Training = None,
    validation: Validation = None,
    test: Test = None,
    model: Model = None,
    images: Images = None,
    weights: Weights = None,
    classes: Classes = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    head: Head = None,
    ood: Ood = None,
    adversarial: Adversarial = None,
    out: Out = Path("report"),
    components: Components = None,
    false_alarms: FalseAlarms = 0.05,
    seed: Seed = 0,
    features: Features = None,
    workers: Workers = None,
    validation_from_test: ValidationFromTest = False,
    device: Device = "auto",
    debug: Debug = False,
):
    """Report where your classifier fails: one HTML page, report.json and a detector.

    From files of features (n, d), logits (n, c) and, but for the suspects, labels (n,); or from a
    model and a folder of images. Weights are loaded as tensors only: a file that would run code is
    refused.
    """
    with clear_errors(debug):
        files = (train, validation, test)
        given = [*(ood or []), *(adversarial or [])]
        suspects = _named_paths(given, "DIR" if model else "FILE")
        options = {
            "n_components": components,
            "false_alarms": false_alarms,
            "seed": seed,
            "progress": True,
        }
        for_models = {"weights": weights, "classes": classes, "size": size, "mean": mean}
        for_models |= {"std": std, "head": head, "features": features, "workers": workers}
        for_models["validation-from-test"] = validation_from_test or None
        for_models["device"] = None if device == "auto" else device
        unused = [f"--{name}" for name, value in for_models.items() if value is not None]
        if unused and all(files) and not model:
            raise ValueError(f"{', '.join(unused)}: for --model only, files of features need none")
        if model and images and not any(files):
            from mistakes_lib.report.model import report_on_model

            options |= {"weights": weights, "classes": _lines(classes), "size": size}
            options |= {"mean": _three_numbers(mean, "--mean"), "std": _three_numbers(std, "--std")}
            options |= {"head": head, "device": device, "workers": workers, "keep": features}
            options |= {"validation_from_test": validation_from_test, "say": typer.echo}
            found, page = report_on_model(model, images, suspects=suspects, **options)
        elif all(files) and not (model or images):
            found, page = _report_on_features(files, suspects, options)
        else:
            raise ValueError("give --train, --validation and --test, or --model and --images")
        _write(found, page, out)
    _say(found.facts)
    typer.echo(f"{out / 'report.html'}")


def _say(facts):
    """The report's alarms, verdicts and advice on the console."""
    for alarm in facts["alarms"]:
        typer.secho(f"ALARM: {alarm['alarm']}", fg="red")
        typer.echo(f"  likeliest cause: {alarm['cause']}\n  what to do: {alarm['cure']}")
    for verdict in facts["verdicts"]:
        typer.echo(
            f"{verdict['set']}: {verdict['flagged_by_likelihood']}, AUROC {verdict['auroc']:.3f} "
            f"(best: {verdict['best']}, {verdict['best_auroc']:.3f})"
        )
    for name, count in facts["learned_from"].items():
        typer.echo(
            f"{name} has learned from {count:,} of {facts['inputs']['counts']['train']:,} training "
            "inputs, drawn at random, as it holds all of them in memory"
        )
    for row in facts["advice"]:
        typer.echo(
            f"against {row['set']}: {row['method']}, which refuses {row['catch_50']:.1%} of the "
            f"trusted inputs to catch half of them, {row['catch_90']:.1%} to catch 90%: "
            f"{row['deploy']}"
        )


def _report_on_features(files, suspects, options):
    """The report on three files of features and on those of the suspects, and its page."""
    from mistakes_lib.features.files import load_features
    from mistakes_lib.report.facts import make_report
    from mistakes_lib.report.page import report_html

    suspects = {name: load_features(path) for name, path in suspects.items()}
    found = make_report(*map(load_features, files), suspects=suspects, **options)
    return found, report_html(found)


def _write(found, page, folder):
    import json

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(found.facts, indent=1), encoding="utf-8")
    found.detector.save(folder / "detector.safetensors")
    if found.watched is not None:
        found.watched.save(folder / "watched.safetensors")


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
