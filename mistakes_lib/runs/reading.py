"""Open a run and read what it holds, every file checked against its record."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mistakes_lib.data.corruptions import STRENGTHS
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.evaluation.tables import fit_scorer, usual_scorers
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.runs.files import (
    CLASSIFIER,
    HEAD,
    TRAINING_FEATURES,
    adaptive_file,
    attack_file,
    corruption_file,
    labelled_rows,
    mixture_file,
    nearest_mixture,
    ood_file,
    pixels_file,
    read_batch,
    read_classifier,
    read_head,
    read_json,
    read_own_labels,
    scorer_file,
)
from mistakes_lib.runs.kinds import DEEP_DENSITIES
from mistakes_lib.scores import LogLikelihood, Scorer
from mistakes_lib.support.storage import load_arrays, sha256_of

__all__ = ["Run", "runs_in"]


@dataclass(frozen=True)
class Run:
    """A run folder, read lazily; every file is checked against ``run.json`` when it is read.

    Args:
        path: the folder.

    Example:
        >>> from mistakes_lib.runs import load_run
        >>> run = load_run("cifar100/densenet_bc_100_12/seed0")
        >>> run.features("test").accuracy == run.info["accuracy"]["test"]
        True
        >>> weakest = run.attack("fgsm", run.eps_levels[0] / 255)
        >>> run.experiment.data_set, len(weakest) == len(run.attacked)
        ('cifar100', True)
    """

    path: Path

    @cached_property
    def info(self):
        """What ``run.json`` holds of experiment, data, training history, environment and files."""
        return read_json(self.path / "run.json")

    @property
    def name(self):
        """ "<data set>/<classifier>/seed<k>"."""
        return "/".join(self.path.resolve().parts[-3:])

    @property
    def title(self):
        """Network and data, to print beside every number."""
        return f"{self.info['title']} on {self.info['data']['description']}"

    @property
    def family(self):
        """The paper's kind of classifier, "densenet_bc", "wide_resnet" or "semi_supervised".

        A network trained supervised on few labels, the twin of a semi-supervised one, is of the
        kind "few_labels".
        """
        if self.experiment.labels_per_class is not None:
            return "semi_supervised" if self.experiment.ensembling else "few_labels"
        return self.experiment.architecture["name"]

    @cached_property
    def experiment(self):
        """The :class:`~mistakes_lib.runs.experiment.Experiment` that made it."""
        return Experiment.from_dict(self.info["experiment"])

    @property
    def classes(self):
        """Class names, in the order of the labels; an underscore of the data set's is a space."""
        return tuple(name.replace("_", " ") for name in self.info["data"]["classes"])

    def file(self, name):
        """The path of one of the run's files, after its checksum was compared.

        Raises:
            FileNotFoundError: the run has no such file.
            ValueError: the file is not the one that ``run.json`` describes.
        """
        known = self.info["files"]
        if name not in known:
            raise FileNotFoundError(f"run {self.name} has no {name}; it has: {', '.join(known)}")
        if not (self.path / name).is_file():
            raise FileNotFoundError(f"{name} of run {self.name} is missing: make the run again")
        if sha256_of(self.path / name) != known[name]:
            raise ValueError(f"{name} of run {self.name} is damaged: make the run again")
        return self.path / name

    def classifier(self):
        """The trained network, a FeatureClassifier in eval mode on the CPU.

        Raises:
            FileNotFoundError: the run was published without it.
        """
        if not self.has_classifier:
            raise FileNotFoundError(
                f"run {self.name} was published without its network, which is large: only its "
                "last layer (head) is here; make the run again with `mistakes run`"
            )
        return read_classifier(self.file(CLASSIFIER))

    @property
    def has_classifier(self):
        """Whether the network itself is here; a large one may not be published."""
        return HEAD not in self.info["files"]

    @cached_property
    def head(self):
        """The network's last layer, ``nn.Linear(d, c)`` from features to logits."""
        return self.classifier().head if self.has_classifier else read_head(self.file(HEAD))

    def batch(self, name):
        """FeatureSet of one of the files in ``run.json``, such as "ood/svhn.safetensors"."""
        return read_batch(self.file(name), lambda: self.head)

    def features(self, split):
        """FeatureSet of "train", "validation" or "test"."""
        return self.batch(f"features/{split}.safetensors")

    def labelled(self):
        """Whose labels the training saw, bool (n,): True for all but in semi-supervised training.

        What needs labels of training features takes no others either.
        """
        return labelled_rows(self.experiment, self.features("train").labels)

    def attack(self, name, eps):
        """FeatureSet of the adversarial images, with the labels of the originals.

        Args:
            name: "fgsm", "bim", or "kurakin", BIM with the steps of its authors.
            eps: L∞ radius in [0, 1] pixel units, one of :attr:`eps_levels` / 255 (for "kurakin"
                one of ``experiment.kurakin_levels``); 0.1 is the level 25.5.
        """
        known = self.experiment.kurakin_levels if name == "kurakin" else self.eps_levels
        return self.batch(attack_file(name, self._nearest_level(eps, known)))

    def eps_level(self, eps):
        """The one of :attr:`eps_levels` that an L∞ radius in [0, 1] pixel units is.

        Raises:
            ValueError: the run holds no attack with this radius.
        """
        return self._nearest_level(eps, self.eps_levels)

    def _nearest_level(self, eps, known):
        level = min(known, key=lambda level: abs(level - eps * 255), default=np.inf)
        if abs(level - eps * 255) > 0.01:
            levels = ", ".join(f"{level:g}/255" for level in known) or "none"
            raise ValueError(
                f"run {self.name} holds no attack with eps = {eps * 255:.4g}/255; it has {levels}"
            )
        return level

    def adaptive_attack(self, name):
        """FeatureSet of the images attacked by one who knows the detector, with their labels.

        Args:
            name: one of ``experiment.adaptive.names``: a weight of the log-likelihood,
                "hinge-<weight>" or "match". The images are the first ones of :attr:`attacked`.
        """
        return self.batch(adaptive_file(name))

    @property
    def eps_levels(self):
        """L∞ radii of the run's attacks in units of 1/255, ascending."""
        return sorted(self.experiment.eps_levels)

    @property
    def attacked(self):
        """Rows of the test split that were attacked, int64 (n,)."""
        return np.asarray(self.info["attacked"], dtype=np.int64)

    @property
    def pictured(self):
        """Rows of the test split whose images stand, in this order, in the figure "pictures".

        int64 (n,); empty for a run without that figure.
        """
        return np.asarray(self.info.get("pictured", []), dtype=np.int64)

    @property
    def corrupted(self):
        """Rows of the test split that were corrupted, int64 (n,); empty for a run without."""
        return np.asarray(self.info.get("corrupted", []), dtype=np.int64)

    def corruption(self, kind, strength):
        """FeatureSet of the corrupted test images :attr:`corrupted`, with their labels.

        Args:
            kind: a family of :func:`~mistakes_lib.data.corruptions.corrupt`.
            strength: 1 to 5.

        Raises:
            FileNotFoundError: the run has no such images.
            ValueError: no such strength.
        """
        if strength not in STRENGTHS:
            raise ValueError(f"strength must be one of {STRENGTHS}, got {strength!r}")
        batch, n = self.batch(corruption_file(kind)), len(self.corrupted)
        return batch[(strength - 1) * n : strength * n]

    @property
    def ood_sets(self):
        """Name → description of the run's out-of-distribution sets."""
        return dict(self.info["ood"])

    def ood(self, name):
        """FeatureSet (without labels) of an out-of-distribution set."""
        return self.batch(ood_file(name))

    def ood_labels(self, name):
        """What the images of an out-of-distribution set show, in the classes of that set.

        These are not the classifier's classes. They say which images to leave out because a class
        of the set is one of the classifier's as well.

        Args:
            name: one of :attr:`ood_sets`.

        Returns:
            (labels, classes): int64 (n,) in the order of :meth:`ood`, and a tuple of class names.

        Raises:
            FileNotFoundError: the run has no such set.
            ValueError: the set has no classes, or the run was made before it kept them.
        """
        found = read_own_labels(self.file(ood_file(name)))
        if found is None:
            raise ValueError(
                f"run {self.name} has no labels of {name}: these images have no classes, or the "
                "run was made before labels were kept, then make it again"
            )
        return found

    def density(self, n_components, *, seed=None, progress=False):
        """A DiagonalGMM of the training features: one that the run holds, or else fitted now.

        Args:
            n_components: number of mixture components K.
            seed: seed of the fit; the run's own by default.
            progress: show the EM iterations of a new fit.

        Raises:
            FileNotFoundError: it has none, and was published without its training features.
        """
        seed = self.experiment.seed if seed is None else seed
        if seed in self.fitted_seeds(n_components):
            own = seed == self.experiment.seed
            return DiagonalGMM.load(self.file(mixture_file(n_components, None if own else seed)))
        if not self.has_training_features:
            held = ", ".join(map(str, self.experiment.mixtures))
            seeds = ", ".join(map(str, self.fitted_seeds(n_components)))
            seeds = f"; of {n_components} components with the seeds {seeds}" if seeds else ""
            raise FileNotFoundError(
                f"run {self.name} was published without its training features: it has mixtures of "
                f"{held} components{seeds}, and no other can be fitted"
            )
        gmm = DiagonalGMM(n_components, random_state=seed, verbose=int(progress))
        return gmm.fit(self.features("train").features)

    def nearest_mixture(self, n_components):
        """Of the sizes of mixtures that the run holds, the one nearest to ``n_components``."""
        return nearest_mixture(self.experiment.mixtures, n_components)

    def fitted_seeds(self, n_components):
        """Seeds of the fits that the run holds of a mixture, a list of int, its own seed first.

        Args:
            n_components: number of mixture components K.
        """
        files, own = self.info["files"], [self.experiment.seed]
        before, after = mixture_file(n_components, "*").split("*")
        others = [f[len(before) : -len(after)] for f in files if f.startswith(before)]
        held = own if mixture_file(n_components) in files else []
        return held + sorted(map(int, others))

    def deep_density(self, name, *, seed=None, settings=None, progress=False):
        """The run's VAE or MAF of the training features: its own, or another one fitted now.

        Args:
            name: "vae" or "maf", one of ``experiment.deep_densities``, which has its arguments.
            seed: seed of the fit; the run's own by default.
            settings: arguments that replace the run's own, such as ``{"lr": 0.01}``.
            progress: show the epochs of a new fit.

        Raises:
            FileNotFoundError: it has no such density, or was published without its training
                features and cannot fit another.
            TypeError: ``settings`` has an argument that the density does not take.
        """
        known = self.experiment.deep_densities
        if name not in known:
            raise FileNotFoundError(
                f"run {self.name} has no density {name!r}; it has: {', '.join(known) or 'none'}"
            )
        seed = self.experiment.seed if seed is None else seed
        if seed == self.experiment.seed and not settings:
            return DEEP_DENSITIES[name].load(self.file(f"density/{name}.safetensors"))
        if not self.has_training_features:
            raise FileNotFoundError(
                f"run {self.name} was published without its training features: it has the {name} "
                f"with seed {self.experiment.seed}, and no other can be fitted"
            )
        given = {**known[name], **(settings or {}), "random_state": seed}
        density = DEEP_DENSITIES[name](**given, verbose=int(progress))
        return density.fit(self.features("train").features)

    def deep_densities(self):
        """The run's other densities of the training features, "VAE" or "MAF" → fitted density."""
        return {name.upper(): self.deep_density(name) for name in self.experiment.deep_densities}

    @property
    def bits_per_dim(self):
        """What images take under the run's own PixelCNN and without one, mean bits per dimension.

        "validation", "test" or a name of :attr:`ood_sets` → name of the code → bits; empty for a
        run without a PixelCNN.
        """
        return self.info["bits_per_dim"]

    @cached_property
    def pixel_cnn_run(self):
        """The :class:`Run` whose PixelCNN scored the images of this one, or None.

        A PixelCNN sees images and no classifier, so one serves all classifiers of the same images:
        it is the run's own, or that of a run beside it with the same three splits.
        """
        if self.bits_per_dim:
            return self
        splits = self.info["data"]["fingerprints"]
        for run in runs_in(self.path.parents[1], "*/*"):
            if run.bits_per_dim and run.info["data"]["fingerprints"] == splits:
                return run
        return None

    @cached_property
    def scored_images(self):
        """Tuple of the names that :meth:`image_log_likelihood` takes; empty without a PixelCNN."""
        run = self.pixel_cnn_run
        return tuple(
            name
            for name in (run.bits_per_dim if run else ())
            if run is self or name not in run.ood_sets or self._has_strangers_of(run, name)
        )

    def _has_strangers_of(self, run, name):
        """Whether an out-of-distribution set holds the same images as that of another run."""
        if self.ood_sets.get(name) != run.ood_sets[name]:
            return False
        ours, theirs = (load_arrays(each.file(ood_file(name)))[0] for each in (self, run))
        if len(ours["features"]) != len(theirs["features"]):
            return False  # which images are taken depends on their number alone
        return np.array_equal(*(each.get("own_labels", []) for each in (ours, theirs)))

    def image_log_likelihood(self, name):
        """Log-likelihood of images under a PixelCNN of these images, float64 (n,), nats.

        Args:
            name: one of :attr:`scored_images`: "validation", "test" or an out-of-distribution set;
                the rows are those of the features.

        Raises:
            FileNotFoundError: neither this run nor :attr:`pixel_cnn_run` scored these images.
        """
        if name not in self.scored_images:
            known = ", ".join(self.scored_images) or "none: no run of these images has a PixelCNN"
            raise FileNotFoundError(
                f"run {self.name} has no likelihoods of the images of {name!r}; it has {known}"
            )
        file = self.pixel_cnn_run.file(pixels_file(name))
        return load_arrays(file, ["log-likelihood"])[0]["log_likelihood"]

    @property
    def has_training_features(self):
        """Whether densities and detectors can be fitted anew; published runs may lack them."""
        return TRAINING_FEATURES in self.info["files"]

    def scorers(self, n_components, *, seed=None, deep=False):
        """The usual detectors of this run: its own, or fitted now if it has none.

        Args:
            n_components: number of mixture components K.
            seed: seed of the fits; the run's own by default.
            deep: also the log-likelihoods of :meth:`deep_densities`, "VAE" and "MAF".

        Returns:
            dict of name → fitted scorer, as
            :func:`~mistakes_lib.evaluation.tables.usual_scorers` names them. A run without
            training features lacks the methods that would have to learn from them now, such as
            nearest neighbors.
        """
        seed = self.experiment.seed if seed is None else seed
        validation = self.features("validation")
        train = labelled = None
        if self.has_training_features:
            train = self.features("train")
            labelled = labelled_rows(self.experiment, train.labels)
        usual = usual_scorers(self.density(n_components, seed=seed), len(self.classes))
        scorers = {}
        for name, scorer in usual.items():
            file = scorer_file(scorer)
            if seed == self.experiment.seed and file in self.info["files"]:
                scorers[name] = Scorer.load(self.file(file))
            elif scorer.fits_on == "validation" or isinstance(scorer, LogLikelihood):
                scorers[name] = scorer.fit(validation)  # a fitted density learns nothing more
            elif train is not None:
                scorers[name] = fit_scorer(scorer, train, validation, labelled=labelled)
        if deep:
            scorers |= {name: LogLikelihood(each) for name, each in self.deep_densities().items()}
        return scorers

    def siblings(self, n_components):
        """The runs beside this one with the same test images and seed: other classifiers.

        A run on other images of the same name, such as copies or a part of them, is no sibling.

        Args:
            n_components: leave out runs that neither hold such a mixture nor can fit one.

        Returns:
            list of Run in the order of their names, this one first.
        """
        seeds = runs_in(self.path.parents[1], f"*/{self.path.name}")
        runs = [self, *(run for run in seeds if run.path != self.path)]
        file = mixture_file(n_components)
        return [
            run
            for run in runs
            if run._test_images == self._test_images
            and (run.has_training_features or file in run.info["files"])
        ]

    @property
    def _test_images(self):
        return self.info["data"]["fingerprints"]["test"]

    def trainings(self):
        """The runs of this network on these images, each with another seed, in their order."""
        return sorted(runs_in(self.path.parent, "seed*"), key=lambda run: run.experiment.seed)

    def figure(self, name):
        """Path of a figure that was drawn when the images were at hand."""
        return self.file(f"figures/{name}.png")


def runs_in(folder, pattern):
    """The runs whose folders match a pattern, a list of Run in the order of their paths.

    Args:
        folder: Path.
        pattern: of a run's folder, from ``folder``, such as "*/*/*".
    """
    return [Run(file.parent) for file in sorted(folder.glob(f"{pattern}/run.json"))]
