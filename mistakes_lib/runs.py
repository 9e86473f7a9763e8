"""Run folders: a trained classifier and all that was computed from it, with provenance.

``<data set>/<classifier>/seed<k>/`` holds ``run.json`` (parameters, versions, data fingerprints,
the SHA-256 of every file) and safetensors files. Nothing is pickled.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch

from mistakes_lib import plotting, processes
from mistakes_lib.attacks import adaptive_bim, bim, fgsm
from mistakes_lib.classifiers import build_classifier
from mistakes_lib.comparison import fit_scorer, usual_scorers
from mistakes_lib.data import SPLITS, load_dataset
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.experiment import DEEP_DENSITIES, Experiment
from mistakes_lib.features import FeatureSet, extract_features
from mistakes_lib.scores import LogLikelihood, Scorer
from mistakes_lib.storage import atomic_write, load_arrays, runs_root, save_arrays, sha256_of
from mistakes_lib.temporal_ensembling import choose_labelled, train_temporal_ensembling
from mistakes_lib.training import train

__all__ = [
    "PUBLISHED_RUNS",
    "Run",
    "load_run",
    "make_run",
    "published_runs",
    "runs_root",
    "train_run",
]

PUBLISHED_RUNS = Path(__file__).resolve().parents[1] / "book" / "runs"
ATTACKS = {"fgsm": fgsm, "bim": bim}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")


def load_run(path):
    """Open a run, published or your own.

    Args:
        path: a run folder, or a name such as "cifar10/densenet_bc_40_12/seed0", which is looked
            up in $MISTAKES_RUNS (or ``runs``), then among the published runs.

    Returns:
        Run.

    Raises:
        FileNotFoundError: no run there; the message lists the runs that exist.
    """
    places = [Path(path), runs_root() / path, PUBLISHED_RUNS / path]
    for place in places:
        if (place / "run.json").is_file():
            return Run(place)
    known = sorted(
        {
            str(file.parent.relative_to(root))
            for root in (runs_root(), PUBLISHED_RUNS)
            for file in root.glob("*/*/*/run.json")
        }
    )
    raise FileNotFoundError(
        f"no run {path}: known runs are {', '.join(known) or 'none'}. "
        "Make your own with `mistakes run PARAMETERS.yml`."
    )


def published_runs():
    """The book's own runs, a list of Run in the order of their names."""
    return [Run(file.parent) for file in sorted(PUBLISHED_RUNS.glob("*/*/*/run.json"))]


@dataclass(frozen=True)
class Run:
    """A run folder, read lazily; every file is checked against ``run.json`` when it is read.

    Args:
        path: the folder.
    """

    path: Path

    @cached_property
    def info(self):
        """The contents of ``run.json``: experiment, data, training history, environment, files."""
        return _read_json(self.path / "run.json")

    @property
    def name(self):
        """ "<data set>/<classifier>/seed<k>"."""
        return "/".join(self.path.resolve().parts[-3:])

    @property
    def title(self):
        """What to print beside every number: network and data."""
        return f"{self.info['title']} on {self.info['data']['description']}"

    @property
    def family(self):
        """The paper's kind of classifier: "densenet_bc", "wide_resnet" or "semi_supervised"."""
        if self.experiment.labels_per_class is not None:
            return "semi_supervised"
        return self.experiment.architecture["name"]

    @cached_property
    def experiment(self):
        """The :class:`~mistakes_lib.experiment.Experiment` that made it."""
        return Experiment.from_dict(self.info["experiment"])

    @property
    def classes(self):
        """Class names, in the order of the labels."""
        return tuple(self.info["data"]["classes"])

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
        """The trained network, a FeatureClassifier in eval mode on the CPU."""
        return _read_classifier(self.file("classifier.safetensors"))

    def features(self, split):
        """FeatureSet of "train", "validation" or "test"."""
        return FeatureSet.load(self.file(f"features/{split}.safetensors"))

    def labelled(self):
        """Whose labels the training saw, bool (n,): True for all but in semi-supervised training.

        What needs labels of training features takes no others either.
        """
        return _labelled(self.experiment, self.features("train").labels)

    def attack(self, name, eps):
        """FeatureSet of the adversarial images, with the labels of the originals.

        Args:
            name: "fgsm" or "bim".
            eps: L∞ radius in [0, 1] pixel units, one of :attr:`eps_levels` / 255.
        """
        return FeatureSet.load(self.file(f"attacks/{name}-{self.eps_level(eps)}.safetensors"))

    def eps_level(self, eps):
        """The one of :attr:`eps_levels` that an L∞ radius in [0, 1] pixel units is.

        Raises:
            ValueError: the run holds no attack with this radius.
        """
        level = min(self.eps_levels, key=lambda known: abs(known - eps * 255), default=np.inf)
        if abs(level - eps * 255) > 0.01:
            levels = ", ".join(f"{known}/255" for known in self.eps_levels)
            raise ValueError(
                f"run {self.name} holds no attack with eps = {eps * 255:.4g}/255; it has {levels}"
            )
        return level

    def adaptive_attack(self, weight):
        """FeatureSet of the images attacked by one who knows the detector, with their labels.

        Args:
            weight: of the log-likelihood, one of ``experiment.adaptive.weights``; the images are
                the first ones of :attr:`attacked`.
        """
        return FeatureSet.load(self.file(_adaptive_file(weight)))

    @property
    def eps_levels(self):
        """L∞ radii of the run's attacks in units of 1/255, ascending."""
        return sorted(self.experiment.eps_levels)

    @property
    def attacked(self):
        """Rows of the test split that were attacked, int64 (n,)."""
        return np.asarray(self.info["attacked"], dtype=np.int64)

    @property
    def ood_sets(self):
        """Name → description of the run's out-of-distribution sets."""
        return dict(self.info["ood"])

    def ood(self, name):
        """FeatureSet (without labels) of an out-of-distribution set."""
        return FeatureSet.load(self.file(f"ood/{name}.safetensors"))

    def density(self, n_components, *, seed=None, progress=False):
        """A DiagonalGMM of the training features: the run's own, or fitted now if it has none.

        Args:
            n_components: number of mixture components K.
            seed: seed of the fit; the run's own by default.
            progress: show the EM iterations of a new fit.

        Raises:
            FileNotFoundError: it has none, and was published without its training features.
        """
        seed = self.experiment.seed if seed is None else seed
        name = f"density/gmm-{n_components}.safetensors"
        if seed == self.experiment.seed and name in self.info["files"]:
            return DiagonalGMM.load(self.file(name))
        if not self.has_training_features:
            held = ", ".join(map(str, self.experiment.mixtures))
            raise FileNotFoundError(
                f"run {self.name} was published without its training features: it has mixtures of "
                f"{held} components with seed {self.experiment.seed}, and no other can be fitted"
            )
        gmm = DiagonalGMM(n_components, random_state=seed, verbose=int(progress))
        return gmm.fit(self.features("train").features)

    def deep_densities(self):
        """The run's other densities of the training features, "VAE" or "MAF" → fitted density."""
        return {
            name.upper(): DEEP_DENSITIES[name].load(self.file(f"density/{name}.safetensors"))
            for name in self.experiment.deep_densities
        }

    @property
    def has_training_features(self):
        """Whether densities and detectors can be fitted anew; published runs may lack them."""
        return "features/train.safetensors" in self.info["files"]

    def scorers(self, n_components, *, seed=None):
        """The usual detectors of this run: its own, or fitted now if it has none.

        Args:
            n_components: number of mixture components K.
            seed: seed of the fits; the run's own by default.

        Returns:
            dict of name → fitted scorer, as :func:`~mistakes_lib.comparison.usual_scorers` names
            them. Nearest neighbors are those among the training features: a run without these
            lacks that method.
        """
        seed = self.experiment.seed if seed is None else seed
        validation = self.features("validation")
        train = self.features("train") if self.has_training_features else None
        scorers = usual_scorers(self.density(n_components, seed=seed), len(self.classes))
        if train is None:
            scorers = {name: each for name, each in scorers.items() if not each.keeps_inputs}
        for name, scorer in scorers.items():
            file = _scorer_file(scorer)
            if seed == self.experiment.seed and file in self.info["files"]:
                scorers[name] = Scorer.load(self.file(file))
            elif scorer.fits_on == "validation" or isinstance(scorer, LogLikelihood):
                scorer.fit(validation)  # a fitted density learns nothing more
            else:
                fit_scorer(scorer, train, validation, labelled=self.labelled())
        return scorers

    def siblings(self, n_components):
        """The runs beside this one with the same data set and seed: other classifiers.

        Args:
            n_components: leave out runs that neither hold such a mixture nor can fit one.

        Returns:
            list of Run in the order of their names, this one first.
        """
        others = sorted(self.path.parents[1].glob(f"*/{self.path.name}/run.json"))
        runs = [self, *(Run(file.parent) for file in others if file.parent != self.path)]
        file = f"density/gmm-{n_components}.safetensors"
        return [r for r in runs if r.has_training_features or file in r.info["files"]]

    def figure(self, name):
        """Path of a figure that was drawn when the images were at hand."""
        return self.file(f"figures/{name}.png")


# --- making a run ------------------------------------------------------------------------------


def make_run(experiment, *, root=None, data=None, device="auto", progress=True):
    """Train, extract, attack and fit: everything the chapters read, stage by stage.

    A stage whose inputs are unchanged is skipped, so a killed run goes on where it was; training
    goes on at its last epoch. Two processes on one folder take turns.

    Args:
        experiment: :class:`~mistakes_lib.experiment.Experiment`.
        root: folder of runs; see :func:`runs_root`.
        data: folder of images; see :func:`~mistakes_lib.data.data_root`.
        device: "auto", "cpu", "cuda", …
        progress: print stages and show progress bars.

    Returns:
        Run.
    """
    with _open(experiment, root, data, device, progress) as stages:
        stages.train()
        if processes.is_main():
            for split in SPLITS:
                stages.features(split)
            stages.attacks()
            stages.ood()
            stages.densities()
            stages.deep_densities()
            stages.scorers()
            stages.adaptive_attack()
            stages.examples()
            stages.finish()
    return Run(stages.folder)


def train_run(experiment, *, root=None, data=None, device="auto", progress=True, restart=False):
    """Train, and extract the features of all splits: the part of :func:`make_run` it begins with.

    The run has neither attacks nor out-of-distribution sets then; ``make_run`` adds them.

    Args:
        experiment: :class:`~mistakes_lib.experiment.Experiment`.
        root: folder of runs; see :func:`runs_root`.
        data: folder of images; see :func:`~mistakes_lib.data.data_root`.
        device: "auto", "cpu", "cuda", …
        progress: print stages and show progress bars.
        restart: begin anew, whatever an earlier call has left.

    Returns:
        Run.
    """
    with _open(experiment, root, data, device, progress) as stages:
        if restart:
            stages.forget_training()
        stages.train()
        if processes.is_main():
            for split in SPLITS:
                stages.features(split)
            if not stages.is_finished():  # make_run may have been here before
                stages.finish()
    return Run(stages.folder)


@contextmanager
def _open(experiment, root, data, device, progress):
    """The stages of a run, for all processes of one training and for no others meanwhile."""
    device = processes.connect(device)
    folder = runs_root(root) / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder) if processes.is_main() else nullcontext():
        if processes.is_main():
            _remove_leftovers(folder)
        processes.wait()
        yield _Stages(folder, experiment, root=data, device=device, progress=progress)


@contextmanager
def _exclusive(folder):
    """Let one process at a time work on a run folder."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder):
    """Delete the temporary files of killed writers; only the lock's holder may."""
    for leftover in folder.rglob(".*.????????"):  # as atomic_write names them
        if leftover.is_file():
            leftover.unlink()


def _read_json(path):
    """Read a JSON file of a run; a damaged one is named."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and make the run again") from None


class _Stages:
    """The stages of one run; ``journal`` remembers which inputs each finished stage had.

    Construct it under the run's lock: the journal that it reads must not grow meanwhile.
    """

    def __init__(self, folder, experiment, *, root, device, progress):
        self.folder, self.experiment = folder, experiment
        self.device, self.progress = device, progress and processes.is_main()
        self.images = cache(
            lambda name, split: load_dataset(
                name, split, root=root, size=self._size(name, split), progress=progress
            )
        )
        self.checkpoint = folder / "training.safetensors"
        self.journal_path = folder / "stages.json"
        self.journal = _read_json(self.journal_path) if self.journal_path.is_file() else {}
        self.current = []  # the stages that this experiment has; the journal may know older ones

    def _size(self, name, split):
        """Out-of-distribution images take the edge of the data set's own."""
        if name == self.experiment.data_set:
            return None
        return self.images(self.experiment.data_set, "test").images.shape[-1]

    def _stage(self, name, inputs, compute):
        """Compute a file unless it is there, whole, and made from the same inputs."""
        self.current.append(name)
        fingerprint = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        done = self.journal.get(name)
        path = self.folder / name
        if done and done["inputs"] == fingerprint and path.is_file():
            if sha256_of(path) == done["sha256"]:
                return
            self._say(f"{name} is damaged: making it again")
        self._say(name)
        facts = compute(path)
        if not processes.is_main():
            return
        self.journal[name] = {"inputs": fingerprint, "sha256": sha256_of(path), "facts": facts}
        self._write_journal()

    def _write_journal(self):
        with atomic_write(self.journal_path) as temporary:
            temporary.write_text(json.dumps(self.journal), encoding="utf-8")

    def _say(self, message):
        if self.progress:
            print(f"[{self.experiment.name}] {message}", flush=True)

    def _sha(self, name):
        return self.journal[name]["sha256"]

    @cached_property
    def classifier(self):
        return _read_classifier(self.folder / "classifier.safetensors").to(self.device)

    def train(self):
        own = self.experiment
        train_set = self.images(own.data_set, "train")
        validation_set = self.images(own.data_set, "validation")
        inputs = {
            "architecture": own.architecture,
            "recipe": own.to_dict()["recipe"],
            "seed": own.seed,
            "data": [train_set.fingerprint, validation_set.fingerprint],
        }
        if own.labels_per_class is not None:
            inputs |= {k: own.to_dict()[k] for k in ("labels_per_class", "ensembling")}

        def compute(path):
            mean, std = train_set.channel_statistics()
            torch.manual_seed(own.seed)
            classifier = build_classifier(
                {
                    **own.architecture,
                    "num_classes": len(train_set.classes),
                    "mean": mean,
                    "std": std,
                }
            )
            options = {
                "seed": own.seed,
                "validation": (validation_set.images, validation_set.labels),
                "checkpoint": self.checkpoint,
                "device": self.device,
                "progress": self.progress,
            }
            images, labels = train_set.images, train_set.labels
            if own.labels_per_class is None:
                history = train(classifier, images, labels, own.recipe, **options)
            else:
                labelled = choose_labelled(labels, own.labels_per_class, seed=own.seed)
                options["ensembling"] = own.ensembling
                history = train_temporal_ensembling(
                    classifier, images, labels, labelled, own.recipe, **options
                )
            if processes.is_main():
                _write_classifier(path, classifier)
            hardware = _hardware(self.device)
            if processes.count() > 1:
                hardware = f"{processes.count()} × {hardware}"
            return {"history": history, "hardware": hardware}

        self._stage("classifier.safetensors", inputs, compute)
        # The checkpoint is not removed before the journal knows that training is over.
        if self.checkpoint.is_file() and processes.is_main():
            _, metadata = load_arrays(self.checkpoint)
            facts = self.journal["classifier.safetensors"]["facts"]
            if metadata.get("history") == facts["history"]:
                self.checkpoint.unlink()  # that of another training is left alone

    def forget_training(self):
        """Let ``train`` begin at the first epoch."""
        self.journal.pop("classifier.safetensors", None)
        if processes.is_main():
            self.checkpoint.unlink(missing_ok=True)
            self._write_journal()
        processes.wait()

    def is_finished(self):
        """Whether ``run.json`` describes the classifier that is there now."""
        path = self.folder / "run.json"
        files = _read_json(path)["files"] if path.is_file() else {}
        return files.get("classifier.safetensors") == self._sha("classifier.safetensors")

    def _extract(self, path, images, labels=None):
        """Features in float16: half the size, and far finer than their spread."""
        batch = extract_features(
            self.classifier, images, labels=labels, device=self.device, progress=self.progress
        )
        batch.save(path, features_dtype=np.float16)
        return batch

    def features(self, split):
        image_set = self.images(self.experiment.data_set, split)

        def compute(path):
            batch = self._extract(path, image_set.images, image_set.labels)
            return {"accuracy": batch.accuracy, "count": len(batch)}

        inputs = [self._sha("classifier.safetensors"), image_set.fingerprint]
        self._stage(f"features/{split}.safetensors", inputs, compute)

    @property
    def attacked_rows(self):
        test = self.images(self.experiment.data_set, "test")
        count = min(self.experiment.attack_images, len(test))
        return np.sort(np.random.default_rng(self.experiment.seed).choice(len(test), count, False))

    def attacks(self):
        test = self.images(self.experiment.data_set, "test")[self.attacked_rows]
        for name in self.experiment.attacks:
            for level in self.experiment.eps_levels:

                def compute(path, name=name, level=level):
                    adversarial = ATTACKS[name](
                        self.classifier,
                        torch.from_numpy(test.images).float() / 255,
                        test.labels,
                        level / 255,
                        device=self.device,
                        progress=self.progress,
                    )
                    batch = self._extract(path, adversarial, test.labels)
                    return {"accuracy": batch.accuracy, "count": len(batch)}

                inputs = [self._sha("classifier.safetensors"), test.fingerprint, name, level]
                self._stage(f"attacks/{name}-{level}.safetensors", inputs, compute)

    def ood(self):
        for name, count in self.experiment.ood.items():
            image_set = self.images(name, "test").subset(count, seed=self.experiment.seed)

            def compute(path, image_set=image_set):
                batch = self._extract(path, image_set.images)
                return {"description": image_set.description, "count": len(batch)}

            inputs = [self._sha("classifier.safetensors"), image_set.fingerprint]
            self._stage(f"ood/{name}.safetensors", inputs, compute)

    def densities(self):
        for n_components in self.experiment.mixtures:

            def compute(path, n_components=n_components):
                features = FeatureSet.load(self.folder / "features/train.safetensors").features
                gmm = DiagonalGMM(
                    n_components,
                    random_state=self.experiment.seed,
                    device=self.device,
                    verbose=int(self.progress),
                )
                gmm.fit(features).set_params(verbose=0).save(path)  # quiet or not, the same bytes
                return {"iterations": int(gmm.n_iter_), "converged": bool(gmm.converged_)}

            inputs = [self._sha("features/train.safetensors"), n_components, self.experiment.seed]
            self._stage(f"density/gmm-{n_components}.safetensors", inputs, compute)

    def deep_densities(self):
        for name, arguments in self.experiment.deep_densities.items():

            def compute(path, name=name, arguments=arguments):
                features = FeatureSet.load(self.folder / "features/train.safetensors").features
                density = DEEP_DENSITIES[name](
                    **arguments,
                    random_state=self.experiment.seed,
                    device=self.device,
                    verbose=int(self.progress),
                )
                density.fit(features).set_params(verbose=0).save(path)
                return {"epochs": len(density.losses_)}

            inputs = [self._sha("features/train.safetensors"), arguments, self.experiment.seed]
            self._stage(f"density/{name}.safetensors", inputs, compute)

    def adaptive_attack(self):
        """Attack the classifier and the mixture at once, for each weight of the second."""
        own = self.experiment.adaptive
        if own is None:
            return
        test = self.images(self.experiment.data_set, "test")[self.attacked_rows[: own.images]]
        mixture = f"density/gmm-{own.n_components}.safetensors"
        for weight in own.weights:

            def compute(path, weight=weight):
                adversarial = adaptive_bim(
                    self.classifier,
                    DiagonalGMM.load(self.folder / mixture),
                    torch.from_numpy(test.images).float() / 255,
                    test.labels,
                    own.eps_level / 255,
                    weight=weight,
                    iterations=own.iterations,
                    device=self.device,
                    progress=self.progress,
                )
                batch = self._extract(path, adversarial, test.labels)
                return {"accuracy": batch.accuracy, "count": len(batch)}

            inputs = [self._sha("classifier.safetensors"), self._sha(mixture), test.fingerprint]
            inputs += [own.eps_level, own.iterations, weight]
            self._stage(_adaptive_file(weight), inputs, compute)

    def scorers(self):
        """Fit those detectors that learn from training features, for each of the mixtures."""
        classes = len(self.images(self.experiment.data_set, "test").classes)
        splits = ("train", "validation")
        inputs = [self._sha(f"features/{split}.safetensors") for split in splits]
        files = {}
        for n_components in self.experiment.mixtures:
            density = DiagonalGMM(n_components, random_state=self.experiment.seed)
            for scorer in usual_scorers(density, classes).values():
                if file := _scorer_file(scorer):
                    files[file] = scorer
        for file, scorer in files.items():

            def compute(path, scorer=scorer):
                train, validation = (
                    FeatureSet.load(self.folder / f"features/{split}.safetensors")
                    for split in splits
                )
                labelled = _labelled(self.experiment, train.labels)
                fit_scorer(scorer, train, validation, labelled=labelled).save(path)
                return {}

            self._stage(file, [*inputs, repr(scorer)], compute)

    def examples(self):
        """Draw Fig. 1's counterpart now, while the images are at hand: no run keeps images."""
        own = self.experiment
        train_set, test = (self.images(own.data_set, split) for split in ("train", "test"))
        inputs = [self._sha("classifier.safetensors"), train_set.fingerprint, test.fingerprint]

        def compute(path):
            columns = _example_columns(self.classifier, train_set, test, self.folder)
            figure = plotting.image_columns(columns, test.classes)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
            return {"columns": list(columns)}

        self._stage("figures/examples.png", inputs, compute)

    def finish(self):
        """Write ``run.json``: the files' checksums and what they were made from."""
        stages = {name: self.journal[name] for name in self.current}
        facts = {name: stage["facts"] for name, stage in stages.items()}
        trained = facts["classifier.safetensors"]
        test = self.images(self.experiment.data_set, "test")
        info = {
            "title": _title(self.experiment),
            "experiment": self.experiment.to_dict(),
            "data": {
                "description": test.description,
                "classes": list(test.classes),
                "fingerprints": {
                    split: self.images(self.experiment.data_set, split).fingerprint
                    for split in SPLITS
                },
                "counts": {s: facts[f"features/{s}.safetensors"]["count"] for s in SPLITS},
            },
            "accuracy": {s: facts[f"features/{s}.safetensors"]["accuracy"] for s in SPLITS},
            "training": {
                "history": trained["history"],
                "hardware": trained["hardware"],
                "seconds": round(sum(epoch["seconds"] for epoch in trained["history"]), 1),
            },
            "parameters": sum(p.numel() for p in self.classifier.parameters()),
            "num_features": self.classifier.num_features,
            "attacked": self.attacked_rows.tolist(),
            "attack_accuracy": {
                Path(name).stem: stage["accuracy"]
                for name, stage in facts.items()
                if name.startswith("attacks/")
            },
            "ood": {
                name.removeprefix("ood/").removesuffix(".safetensors"): stage["description"]
                for name, stage in facts.items()
                if name.startswith("ood/")
            },
            "features_dtype": "float16",
            "environment": _environment(),
            "files": {name: stages[name]["sha256"] for name in sorted(stages)},
        }
        with atomic_write(self.folder / "run.json") as temporary:
            temporary.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        self._say(f"done: test accuracy {info['accuracy']['test']:.2%}")


def _example_columns(classifier, train_set, test, folder, rows=8, eps=0.1):
    """Per class: a training image, its adversarial twin, a misclassified test image (Fig. 1)."""
    wrong = ~FeatureSet.load(folder / "features/test.safetensors").correct
    classes = range(min(rows, len(test.classes)))
    first = np.array([np.flatnonzero(train_set.labels == c)[0] for c in classes])
    mistakes = [np.flatnonzero(wrong & (test.labels == c))[:1] for c in classes]
    blank = np.full_like(test.images[0], 255)  # a class without mistakes
    shown = train_set[first]
    adversarial = fgsm(classifier, torch.from_numpy(shown.images).float() / 255, shown.labels, eps)
    return {
        "train": shown.images,
        f"adversarial (FGSM, ε = {eps})": (adversarial.cpu().numpy() * 255)
        .round()
        .astype(np.uint8),
        "misclassified test": np.stack([test.images[m[0]] if len(m) else blank for m in mistakes]),
    }


def _labelled(experiment, labels):
    """The rows whose labels the training saw, bool (n,), of the training labels (n,)."""
    if experiment.labels_per_class is None:
        return np.ones(len(labels), dtype=bool)
    return choose_labelled(labels, experiment.labels_per_class, seed=experiment.seed)


def _adaptive_file(weight):
    return f"attacks/adaptive-{weight:g}.safetensors"


def _scorer_file(scorer):
    """Where a run keeps a fitted detector; None for one that has a density's file already, is
    fitted on little, or is as large as the training features."""
    if isinstance(scorer, LogLikelihood) or scorer.keeps_inputs or scorer.fits_on != "train":
        return None
    size = f"-{scorer.n_components}" if hasattr(scorer, "n_components") else ""
    return f"scorers/{re.sub(r'[^a-z]+', '-', scorer.name.lower())}{size}.safetensors"


# --- classifiers on disk, provenance -----------------------------------------------------------


def _write_classifier(path, classifier):
    arrays = {name: tensor.cpu().numpy() for name, tensor in classifier.state_dict().items()}
    save_arrays(path, arrays, {"kind": "classifier", "architecture": classifier.architecture})


def _read_classifier(path):
    arrays, metadata = load_arrays(path)
    classifier = build_classifier(metadata["architecture"])
    classifier.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return classifier.eval()


def _title(experiment):
    """The field's name of a classifier: DenseNet-BC-40-12, WRN-28-10, TE-WRN-28-10."""
    architecture = experiment.architecture
    if architecture["name"] == "densenet_bc":
        depth, growth = architecture.get("depth", 100), architecture.get("growth_rate", 12)
        title = f"DenseNet-BC-{depth}-{growth}"
    else:
        title = f"WRN-{architecture.get('depth', 28)}-{architecture.get('widen_factor', 10)}"
    return title if experiment.labels_per_class is None else f"TE-{title}"


def _hardware(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {torch.get_num_threads()} threads"


def _environment():
    """Versions and source revision, enough to know what made a run."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **versions, "revision": _revision()}


def _revision():
    source = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(source), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"mistakes {importlib.metadata.version('mistakes')}"
