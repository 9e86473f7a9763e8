"""Leftovers, a training alone, semi-supervised ones, and their checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mistakes_lib.classifiers import build_classifier
from mistakes_lib.runs import train_run
from mistakes_lib.support.storage import save_arrays
from mistakes_lib.training.ensembles import TemporalEnsembling
from mistakes_lib.training.supervised import train
from mistakes_lib.training.temporal_ensembling import train_temporal_ensembling
from tests.helpers.runs import (
    EXPERIMENT,
    FEATURES,
    STAGES,
    assert_same_run,
    contents,
    digits,
    make,
    temporaries,
    written_by,
)


def test_a_leftover_of_a_killed_writer_is_removed_but_nothing_else(root):
    folder = root / EXPERIMENT.name
    (folder / "features" / ".test.safetensors.ab12_xyz").write_text("half")
    kept = folder / "features" / ".notes"
    kept.write_text("mine")
    make(root)
    assert temporaries(root) == ["features/.notes"]


def test_a_training_alone_is_the_beginning_of_the_run(published, tmp_path):
    trained = train_run(EXPERIMENT, root=tmp_path, device="cpu", progress=False)
    assert trained.info["files"].keys() == {"classifier.safetensors", *FEATURES}
    with pytest.raises(FileNotFoundError, match="no attacks/fgsm-8"):
        trained.attack("fgsm", 8 / 255)
    written = written_by(tmp_path, lambda: make(tmp_path))
    assert written == STAGES - trained.info["files"].keys()
    assert_same_run(tmp_path, published)


def test_training_a_finished_run_changes_nothing(root):
    before = contents(root)
    train_run(EXPERIMENT, root=root, device="cpu", progress=False)
    assert contents(root) == before


def test_restart_begins_at_the_first_epoch(root, capsys):
    path = root / EXPERIMENT.name / "classifier.safetensors"
    before = path.read_bytes()
    train_run(EXPERIMENT, root=root, device="cpu", restart=True)
    assert "] classifier.safetensors\n" in capsys.readouterr().out
    assert path.read_bytes() == before, "the same seed gives the same weights"


def test_a_semi_supervised_run_knows_whose_labels_it_saw(tmp_path, run):
    experiment = replace(EXPERIMENT, classifier="semi", labels_per_class=7)
    semi = train_run(experiment, root=tmp_path, device="cpu", progress=False)
    assert semi.title == "TE-DenseNet-BC-10-4 on scikit-learn digits"
    labelled = semi.labelled()
    assert np.bincount(semi.features("train").labels[labelled]).tolist() == [7] * 10
    assert {"supervised_loss", "unsupervised_loss"} <= semi.info["training"]["history"][0].keys()
    other = replace(experiment, ensembling=TemporalEnsembling(max_weight=1))
    again = train_run(other, root=tmp_path, device="cpu", progress=False)
    assert again.info["files"] != semi.info["files"], "other ensembling, another training"
    assert run.labelled().all() and len(run.labelled()) == len(run.features("train"))
    assert (semi.family, run.family) == ("semi_supervised", "densenet_bc")


def test_its_supervised_twin_sees_the_same_labelled_images_and_no_others(tmp_path):
    experiment = replace(EXPERIMENT, classifier="twin", labels_per_class=7, ensembling=False)
    twin = train_run(experiment, root=tmp_path, device="cpu", progress=False)
    assert twin.title == "DenseNet-BC-10-4 (7 labels per class) on scikit-learn digits"
    assert (twin.family, twin.experiment) == ("few_labels", experiment)
    labelled, data = twin.labelled(), digits("train")
    assert np.bincount(data.labels[labelled]).tolist() == [7] * 10
    torch.manual_seed(0)
    mean, std = data.channel_statistics()
    peer = build_classifier(
        {**EXPERIMENT.architecture, "num_classes": 10, "mean": mean, "std": std}
    )
    images, labels = data.images[labelled], data.labels[labelled]
    train(peer, images, labels, EXPERIMENT.recipe, seed=0, device="cpu", progress=False)
    expected = twin.classifier().state_dict()
    for name, value in peer.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_temporal_ensembling_goes_on_from_the_twin(tmp_path):
    """With ``then`` only the last recipe sees the images without labels."""
    ensembling, last = TemporalEnsembling(ramp_up=1), replace(EXPERIMENT.recipe, lr=0.05)
    own = {"labels_per_class": 7, "classifier": "semi"}
    semi = replace(EXPERIMENT, **own, then=[last], ensembling=ensembling)
    twin = replace(EXPERIMENT, **own | {"classifier": "twin"}, ensembling=False)
    made, start = (
        train_run(each, root=tmp_path, device="cpu", progress=False) for each in (semi, twin)
    )
    network, data = start.classifier().train(), digits("train")
    images, labels, few = data.images, data.labels, made.labelled()
    train_temporal_ensembling(
        network, images, labels, few, last,
        ensembling=ensembling, seed=1, device="cpu", progress=False,
    )  # fmt: skip
    expected = network.state_dict()
    for name, value in made.classifier().state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    records, epochs = made.info["training"]["history"], EXPERIMENT.recipe.epochs
    assert [record["epoch"] for record in records] == list(range(1, 2 * epochs + 1))
    semi_supervised = ["unsupervised_loss" in record for record in records]
    assert semi_supervised == [False] * epochs + [True] * epochs
    assert made.experiment.settings()["ramp-up, ramp-down (epochs)"] == ensembling.ramps(epochs)


def test_the_checkpoint_of_another_training_is_left_alone(root):
    checkpoint = root / EXPERIMENT.name / "training.safetensors"
    save_arrays(checkpoint, {"weights.x": np.ones(1)}, {"history": [{"epoch": 1}]})
    make(root)
    assert checkpoint.is_file()
