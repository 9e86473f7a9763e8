"""A small experiment on digits, its run, and what a run's folder holds."""

import json
from pathlib import Path

from mistakes_lib.data.corruptions import CORRUPTIONS
from mistakes_lib.data.named import load_dataset
from mistakes_lib.runs import load_run, make_run
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.runs.kinds import AdaptiveAttack
from mistakes_lib.training.recipe import Recipe

__all__ = [
    "ADAPTIVE",
    "ATTACKS",
    "EXPERIMENT",
    "FEATURES",
    "OF_IMAGES",
    "PIXELS",
    "RECORDS",
    "SCORERS",
    "STAGES",
    "assert_same_run",
    "contents",
    "digits",
    "lasting",
    "make",
    "temporaries",
    "without_training_features",
    "written_by",
]

EXPERIMENT = Experiment(
    data_set="digits",
    classifier="tiny",
    architecture={"name": "densenet_bc", "depth": 10, "growth_rate": 4, "dropout": 0.1},
    recipe=Recipe(epochs=2, lr=0.2, schedule="one_cycle", max_shift=1, flip=False),
    eps_levels=(8, 32),
    kurakin_levels=(2,),
    attack_images=12,
    corrupted_images=3,
    ood={"photo_patches": 15},
    mixtures=(2,),
    deep_densities={"vae": {"hidden": 4, "latent": 2, "epochs": 2, "importance_samples": 8}},
    pixel_cnn={"n_filters": 2, "n_resnets": 1, "n_mixtures": 2, "n_scales": 1, "epochs": 1},
    adaptive=AdaptiveAttack(
        eps_level=32,
        n_components=2,
        weights=(0, 2.5),
        hinge_weights=(0.3,),
        match=True,
        images=5,
        iterations=3,
        more_iterations=4,
    ),
)
FEATURES = {f"features/{split}.safetensors" for split in ("train", "validation", "test")}
ATTACKS = {f"attacks/{name}-{level}.safetensors" for name in ("fgsm", "bim") for level in (8, 32)}
ATTACKS |= {"attacks/kurakin-2.safetensors"}
ADAPTIVE = {f"attacks/adaptive-{name}.safetensors" for name in (0, 2.5, "hinge-0.3", "match")}
SCORERS = {
    f"scorers/{name}.safetensors"
    for name in ("mahalanobis", "relative-mahalanobis", "vim", "zheng-hong-1")
}
PIXELS = {
    "density/pixel_cnn.safetensors",  # which knows nothing of the classifier
    *(f"pixels/{name}.safetensors" for name in ("validation", "test", "photo_patches")),
    "figures/drawings.png",
}
STAGES = {
    "classifier.safetensors",
    *FEATURES,
    *ATTACKS,
    *ADAPTIVE,
    *(f"corruptions/{kind}.safetensors" for kind in CORRUPTIONS),
    "ood/photo_patches.safetensors",
    "density/gmm-2.safetensors",
    "density/vae.safetensors",
    *PIXELS,
    *SCORERS,
    "figures/examples.png",
    "figures/pictures.png",
    "figures/strange-photo_patches.png",
}
OF_IMAGES = {*PIXELS, "figures/strange-photo_patches.png"}  # which no classifier made
RECORDS = {"run.json", "stages.json"}


def make(root, experiment=EXPERIMENT):
    return make_run(experiment, root=root, device="cpu", progress=False)


def digits(split="test"):
    return load_dataset("digits", split)


def contents(root):
    """Name → bytes of a run's files, temporary and hidden ones too."""
    folder = root / EXPERIMENT.name
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def written_by(root, action):
    """The stages' files that an action wrote, whether or not their bytes changed."""

    def stamps():
        folder = root / EXPERIMENT.name
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {(str(p.relative_to(folder)), p.stat().st_ino, p.stat().st_mtime_ns) for p in paths}

    before = stamps()
    action()
    return {name for name, *_ in stamps() - before} - RECORDS - {".lock"}


def lasting(record):
    """A run.json without what another day changes: seconds, and the library's revision."""
    record = json.loads(record)
    record["environment"].pop("revision")
    record["training"].pop("seconds")
    for epoch in record["training"]["history"]:
        epoch.pop("seconds")
    return record


def assert_same_run(root, other):
    """Byte for byte, apart from the seconds and the revision in the records."""
    ours, theirs = contents(root), contents(other)
    assert ours.keys() == theirs.keys() == STAGES | RECORDS
    assert lasting(ours["run.json"]) == lasting(theirs["run.json"])
    for name in STAGES:
        assert ours[name] == theirs[name], name


def without_training_features(root, name=EXPERIMENT.name):
    """Let a run be one that was published without its training features."""
    path = root / name / "run.json"
    info = json.loads(path.read_text())
    del info["files"]["features/train.safetensors"]
    path.write_text(json.dumps(info))
    (root / name / "features/train.safetensors").unlink()
    return load_run(root / name)


def temporaries(root):
    return [name for name in contents(root) if Path(name).name.startswith(".")]
