"""How near are a run's conditions to the paper's? Computed from ``run.json`` and ``paper.yml``."""

from mistakes_lib.data.originals import ORIGINALS
from mistakes_lib.density import PixelCNN
from mistakes_lib.runs.experiment import load_experiments

__all__ = ["CONDITIONS", "KINDS", "conditions_of", "papers_experiment"]

PAPERS_DATA = ("cifar100", "cifar10")
PRINTED_RADII = "the paper prints one, FGSM-0.1 in Fig. 1"
# Kinds of classifiers in the paper, and how the names of their presets in paper.yml begin.
KINDS = {"densenet_bc": "densenet_bc", "wide_resnet": "wrn", "semi_supervised": "te_wrn"}
TWINS = {"few_labels": "semi_supervised"}  # kinds beside the paper's, and what they are twins of


def papers_experiment(run):
    """The paper's experiment on the run's kind of classifier and, where it has one, its data set.

    The twin of a semi-supervised classifier, trained on its labelled images alone, is compared with
    that classifier.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.

    Returns:
        Experiment of ``notebooks/parameters/paper.yml``.

    Raises:
        LookupError: the paper has no such kind of classifier.
    """
    wanted = run.experiment.data_set if run.experiment.data_set in PAPERS_DATA else PAPERS_DATA[0]
    kind = KINDS.get(TWINS.get(run.family, run.family), "?")
    for printed in load_experiments("paper"):
        if printed.data_set == wanted and printed.classifier.startswith(kind):
            return printed
    raise LookupError(f"paper.yml has no classifier of the kind {run.family!r}")


def conditions_of(run, wanted=None):
    """In what the run differs from the paper, in words.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.
        wanted: names of ``CONDITIONS`` to look at; None: all.

    Returns:
        dict of condition → "same", or how it differs.

    Raises:
        ValueError: an unknown condition.

    Example:
        >>> from mistakes_lib import load_run
        >>> run = load_run("cifar100/densenet_bc_100_12/seed0")
        >>> conditions_of(run, ["network", "images"])
        {'network': 'same', 'images': 'same'}
    """
    wanted = list(CONDITIONS) if wanted is None else list(wanted)
    for name in wanted:
        if name not in CONDITIONS:
            raise ValueError(f"unknown condition {name!r}: choose from {', '.join(CONDITIONS)}")
    printed = papers_experiment(run)
    return {name: CONDITIONS[name](run, printed) or "same" for name in wanted}


def _data(run, printed):
    if run.experiment.data_set != printed.data_set:
        return f"another data set ({run.experiment.data_set})"
    return None


def _images(run, printed):
    known = ORIGINALS.get((run.experiment.data_set, "test"))
    if known is None or run.info["data"]["fingerprints"]["test"] == known:
        return None
    return f"other images than the original files ({run.info['data']['description']})"


def _network(run, printed):
    ours, theirs = run.experiment.architecture, printed.architecture
    gaps = [
        f"{name.replace('_', ' ')} {ours[name]} for {theirs[name]}"
        for name in ("depth", "growth_rate", "widen_factor")
        if ours.get(name) != theirs.get(name)
    ]
    if not gaps:
        return None
    smaller = all(
        ours[g] <= theirs[g] for g in ("depth", "growth_rate", "widen_factor") if g in ours
    )
    return f"{'smaller' if smaller else 'another'} network ({', '.join(gaps)})"


def _dropout(run, printed):
    ours, theirs = (each.architecture.get("dropout", 0.0) for each in (run.experiment, printed))
    return None if ours == theirs else f"dropout {ours:g} for {theirs:g}"


def _epochs(run, printed):
    ours, theirs = (
        each.recipe.epochs + sum(recipe.epochs for recipe in each.then)
        for each in (run.experiment, printed)
    )
    return None if ours == theirs else f"{_fewer(ours, theirs)} epochs ({ours} for {theirs})"


def _labels(run, printed):
    counts = run.info["data"]["counts"]["train"] / len(run.classes)
    share = (run.experiment.labels_per_class or counts) / counts
    theirs = 0.2 if printed.labels_per_class else 1.0  # 100 labels of CIFAR-100's 500 a class
    if abs(share - theirs) < 0.05:
        return None
    return f"labels of {share:.0%} of the training images for {theirs:.0%}"


def _radii(run, printed):
    ours, theirs = set(run.experiment.eps_levels), set(printed.eps_levels)
    if ours == theirs:
        return None
    shown = ", ".join(f"{level:g}" for level in sorted(ours))
    return f"attack radii {shown} /255 ({PRINTED_RADII})"


def _attacked(run, printed):
    ours, theirs = len(run.attacked), printed.attack_images
    return None if ours >= theirs else f"{ours:,} attacked images for {theirs:,}"


def _strange(run, printed):
    missing = [name.replace("_", " ") for name in printed.ood if name not in run.ood_sets]
    return f"without {', '.join(missing)}" if missing else None


def _pixel_cnn(run, printed):
    if run.pixel_cnn_run is None:
        return "no PixelCNN"
    papers = (own for own in load_experiments("paper") if own.data_set == printed.data_set)
    theirs = next(own.pixel_cnn for own in papers if own.pixel_cnn)  # listed with one classifier
    settings = run.pixel_cnn_run.experiment.pixel_cnn, theirs
    ours, theirs = (PixelCNN(**each).epochs for each in settings)
    return None if ours == theirs else f"a PixelCNN of {ours} epochs for {theirs}"


def _deep(run, printed):
    ours, theirs = (each.density_settings() for each in (run.experiment, printed))
    if not ours:
        return "no VAE and no MAF"
    changed = {key.partition(":")[0]: None for key in ours if ours[key] != theirs.get(key)}
    return f"{' and '.join(changed)} with other settings" if changed else None


def _fewer(ours, theirs):
    return "fewer" if ours < theirs else "more"


CONDITIONS = {
    "data": _data,
    "images": _images,
    "network": _network,
    "dropout": _dropout,
    "epochs": _epochs,
    "labels": _labels,
    "radii": _radii,
    "attacked": _attacked,
    "strange": _strange,
    "pixel_cnn": _pixel_cnn,
    "deep": _deep,
}
