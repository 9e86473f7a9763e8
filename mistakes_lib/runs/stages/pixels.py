"""A density of a run's images themselves, and what it says of them: no run keeps images."""

import numpy as np

from mistakes_lib.density import PixelCNN
from mistakes_lib.density.pixel_cnn.image_codes import histogram_bits, webp_bits
from mistakes_lib.runs.files import PIXEL_CNN, pixels_file
from mistakes_lib.runs.provenance import hardware_of
from mistakes_lib.runs.stages.drawing import save_png
from mistakes_lib.runs.stages.features import ood_images
from mistakes_lib.support.storage import save_arrays

__all__ = ["pixel_cnn"]

COMPRESSED = 1000  # images that WebP is tried on
DRAWN = 12  # images that a PixelCNN draws


def pixel_cnn(journal):
    """Train a PixelCNN, score the images of all sets, and draw some."""
    if journal.experiment.pixel_cnn:
        _train(journal)
        _score(journal)
        _draw(journal)


def _train(journal):
    own, train_set = journal.experiment, journal.own_images("train")
    checkpoint = journal.folder / "pixel_cnn-training.safetensors"

    def compute(path):
        density = PixelCNN(
            **own.pixel_cnn,
            random_state=own.seed,
            device=journal.device,
            verbose=journal.verbose,
        )
        density.fit(train_set.images, checkpoint=checkpoint)
        density.set_params(verbose=0).save(path)
        return {"hardware": hardware_of(journal.device), "losses": density.losses_}

    journal.stage(PIXEL_CNN, [train_set.fingerprint, own.pixel_cnn, own.seed], compute)
    checkpoint.unlink(missing_ok=True)


def _score(journal):
    train_set = journal.own_images("train")
    sets = {name: journal.own_images(name) for name in ("validation", "test")}
    sets |= {name: ood_images(journal, name) for name in journal.experiment.ood}
    for name, image_set in sets.items():

        def compute(path, images=image_set.images):
            density = PixelCNN.load(journal.folder / PIXEL_CNN).set_params(device=journal.device)
            values = density.score_samples(images)  # (n,) nats
            save_arrays(path, {"log_likelihood": values}, {"kind": "log-likelihood"})
            return {
                "PixelCNN": float(-values.mean() / (density.n_features_in_ * np.log(2))),
                "WebP, lossless": webp_bits(images[:COMPRESSED]),
                "independent pixels": histogram_bits(train_set.images, images),
            }

        inputs = [journal.sha(PIXEL_CNN), image_set.fingerprint]
        journal.stage(pixels_file(name), inputs, compute)


def _draw(journal):
    own, train_set = journal.experiment, journal.own_images("train")

    def compute(path):
        density = PixelCNN.load(journal.folder / PIXEL_CNN)
        density.set_params(device=journal.device, random_state=own.seed)
        rows = train_set.images[:DRAWN], density.sample(DRAWN)[0]
        sheet = np.concatenate([np.concatenate([*images], axis=2) for images in rows], axis=1)
        save_png(path, sheet.transpose(1, 2, 0))
        return {}

    inputs = [journal.sha(PIXEL_CNN), train_set.fingerprint, own.seed]
    journal.stage("figures/drawings.png", inputs, compute)
