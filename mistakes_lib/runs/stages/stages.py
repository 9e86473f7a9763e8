"""The stages of a run: each is skipped if its file was made from the same inputs before."""

import hashlib
import json
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mistakes_lib.attacks import adaptive_bim, bim, fgsm
from mistakes_lib.classifiers import build_classifier
from mistakes_lib.data.named import SPLITS, load_dataset
from mistakes_lib.density import DiagonalGMM, PixelCNN
from mistakes_lib.density.pixel_cnn.image_codes import histogram_bits, webp_bits
from mistakes_lib.evaluation.tables import fit_scorer, usual_scorers
from mistakes_lib.features.feature_set import FeatureSet, extract_features
from mistakes_lib.runs.experiment import DEEP_DENSITIES
from mistakes_lib.runs.files import (
    PIXEL_CNN,
    TRAINING_FEATURES,
    adaptive_file,
    labelled_rows,
    mixture_file,
    pixels_file,
    read_classifier,
    read_json,
    scorer_file,
    write_classifier,
)
from mistakes_lib.runs.provenance import environment, hardware_of, title_of
from mistakes_lib.runs.stages.drawing import image_columns
from mistakes_lib.support.progress import somebody_watches
from mistakes_lib.support.storage import atomic_write, load_arrays, save_arrays, sha256_of
from mistakes_lib.training import distributed as processes
from mistakes_lib.training.supervised import train
from mistakes_lib.training.temporal_ensembling import choose_labelled, train_temporal_ensembling

__all__ = ["Stages"]

ATTACKS = {"fgsm": fgsm, "bim": bim}
PICTURED = 60  # test images on the sheet of pictures
PICTURE_EDGE = 32  # of each, in pixels at most
PAPERS_MIXTURE = 100  # components, for mistakes
COMPRESSED = 1000  # images that WebP is tried on
DRAWN = 12  # images that a PixelCNN draws


class Stages:
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
        later = [f"training-{n}.safetensors" for n in range(2, len(experiment.recipes) + 1)]
        self.checkpoints = [folder / name for name in ("training.safetensors", *later)]
        self.journal_path = folder / "stages.json"
        self.journal = read_json(self.journal_path) if self.journal_path.is_file() else {}
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
        return read_classifier(self.folder / "classifier.safetensors").to(self.device)

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
        if own.then:
            inputs["then"] = own.to_dict()["then"]
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
                "validation": (validation_set.images, validation_set.labels),
                "device": self.device,
                "progress": self.progress,
            }
            images, labels = train_set.images, train_set.labels
            if own.labels_per_class is None:
                history = self._train_recipes(classifier, images, labels, **options)
            else:
                labelled = choose_labelled(labels, own.labels_per_class, seed=own.seed)
                options |= {"ensembling": own.ensembling, "checkpoint": self.checkpoints[0]}
                history = train_temporal_ensembling(
                    classifier, images, labels, labelled, own.recipe, seed=own.seed, **options
                )
            if processes.is_main():
                write_classifier(path, classifier)
            hardware = hardware_of(self.device)
            if processes.count() > 1:
                hardware = f"{processes.count()} × {hardware}"
            return {"history": history, "hardware": hardware}

        self._stage("classifier.safetensors", inputs, compute)
        self._remove_checkpoints()

    def _train_recipes(self, classifier, images, labels, **options):
        """Train by each recipe in turn; return the records of all epochs, numbered through."""
        history = []
        for place, recipe in enumerate(self.experiment.recipes):
            own, *later = self.checkpoints[place:]
            if not own.is_file() and processes.is_main():
                for checkpoint in later:  # it went on from weights that are gone
                    checkpoint.unlink(missing_ok=True)
            options |= {"seed": self.experiment.seed + place, "checkpoint": own}
            records = train(classifier, images, labels, recipe, **options)
            history += _numbered(records, start=len(history))
        return history

    def _remove_checkpoints(self):
        """Remove those of the training that the journal knows to be over, and no others."""
        if not processes.is_main():
            return  # the journal is the main process's
        history = self.journal["classifier.safetensors"]["facts"]["history"]
        for recipe, checkpoint in zip(self.experiment.recipes, self.checkpoints, strict=True):
            own, history = _numbered(history[: recipe.epochs]), history[recipe.epochs :]
            if checkpoint.is_file():
                _, metadata = load_arrays(checkpoint)
                if metadata.get("history") == own:
                    checkpoint.unlink()

    def forget_training(self):
        """Let ``train`` begin at the first epoch."""
        self.journal.pop("classifier.safetensors", None)
        if processes.is_main():
            for checkpoint in self.checkpoints:
                checkpoint.unlink(missing_ok=True)
            self._write_journal()
        processes.wait()

    def is_finished(self):
        """Whether ``run.json`` describes the classifier that is there now."""
        path = self.folder / "run.json"
        files = read_json(path)["files"] if path.is_file() else {}
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

    def _out_of_distribution(self, name):
        count = self.experiment.ood[name]
        return self.images(name, "test").subset(count, seed=self.experiment.seed)

    def ood(self):
        for name in self.experiment.ood:
            image_set = self._out_of_distribution(name)

            def compute(path, image_set=image_set):
                batch = self._extract(path, image_set.images)
                return {"description": image_set.description, "count": len(batch)}

            inputs = [self._sha("classifier.safetensors"), image_set.fingerprint]
            self._stage(f"ood/{name}.safetensors", inputs, compute)

    def densities(self):
        for n_components in self.experiment.mixtures:

            def compute(path, n_components=n_components):
                features = FeatureSet.load(self.folder / TRAINING_FEATURES).features
                gmm = DiagonalGMM(
                    n_components,
                    random_state=self.experiment.seed,
                    device=self.device,
                    verbose=int(self.progress and somebody_watches()),
                )
                gmm.fit(features).set_params(verbose=0).save(path)  # quiet or not, the same bytes
                return {"iterations": int(gmm.n_iter_), "converged": bool(gmm.converged_)}

            inputs = [self._sha(TRAINING_FEATURES), n_components, self.experiment.seed]
            self._stage(mixture_file(n_components), inputs, compute)

    def deep_densities(self):
        for name, arguments in self.experiment.deep_densities.items():

            def compute(path, name=name, arguments=arguments):
                features = FeatureSet.load(self.folder / TRAINING_FEATURES).features
                density = DEEP_DENSITIES[name](
                    **arguments,
                    random_state=self.experiment.seed,
                    device=self.device,
                    verbose=int(self.progress and somebody_watches()),
                )
                density.fit(features).set_params(verbose=0).save(path)
                return {"epochs": len(density.losses_)}

            inputs = [self._sha(TRAINING_FEATURES), arguments, self.experiment.seed]
            self._stage(f"density/{name}.safetensors", inputs, compute)

    def pixel_cnn(self):
        """Train a density of the images, and keep what it says of them: no run keeps images."""
        own = self.experiment
        if not own.pixel_cnn:
            return
        train_set = self.images(own.data_set, "train")
        checkpoint = self.folder / "pixel_cnn-training.safetensors"

        def compute(path):
            density = PixelCNN(
                **own.pixel_cnn,
                random_state=own.seed,
                device=self.device,
                verbose=int(self.progress and somebody_watches()),
            )
            density.fit(train_set.images, checkpoint=checkpoint)
            density.set_params(verbose=0).save(path)
            return {"hardware": hardware_of(self.device), "losses": density.losses_}

        inputs = [train_set.fingerprint, own.pixel_cnn, own.seed]
        self._stage(PIXEL_CNN, inputs, compute)
        checkpoint.unlink(missing_ok=True)
        sets = {name: self.images(own.data_set, name) for name in ("validation", "test")}
        sets |= {name: self._out_of_distribution(name) for name in own.ood}
        for name, image_set in sets.items():

            def compute(path, images=image_set.images):
                density = PixelCNN.load(self.folder / PIXEL_CNN).set_params(device=self.device)
                values = density.score_samples(images)  # (n,) nats
                save_arrays(path, {"log_likelihood": values}, {"kind": "log-likelihood"})
                return {
                    "PixelCNN": float(-values.mean() / (density.n_features_in_ * np.log(2))),
                    "WebP, lossless": webp_bits(images[:COMPRESSED]),
                    "independent pixels": histogram_bits(train_set.images, images),
                }

            inputs = [self._sha(PIXEL_CNN), image_set.fingerprint]
            self._stage(pixels_file(name), inputs, compute)

        def compute(path):
            density = PixelCNN.load(self.folder / PIXEL_CNN)
            density.set_params(device=self.device, random_state=own.seed)
            rows = train_set.images[:DRAWN], density.sample(DRAWN)[0]
            sheet = np.concatenate([np.concatenate([*images], axis=2) for images in rows], axis=1)
            _save_png(path, sheet.transpose(1, 2, 0))
            return {}

        inputs = [self._sha(PIXEL_CNN), train_set.fingerprint, own.seed]
        self._stage("figures/drawings.png", inputs, compute)

    def adaptive_attack(self):
        """Attack the classifier and the mixture at once, for each weight of the second."""
        own = self.experiment.adaptive
        if own is None:
            return
        test = self.images(self.experiment.data_set, "test")[self.attacked_rows[: own.images]]
        mixture = mixture_file(own.n_components)
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
            self._stage(adaptive_file(weight), inputs, compute)

    def scorers(self):
        """Fit those detectors that learn from training features, for each of the mixtures."""
        classes = len(self.images(self.experiment.data_set, "test").classes)
        splits = ("train", "validation")
        inputs = [self._sha(f"features/{split}.safetensors") for split in splits]
        files = {}
        for n_components in self.experiment.mixtures:
            density = DiagonalGMM(n_components, random_state=self.experiment.seed)
            for scorer in usual_scorers(density, classes).values():
                if file := scorer_file(scorer):
                    files[file] = scorer
        for file, scorer in files.items():

            def compute(path, scorer=scorer):
                train, validation = (
                    FeatureSet.load(self.folder / f"features/{split}.safetensors")
                    for split in splits
                )
                labelled = labelled_rows(self.experiment, train.labels)
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
            figure = image_columns(columns, test.classes)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
            return {"columns": list(columns)}

        self._stage("figures/examples.png", inputs, compute)

    def pictures(self):
        """A row of test images to show at the likelihood they have: half of them mistakes, each
        half from the least likely to the likeliest."""
        own, test = self.experiment, self.images(self.experiment.data_set, "test")
        if not own.mixtures:
            return
        mixture = mixture_file(min(own.mixtures, key=lambda size: abs(size - PAPERS_MIXTURE)))
        batch = "features/test.safetensors"

        def compute(path):
            scored = FeatureSet.load(self.folder / batch)
            likelihood = DiagonalGMM.load(self.folder / mixture).score_samples(scored.features)
            rows = _spread(likelihood, scored.correct, PICTURED)
            pictures = [_small(image) for image in test.images[rows]]
            _save_png(path, np.concatenate(pictures, axis=1))
            return {"rows": rows.tolist()}

        inputs = [self._sha(batch), self._sha(mixture), test.fingerprint]
        self._stage("figures/pictures.png", inputs, compute)

    def finish(self):
        """Write ``run.json``: the files' checksums and what they were made from."""
        stages = {name: self.journal[name] for name in self.current}
        facts = {name: stage["facts"] for name, stage in stages.items()}
        trained = facts["classifier.safetensors"]
        test = self.images(self.experiment.data_set, "test")
        info = {
            "title": title_of(self.experiment),
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
            "pictured": facts.get("figures/pictures.png", {"rows": []})["rows"],
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
            "bits_per_dim": {
                Path(name).stem: stage
                for name, stage in facts.items()
                if name.startswith("pixels/")
            },
            "features_dtype": "float16",
            "environment": environment(),
            "files": {name: stages[name]["sha256"] for name in sorted(stages)},
        }
        with atomic_write(self.folder / "run.json") as temporary:
            temporary.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        self._say(f"done: test accuracy {info['accuracy']['test']:.2%}")


def _numbered(history, start=0):
    """The same records with epochs from ``start`` + 1 on."""
    return [{**record, "epoch": start + place} for place, record in enumerate(history, start=1)]


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


def _spread(values, correct, count):
    """Rows from the smallest to the largest value, half of them correct and half not, ascending."""
    rows = []
    for group in (np.flatnonzero(correct), np.flatnonzero(~correct)):
        ordered = group[np.argsort(values[group], kind="stable")]
        places = np.linspace(0, len(ordered) - 1, min(count // 2, len(ordered)))
        rows.append(ordered[places.round().astype(int)])
    return np.sort(np.concatenate(rows))


def _save_png(path, pixels):
    """Write an image, uint8 (h, w, 3), whole or not at all."""
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _small(image):
    """An image, uint8 (3, h, w), as a square of at most ``PICTURE_EDGE`` pixels, (e, e, 3)."""
    pixels = Image.fromarray(image.transpose(1, 2, 0))
    edge = min(PICTURE_EDGE, *pixels.size)
    return np.asarray(pixels if pixels.size == (edge, edge) else pixels.resize((edge, edge)))
