"""Pictures that are drawn now, while the images are at hand: no run keeps images."""

import numpy as np
import torch
from PIL import Image

from mistakes_lib.attacks import fgsm
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.runs.files import CLASSIFIER, mixture_file, nearest_mixture
from mistakes_lib.runs.stages.drawing import image_columns, save_png
from mistakes_lib.runs.stages.features import ood_images
from mistakes_lib.support.storage import atomic_write

__all__ = ["examples", "pictures", "strange_pictures"]

STRANGE = 12  # images kept of each out-of-distribution set
PICTURED = 60  # test images on the sheet of pictures
PICTURE_EDGE = 32  # of each, in pixels at most


def examples(journal):
    """Draw Fig. 1's counterpart."""
    train_set, test = (journal.own_images(split) for split in ("train", "test"))
    inputs = [journal.sha(CLASSIFIER), train_set.fingerprint, test.fingerprint]

    def compute(path):
        columns = _example_columns(journal, train_set, test)
        figure = image_columns(columns, test.classes)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
        return {"columns": list(columns)}

    journal.stage("figures/examples.png", inputs, compute)


def pictures(journal):
    """A row of test images to show at the likelihood they have: half of them mistakes, each half
    from the least likely to the likeliest."""
    own, test = journal.experiment, journal.own_images("test")
    if not own.mixtures:
        return
    mixture = mixture_file(nearest_mixture(own.mixtures))

    def compute(path):
        scored = journal.features("test")
        likelihood = DiagonalGMM.load(journal.folder / mixture).score_samples(scored.features)
        rows = _spread(likelihood, scored.correct, PICTURED)
        save_png(path, np.concatenate([_small(image) for image in test.images[rows]], axis=1))
        return {"rows": rows.tolist()}

    inputs = [journal.sha("features/test.safetensors"), journal.sha(mixture), test.fingerprint]
    journal.stage("figures/pictures.png", inputs, compute)


def strange_pictures(journal):
    """A row of images of each out-of-distribution set: its first ones, in the order of features."""
    for name in journal.experiment.ood:
        shown = ood_images(journal, name)[:STRANGE]

        def compute(path, shown=shown):
            save_png(path, np.concatenate([_small(image) for image in shown.images], axis=1))
            return {"count": len(shown)}

        journal.stage(f"figures/strange-{name}.png", [shown.fingerprint], compute)


def _example_columns(journal, train_set, test, rows=8, eps=0.1):
    """Per class: a training image, its adversarial twin, a misclassified test image (Fig. 1)."""
    wrong = ~journal.features("test").correct
    classes = range(min(rows, len(test.classes)))
    first = np.array([np.flatnonzero(train_set.labels == c)[0] for c in classes])
    mistakes = [np.flatnonzero(wrong & (test.labels == c))[:1] for c in classes]
    blank = np.full_like(test.images[0], 255)  # a class without mistakes
    shown = train_set[first]
    pixels = torch.from_numpy(shown.images).float() / 255
    adversarial = fgsm(journal.classifier, pixels, shown.labels, eps)
    return {
        "train": shown.images,
        f"adversarial (FGSM, ε = {eps})": (adversarial.cpu().numpy() * 255)
        .round()
        .astype(np.uint8),
        "misclassified test": np.stack([test.images[m[0]] if len(m) else blank for m in mistakes]),
    }


def _spread(values, correct, count):
    """Rows from the smallest to the largest value, half of them correct and half not, ascending."""
    rows = []
    for group in (np.flatnonzero(correct), np.flatnonzero(~correct)):
        ordered = group[np.argsort(values[group], kind="stable")]
        places = np.linspace(0, len(ordered) - 1, min(count // 2, len(ordered)))
        rows.append(ordered[places.round().astype(int)])
    return np.sort(np.concatenate(rows))


def _small(image):
    """An image, uint8 (3, h, w), as a square of at most ``PICTURE_EDGE`` pixels, (e, e, 3)."""
    pixels = Image.fromarray(image.transpose(1, 2, 0))
    edge = min(PICTURE_EDGE, *pixels.size)
    return np.asarray(pixels if pixels.size == (edge, edge) else pixels.resize((edge, edge)))
