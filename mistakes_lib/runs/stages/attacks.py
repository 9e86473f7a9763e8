"""Adversarial images of a run, by those who know the classifier and those who know the detector."""

import torch

from mistakes_lib.attacks import adaptive_bim, bim, fgsm, kurakin_steps
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.runs.files import CLASSIFIER, adaptive_file, attack_file, mixture_file
from mistakes_lib.runs.stages.features import drawn_rows

__all__ = ["adaptive_attack", "attacked_rows", "attacks"]

ATTACKS = {"fgsm": fgsm, "bim": bim, "kurakin": bim}


def attacked_rows(journal):
    """Rows of the test split that are attacked, see :func:`drawn_rows`."""
    return drawn_rows(journal, journal.experiment.attack_images)


def _pixels(image_set):
    return torch.from_numpy(image_set.images).float() / 255


def attacks(journal):
    """Features of the images attacked by each attack with each radius."""
    own, test = journal.experiment, journal.own_images("test")[attacked_rows(journal)]
    wanted = [(name, level, {}) for name in own.attacks for level in own.eps_levels]
    wanted += [("kurakin", level, kurakin_steps(level / 255)) for level in own.kurakin_levels]
    for name, level, steps in wanted:

        def compute(path, name=name, level=level, steps=steps):
            adversarial = ATTACKS[name](
                journal.classifier,
                _pixels(test),
                test.labels,
                level / 255,
                **steps,
                device=journal.device,
                progress=journal.progress,
            )
            batch = journal.extract(path, adversarial, test.labels)
            return {"accuracy": batch.accuracy, "count": len(batch)}

        inputs = [journal.sha(CLASSIFIER), test.fingerprint, name, level]
        journal.stage(attack_file(name, level), inputs, compute)


def adaptive_attack(journal):
    """Attack the classifier and the mixture at once, for each weight of the second."""
    own = journal.experiment.adaptive
    if own is None:
        return
    test = journal.own_images("test")[attacked_rows(journal)[: own.images]]
    mixture = mixture_file(own.n_components)
    for weight in own.weights:

        def compute(path, weight=weight):
            adversarial = adaptive_bim(
                journal.classifier,
                DiagonalGMM.load(journal.folder / mixture),
                _pixels(test),
                test.labels,
                own.eps_level / 255,
                weight=weight,
                iterations=own.iterations,
                device=journal.device,
                progress=journal.progress,
            )
            batch = journal.extract(path, adversarial, test.labels)
            return {"accuracy": batch.accuracy, "count": len(batch)}

        inputs = [journal.sha(CLASSIFIER), journal.sha(mixture), test.fingerprint]
        inputs += [own.eps_level, own.iterations, weight]
        journal.stage(adaptive_file(weight), inputs, compute)
