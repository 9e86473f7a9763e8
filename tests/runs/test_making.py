"""Run folders: whole, reproducible, damage named and mended."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mistakes_lib.data.named import load_dataset
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.runs import Run, load_run, make_run, publish_run
from tests.helpers.runs import (
    ATTACKS,
    EXPERIMENT,
    OF_IMAGES,
    RECORDS,
    STAGES,
    assert_same_run,
    contents,
    lasting,
    make,
    written_by,
)


def test_the_same_experiment_gives_the_same_bytes(published, tmp_path):
    make(tmp_path)
    assert_same_run(tmp_path, published)


def test_a_finished_run_is_not_computed_again(root):
    before = contents(root)
    assert written_by(root, lambda: make(root)) == set()
    assert contents(root)["stages.json"] == before["stages.json"]
    assert lasting(contents(root)["run.json"]) == lasting(before["run.json"])


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_deleted_file_alone_is_made_again(root, published, name):
    (root / EXPERIMENT.name / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} of run {EXPERIMENT.name} is missing"):
        load_run(root / EXPERIMENT.name).file(name)
    assert written_by(root, lambda: make(root)) == {name}
    assert_same_run(root, published)


def flip_a_bit(data):
    return data[:-1] + bytes([data[-1] ^ 1])


READERS = {
    "classifier.safetensors": Run.classifier,
    "features/train.safetensors": lambda run: run.density(3),
    "features/test.safetensors": lambda run: run.features("test"),
    "attacks/bim-8.safetensors": lambda run: run.attack("bim", 8 / 255),
    "ood/photo_patches.safetensors": lambda run: run.ood("photo_patches"),
    "density/gmm-2.safetensors": lambda run: run.density(2),
    "scorers/vim.safetensors": lambda run: run.scorers(2),
    "attacks/adaptive-2.5.safetensors": lambda run: run.adaptive_attack(2.5),
    "figures/examples.png": lambda run: run.figure("examples"),
}


@pytest.mark.parametrize("damage", [flip_a_bit, lambda data: data[:100], lambda data: b""])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_not_used_and_made_again(root, published, capsys, name, damage):
    path = root / EXPERIMENT.name / name
    path.write_bytes(damage(path.read_bytes()))
    run = load_run(root / EXPERIMENT.name)
    with pytest.raises(ValueError, match=f"{name} of run digits/tiny/seed0 is damaged: make"):
        READERS[name](run)
    make_run(EXPERIMENT, root=root, device="cpu", progress=True)
    assert f"{name} is damaged: making it again\n" in capsys.readouterr().out
    assert_same_run(root, published)
    READERS[name](run)


def test_another_valid_file_is_not_taken_for_the_runs_own(root):
    folder = root / EXPERIMENT.name
    shutil.copy(folder / "features/train.safetensors", folder / "features/test.safetensors")
    FeatureSet.load(folder / "features/test.safetensors")  # valid, but another
    with pytest.raises(ValueError, match=r"features/test\.safetensors of run .* damaged"):
        load_run(folder).features("test")


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_damaged_record_is_named(root, name):
    path = root / EXPERIMENT.name / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        _ = load_run(root / EXPERIMENT.name).info if name == "run.json" else make(root)


def test_a_damaged_run_json_is_written_again(root, published):
    path = root / EXPERIMENT.name / "run.json"
    path.write_bytes(path.read_bytes()[:-5])
    assert written_by(root, lambda: make(root)) == set()
    assert_same_run(root, published)


@pytest.mark.parametrize(
    ("change", "recomputed"),
    [
        ({"mixtures": (2, 3)}, {"density/gmm-3.safetensors", "figures/pictures.png"}),
        (
            {"eps_levels": (25.5, 8)},
            {"attacks/fgsm-25.5.safetensors", "attacks/bim-25.5.safetensors"},
        ),
        ({"attack_images": 13}, ATTACKS),
        ({"attacks": ("bim",)}, set()),
        (
            {"ood": {"photo_patches": 16}},
            {
                "ood/photo_patches.safetensors",
                "pixels/photo_patches.safetensors",
                "figures/strange-photo_patches.png",
            },
        ),
        ({"ood": {}}, set()),
        ({"recipe": replace(EXPERIMENT.recipe, lr=0.1)}, STAGES - OF_IMAGES),
        ({"architecture": {**EXPERIMENT.architecture, "growth_rate": 5}}, STAGES - OF_IMAGES),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_parameter_recomputes_what_depends_on_it(root, tmp_path, change, recomputed):
    """And the result is the run that the new experiment makes from nothing."""
    experiment = replace(EXPERIMENT, **change)
    assert written_by(root, lambda: make(root, experiment)) == recomputed
    fresh = tmp_path / "fresh"
    make(fresh, experiment)
    records = [lasting(contents(folder)["run.json"]) for folder in (root, fresh)]
    assert records[0]["files"] == records[1]["files"]
    assert records[0] == records[1]


def test_a_file_of_an_older_experiment_is_not_the_runs(root):
    """A mixture of the old classifier's features must not judge the new one's."""
    recipe = replace(EXPERIMENT.recipe, lr=0.1)
    less = {"mixtures": (3,), "adaptive": None, "eps_levels": (16,), "ood": {}}
    less |= {"kurakin_levels": ()}
    run = make(root, replace(EXPERIMENT, recipe=recipe, **less))
    fresh = DiagonalGMM(2, random_state=0, device="cpu").fit(run.features("train").features)
    test = run.features("test").features
    np.testing.assert_allclose(run.density(2).score_samples(test), fresh.score_samples(test))
    assert run.ood_sets == {}
    assert list(run.info["attack_accuracy"]) == ["fgsm-16", "bim-16"]
    for ask in (lambda: run.attack("bim", 8 / 255), lambda: run.ood("photo_patches")):
        with pytest.raises((ValueError, FileNotFoundError), match="it has"):
            ask()


def test_another_seed_is_another_training_judged_on_the_same_images(root, run):
    before = contents(root)
    other = make(root, replace(EXPERIMENT, seed=1))
    assert other.name == "digits/tiny/seed1"
    assert contents(root) == before
    assert not np.array_equal(other.features("test").logits, run.features("test").logits)
    assert np.array_equal(other.attacked, run.attacked)
    assert [each.name for each in other.trainings()] == [run.name, other.name]


def test_anybodys_images_are_an_out_of_distribution_set(root, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(20, 8, 8, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        path = tmp_path / "pets.v2" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    name = f"imagefolder:{tmp_path / 'pets.v2'}"
    run = make(root, replace(EXPERIMENT, ood={name: 10}))
    assert run.ood_sets == {name: "image folder pets.v2"}
    assert len(run.ood(name)) == 2  # 80/10/10: its test split
    assert run.ood(name).labels is None, "they are no classes of the classifier"
    used = load_dataset(name, "test", size=8).subset(10, seed=0)
    copy = publish_run(run, tmp_path / "book", logits=False)
    for each in (run, copy):
        labels, classes = each.ood_labels(name)
        assert classes == used.classes == ("a", "b")
        np.testing.assert_array_equal(labels, used.labels)


def test_a_run_is_not_started_on_a_network_that_does_not_exist(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"architecture\.name must be a known network, got 'res",
    ):
        make(tmp_path, replace(EXPERIMENT, architecture={"name": "resnet"}))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"pixel_cnn": {"n_scales": 5}}, "n_scales=5 needs image edges that are multiples of 16"),
        ({"mixtures": (2, 1150)}, "mixtures must be at most the 1149 training images, got 1150"),
        ({"ood": {"imagefolder:/nowhere": 9}}, "/nowhere"),
        ({"labels_per_class": 200}, r"class 0 has \d+ images, fewer than per_class = 200"),
    ],
)
def test_what_the_images_do_not_allow_is_said_before_the_training(tmp_path, change, complaint):
    with pytest.raises((ValueError, OSError), match=complaint):
        make(tmp_path, replace(EXPERIMENT, **change))
    assert contents(tmp_path) == {}
