"""The journal of a run in the making: which stages are done, and from what they were made."""

import hashlib
import json
from functools import cache, cached_property, partial

import numpy as np

from mistakes_lib.data.image_set import part_of
from mistakes_lib.data.named import load_part
from mistakes_lib.features.feature_set import FeatureSet, extract_features
from mistakes_lib.runs.files import CLASSIFIER, read_classifier, read_json
from mistakes_lib.support.progress import somebody_watches
from mistakes_lib.support.storage import atomic_write, sha256_of
from mistakes_lib.training import distributed as processes

__all__ = ["Journal"]


class Journal:
    """A run in the making, and the inputs that each of its finished stages had.

    Construct it under the run's lock: the file that it reads must not grow meanwhile.

    Args:
        folder: the run's folder.
        experiment: :class:`~mistakes_lib.runs.experiment.Experiment`.
        root: folder of images.
        device: torch.device.
        progress: print stages and show progress bars.

    Attributes:
        current: names of the stages that this experiment has; the journal may know older ones.
        images: function of a data set's name and a split that returns its ImageSet.
    """

    def __init__(self, folder, experiment, *, root, device, progress):
        self.folder, self.experiment = folder, experiment
        self.device, self.progress = device, progress and processes.is_main()
        load = cache(partial(load_part, root=root, progress=progress))
        self.images = lambda name, split: load(name, part_of(split), size=self._size(name))[split]
        self.path = folder / "stages.json"
        self.stages = read_json(self.path) if self.path.is_file() else {}
        self.current = []

    def _size(self, name):
        """Out-of-distribution images take the edge of the data set's own."""
        if name == self.experiment.data_set:
            return None
        return self.own_images("test").images.shape[-1]

    def own_images(self, split):
        """ImageSet of a split of the experiment's own data set."""
        return self.images(self.experiment.data_set, split)

    def stage(self, name, inputs, compute):
        """Compute a file unless it is there, whole, and made from the same inputs.

        Args:
            name: the file, below the run's folder.
            inputs: JSON-ready: all that the file depends on.
            compute: function of the file's path that writes it and returns JSON-ready facts.
        """
        self.current.append(name)
        fingerprint = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        done = self.stages.get(name)
        path = self.folder / name
        if done and done["inputs"] == fingerprint and path.is_file():
            if sha256_of(path) == done["sha256"]:
                return
            self.say(f"{name} is damaged: making it again")
        self.say(name)
        facts = compute(path)
        if not processes.is_main():
            return
        self.stages[name] = {"inputs": fingerprint, "sha256": sha256_of(path), "facts": facts}
        self.write()

    def forget(self, name):
        """Let a stage be computed again."""
        self.stages.pop(name, None)
        if processes.is_main():
            self.write()

    def write(self):
        """Write the journal to its file."""
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps(self.stages), encoding="utf-8")

    def say(self, message):
        """Print a line, unless nobody wants to know."""
        if self.progress:
            print(f"[{self.experiment.name}] {message}", flush=True)

    def sha(self, name):
        """SHA-256 of the file of a finished stage."""
        return self.stages[name]["sha256"]

    @property
    def verbose(self):
        """1 where a density is to show its progress, else 0."""
        return int(self.progress and somebody_watches())

    @cached_property
    def classifier(self):
        """The trained network, on the device."""
        return read_classifier(self.folder / CLASSIFIER).to(self.device)

    def features(self, split):
        """FeatureSet of a split, from the file of its finished stage."""
        return FeatureSet.load(self.folder / f"features/{split}.safetensors")

    def extract(self, path, images, labels=None):
        """Write features in float16: half the size, and far finer than their spread.

        Returns:
            FeatureSet.
        """
        batch = extract_features(
            self.classifier, images, labels=labels, device=self.device, progress=self.progress
        )
        batch.save(path, features_dtype=np.float16)
        return batch
