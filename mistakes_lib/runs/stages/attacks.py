"""Adversarial images of a run, by those who know the classifier and those who know the detector."""

import numpy as np
import torch

from mistakes_lib.attacks import (
    adaptive_bim,
    bim,
    feature_match,
    fgsm,
    hinge_attack,
    kurakin_steps,
    targets_elsewhere,
)
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.runs.files import CLASSIFIER, adaptive_file, attack_file, mixture_file
from mistakes_lib.runs.stages.features import drawn_rows

__all__ = ["adaptive_attack", "attacked_rows", "attacks"]

ATTACKS = {"fgsm": fgsm, "bim": bim, "kurakin": bim}
FALSE_ALARMS = 0.05  # of the detector that a hinge is to pass


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
    """Attack the classifier and the mixture at once, in each way that the experiment names."""
    own = journal.experiment.adaptive
    if own is None:
        return
    test = journal.own_images("test")[attacked_rows(journal)[: own.images]]
    for name in own.names:
        iterations = own.more_iterations if isinstance(name, str) else own.iterations

        def compute(path, name=name, iterations=iterations):
            adversarial = _attack_knowing(journal, name, test, iterations)
            batch = journal.extract(path, adversarial, test.labels)
            return {"accuracy": batch.accuracy, "count": len(batch)}

        inputs = [journal.sha(CLASSIFIER), journal.sha(mixture_file(own.n_components))]
        inputs += [test.fingerprint, own.eps_level, iterations, name]
        journal.stage(adaptive_file(name), inputs, compute)


def _attack_knowing(journal, name, test, iterations):
    """The images as one attack of ``AdaptiveAttack.names`` changes them."""
    own, known = journal.experiment.adaptive, journal.features("validation")
    density = DiagonalGMM.load(journal.folder / mixture_file(own.n_components))
    given = journal.classifier, density, _pixels(test), test.labels
    options = {"eps": own.eps_level / 255, "iterations": iterations}
    options |= {"device": journal.device, "progress": journal.progress}
    if not isinstance(name, str):
        return adaptive_bim(*given, **options, weight=name)
    if name == "match":
        clean = journal.features("test")[attacked_rows(journal)[: own.images]]
        targets = targets_elsewhere(clean.features, test.labels, known.features, known.predictions)
        return feature_match(journal.classifier, *given[2:], targets, **options)
    threshold = np.quantile(density.score_samples(known.features), FALSE_ALARMS)
    weight = float(name.removeprefix("hinge-"))
    return hinge_attack(*given, **options, threshold=float(threshold), weight=weight)
