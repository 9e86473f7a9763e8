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
    typer.Option(help="NAME=FILE of inputs from elsewhere, with --model NAME=DIR; many times."),
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
    device: Device = "auto",
    debug: Debug = False,
):
    """Report where your classifier fails: one HTML page, report.json and a detector.

    From files of features (n, d), logits (n, c) and, but for the suspects, labels (n,); or from a
    model and a folder of images. Weights are loaded as tensors only: a file that would run code is
    refused.
    """
    with clear_errors(debug):
        features = (train, validation, test)
        given = [*(ood or []), *(adversarial or [])]
        suspects = _named_paths(given, "DIR" if model else "FILE")
        options = {
            "n_components": components,
            "false_alarms": false_alarms,
            "seed": seed,
            "progress": True,
        }
        if model and images and not any(features):
            from mistakes_lib.report.model import report_on_model

            options |= {"weights": weights, "classes": _lines(classes), "size": size}
            options |= {"mean": _three_numbers(mean, "--mean"), "std": _three_numbers(std, "--std")}
            options |= {"head": head, "device": device}
            found, page = report_on_model(model, images, suspects=suspects, **options)
        elif all(features) and not (model or images):
            found, page = _report_on_features(features, suspects, options)
        else:
            raise ValueError("give --train, --validation and --test, or --model and --images")
        _write(found, page, out)
    for verdict in found.facts["verdicts"]:
        typer.echo(
            f"{verdict['set']}: {verdict['flagged_by_likelihood']}, AUROC {verdict['auroc']:.3f} "
            f"(best: {verdict['best']}, {verdict['best_auroc']:.3f})"
        )
    typer.echo(f"{out / 'report.html'}")


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
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _three_numbers(text, name):
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name} must be three numbers, such as 0.5,0.5,0.5; got {text}") from None
    return red, green, blue
