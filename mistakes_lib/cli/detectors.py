"""The commands on features of your own classifier: fit a detector, score with it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mistakes_lib.cli.shared import Debug, clear_errors
from mistakes_lib.scores.registry import METHODS

__all__ = ["fit", "score"]


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
        str, typer.Option(help=", ".join(method.key for method in METHODS) + ".")
    ] = "likelihood",
    false_alarms: Annotated[
        float | None,
        typer.Option(
            help="Share of correct predictions that may be flagged, guaranteed. [default: 0.05]"
        ),
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="Instead: the threshold with the best f1, youden, accuracy.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fit.")] = 0,
    debug: Debug = False,
):
    """Fit a detector to features of your classifier, and choose its threshold.

    The files hold features (n, d), logits (n, c) and labels (n,).
    """
    from mistakes_lib.detector import fit_detector
    from mistakes_lib.features.files import load_features

    with clear_errors(debug):
        if criterion is not None and false_alarms is not None:
            raise ValueError(
                "--criterion and --false-alarms are two rules for one threshold: give one"
            )
        train_set, validation = load_features(train_features), load_features(validation_features)
        detector = fit_detector(
            train_set,
            validation,
            method=method,
            false_alarms=0.05 if false_alarms is None else false_alarms,
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

    with clear_errors(debug):
        if form not in ("csv", "jsonl"):
            raise ValueError(f"--format must be csv or jsonl, got {form!r}")
        loaded = Detector.load(detector)
        batches = read_stream(sys.stdin, form) if features == "-" else [load_features(features)]
        if form == "csv":
            typer.echo("score,flagged")
        line = {"csv": "{},{}", "jsonl": '{{"score": {}, "flagged": {}}}'}[form]
        for batch in batches:
            for value in loaded.score_samples(batch):
                flagged = "true" if value < loaded.threshold else "false"
                typer.echo(line.format(repr(float(value)), flagged))
