"""The last stage of a run: ``run.json``, the record of what was made, and from what."""

import json
from pathlib import Path

from mistakes_lib.data.image_set import SPLITS
from mistakes_lib.runs.files import CLASSIFIER, read_json
from mistakes_lib.runs.provenance import environment, title_of
from mistakes_lib.runs.stages.attacks import attacked_rows
from mistakes_lib.runs.stages.features import corrupted_rows
from mistakes_lib.support.storage import atomic_write

__all__ = ["finish", "is_finished"]


def is_finished(journal):
    """Whether ``run.json`` describes the classifier that is there now."""
    path = journal.folder / "run.json"
    files = read_json(path)["files"] if path.is_file() else {}
    return files.get(CLASSIFIER) == journal.sha(CLASSIFIER)


def finish(journal):
    """Write ``run.json``: the files' checksums and what they were made from."""
    stages = {name: journal.stages[name] for name in journal.current}
    facts = {name: stage["facts"] for name, stage in stages.items()}
    classifier = journal.classifier
    info = {
        "title": title_of(journal.experiment),
        "experiment": journal.experiment.to_dict(),
        "data": _data(journal, facts),
        "accuracy": {s: facts[f"features/{s}.safetensors"]["accuracy"] for s in SPLITS},
        "training": _training(facts[CLASSIFIER]),
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "num_features": classifier.num_features,
        "attacked": attacked_rows(journal).tolist(),
        "corrupted": corrupted_rows(journal).tolist(),
        "pictured": facts.get("figures/pictures.png", {"rows": []})["rows"],
        "attack_accuracy": {
            Path(name).stem: stage["accuracy"] for name, stage in _of(facts, "attacks").items()
        },
        "ood": {
            name.removeprefix("ood/").removesuffix(".safetensors"): stage["description"]
            for name, stage in _of(facts, "ood").items()
        },
        "bits_per_dim": {Path(name).stem: stage for name, stage in _of(facts, "pixels").items()},
        "features_dtype": "float16",
        "environment": environment(),
        "files": {name: stages[name]["sha256"] for name in sorted(stages)},
    }
    with atomic_write(journal.folder / "run.json") as temporary:
        temporary.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    journal.say(f"done: test accuracy {info['accuracy']['test']:.2%}")


def _of(facts, folder):
    """The facts of the stages whose files lie in a folder of the run."""
    return {name: each for name, each in facts.items() if name.startswith(f"{folder}/")}


def _data(journal, facts):
    test = journal.own_images("test")
    return {
        "description": test.description,
        "classes": list(test.classes),
        "fingerprints": {split: journal.own_images(split).fingerprint for split in SPLITS},
        "counts": {split: facts[f"features/{split}.safetensors"]["count"] for split in SPLITS},
    }


def _training(trained):
    seconds = sum(epoch["seconds"] for epoch in trained["history"])
    return {**trained, "seconds": round(seconds, 1)}
