"""Densities of a run's training features, and the other detectors that learn from them."""

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.density.gmm.gmm import MAX_ITER
from mistakes_lib.evaluation.tables import fit_scorer, usual_scorers
from mistakes_lib.runs.files import TRAINING_FEATURES, labelled_rows, mixture_file, scorer_file
from mistakes_lib.runs.kinds import DEEP_DENSITIES

__all__ = ["deep_densities", "mixtures", "scorers"]


def mixtures(journal):
    """A mixture of each of the experiment's sizes."""
    own = journal.experiment
    for n_components in own.mixtures:

        def compute(path, n_components=n_components):
            gmm = DiagonalGMM(
                n_components,
                random_state=own.seed,
                device=journal.device,
                verbose=journal.verbose,
            )
            gmm.fit(journal.features("train").features)
            gmm.set_params(verbose=0).save(path)  # quiet or not, the same bytes
            return {"iterations": int(gmm.n_iter_), "converged": bool(gmm.converged_)}

        inputs = [journal.sha(TRAINING_FEATURES), n_components, own.seed, MAX_ITER]
        journal.stage(mixture_file(n_components), inputs, compute)


def deep_densities(journal):
    """A VAE and a MAF, those of them that the experiment asks for."""
    own = journal.experiment
    for name, arguments in own.deep_densities.items():
        checkpoint = journal.folder / f"{name}-training.safetensors"

        def compute(path, name=name, arguments=arguments, checkpoint=checkpoint):
            density = DEEP_DENSITIES[name](
                **arguments,
                random_state=own.seed,
                device=journal.device,
                verbose=journal.verbose,
            )
            density.fit(journal.features("train").features, checkpoint=checkpoint)
            density.set_params(verbose=0).save(path)
            return {"epochs": len(density.losses_)}

        inputs = [journal.sha(TRAINING_FEATURES), arguments, own.seed]
        journal.stage(f"density/{name}.safetensors", inputs, compute)
        checkpoint.unlink(missing_ok=True)


def scorers(journal):
    """Fit those detectors that learn from training features, for each of the mixtures."""
    own, classes = journal.experiment, len(journal.own_images("test").classes)
    splits = ("train", "validation")
    files = {}
    for n_components in own.mixtures:
        density = DiagonalGMM(n_components, random_state=own.seed)
        for scorer in usual_scorers(density, classes).values():
            if file := scorer_file(scorer):
                files[file] = scorer
    for file, scorer in files.items():

        def compute(path, scorer=scorer):
            train, validation = (journal.features(split) for split in splits)
            labelled = labelled_rows(own, train.labels)
            fit_scorer(scorer, train, validation, labelled=labelled).save(path)
            return {}

        inputs = [journal.sha(f"features/{split}.safetensors") for split in splits]
        journal.stage(file, [*inputs, repr(scorer)], compute)
