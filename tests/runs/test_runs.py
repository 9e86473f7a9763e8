"""Run folders: whole, reproducible, resumed after a kill at any moment, damage named."""

import json
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mistakes_lib.runs.reading
from mistakes_lib.attacks import adaptive_bim, bim, fgsm
from mistakes_lib.classifiers import build_classifier
from mistakes_lib.cli.app import app
from mistakes_lib.data.named import load_dataset
from mistakes_lib.density import DiagonalGMM, FeatureVAE, PixelCNN
from mistakes_lib.density.pixel_cnn.image_codes import histogram_bits
from mistakes_lib.detector import usual_mixture
from mistakes_lib.evaluation.tables import fit_scorers
from mistakes_lib.features.feature_set import FeatureSet, extract_features
from mistakes_lib.runs import Run, load_run, make_run, publish_run, train_run
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.runs.kinds import AdaptiveAttack
from mistakes_lib.scores import ZhengHong
from mistakes_lib.support.locations import runs_root
from mistakes_lib.support.storage import save_arrays, sha256_of
from mistakes_lib.training.ensembles import TemporalEnsembling
from mistakes_lib.training.recipe import Recipe
from mistakes_lib.training.supervised import train

EXPERIMENT = Experiment(
    data_set="digits",
    classifier="tiny",
    architecture={"name": "densenet_bc", "depth": 10, "growth_rate": 4, "dropout": 0.1},
    recipe=Recipe(epochs=2, lr=0.2, schedule="one_cycle", max_shift=1, flip=False),
    eps_levels=(8, 32),
    attack_images=12,
    ood={"photo_patches": 15},
    mixtures=(2,),
    deep_densities={"vae": {"hidden": 4, "latent": 2, "epochs": 2, "importance_samples": 8}},
    pixel_cnn={"n_filters": 2, "n_resnets": 1, "n_mixtures": 2, "n_scales": 1, "epochs": 1},
    adaptive=AdaptiveAttack(eps_level=32, n_components=2, weights=(0, 2.5), images=5, iterations=3),
)
FEATURES = {f"features/{split}.safetensors" for split in ("train", "validation", "test")}
ATTACKS = {f"attacks/{name}-{level}.safetensors" for name in ("fgsm", "bim") for level in (8, 32)}
ADAPTIVE = {"attacks/adaptive-0.safetensors", "attacks/adaptive-2.5.safetensors"}
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
    "ood/photo_patches.safetensors",
    "density/gmm-2.safetensors",
    "density/vae.safetensors",
    *PIXELS,
    *SCORERS,
    "figures/examples.png",
    "figures/pictures.png",
}
RECORDS = {"run.json", "stages.json"}


def make(root, experiment=EXPERIMENT):
    return make_run(experiment, root=root, device="cpu", progress=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with one undisturbed run; tests read it only."""
    root = tmp_path_factory.mktemp("published")
    make(root)
    return root


@pytest.fixture(scope="module")
def run(published):
    return load_run(published / EXPERIMENT.name)


@pytest.fixture
def root(published, tmp_path):
    """A copy of that folder, with the same times, which a test may change."""
    return shutil.copytree(published, tmp_path / "runs")


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


# --- what a run holds ----------------------------------------------------------------------------


def test_run_json_names_every_file_with_its_sha256(run, published):
    assert run.info["files"].keys() == STAGES
    assert contents(published).keys() == STAGES | RECORDS
    for name, sha256 in run.info["files"].items():
        assert sha256_of(run.path / name) == sha256
        assert run.file(name) == run.path / name


def test_run_json_says_what_the_run_is(run):
    info = run.info
    assert run.name == "digits/tiny/seed0"
    assert run.title == "DenseNet-BC-10-4 on scikit-learn digits"
    assert run.classes == tuple("0123456789")
    assert info["experiment"] == json.loads(json.dumps(EXPERIMENT.to_dict()))
    assert info["data"]["counts"] == {"train": 1149, "validation": 288, "test": 360}
    for split, fingerprint in info["data"]["fingerprints"].items():
        assert fingerprint == digits(split).fingerprint
        assert info["accuracy"][split] == run.features(split).accuracy
    classifier = run.classifier()
    assert info["parameters"] == sum(p.numel() for p in classifier.parameters())
    assert info["num_features"] == run.features("test").features.shape[1]
    assert [epoch["epoch"] for epoch in info["training"]["history"]] == [1, 2]
    assert info["environment"]["torch"] == version("torch")
    assert run.ood_sets == {"photo_patches": load_dataset("photo_patches").description}
    assert list(info["attack_accuracy"]) == [
        *("fgsm-8", "fgsm-32", "bim-8", "bim-32"),
        *("adaptive-0", "adaptive-2.5"),
    ]


def test_the_stored_classifier_gives_the_stored_features(run):
    for split in ("train", "validation", "test"):
        images = digits(split)
        stored = run.features(split)
        again = extract_features(run.classifier(), images.images, device="cpu")
        np.testing.assert_allclose(again.logits, stored.logits, rtol=0, atol=1e-5)
        # Features are stored in float16, whose spacing below 1 is 2⁻¹¹ at most.
        np.testing.assert_allclose(again.features, stored.features, rtol=2**-10, atol=1e-5)
        np.testing.assert_array_equal(stored.labels, images.labels)


def test_the_classifier_standardises_by_the_training_images(run):
    classifier = run.classifier()
    assert not classifier.training
    pixels = digits("train").images / 255
    np.testing.assert_allclose(classifier.mean.ravel(), pixels.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(classifier.std.ravel(), pixels.std(axis=(0, 2, 3)), rtol=1e-5)


def test_the_attacks_are_those_of_the_named_rows(run):
    test = digits()[run.attacked]
    assert len(run.attacked) == 12
    assert (np.diff(run.attacked) > 0).all()
    for name, attack in {"fgsm": fgsm, "bim": bim}.items():
        for level in run.eps_levels:
            stored = run.attack(name, level / 255)
            adversarial = attack(run.classifier(), test.images, test.labels, level / 255)
            again = extract_features(run.classifier(), adversarial, device="cpu")
            np.testing.assert_allclose(again.logits, stored.logits, rtol=0, atol=1e-4)
            np.testing.assert_array_equal(stored.labels, test.labels)
            assert run.info["attack_accuracy"][f"{name}-{level}"] == stored.accuracy


def test_a_radius_of_a_tenth_is_the_level_25_5(root):
    """Fig. 1's FGSM: 0.1 is no whole number of 255ths."""
    run = make(root, replace(EXPERIMENT, eps_levels=(8, 25.5), attacks=("fgsm",)))
    assert run.eps_levels == [8, 25.5] and run.eps_level(0.1) == 25.5
    test = digits()[run.attacked]
    adversarial = fgsm(run.classifier(), test.images, test.labels, 0.1)
    again = extract_features(run.classifier(), adversarial, device="cpu")
    np.testing.assert_allclose(again.logits, run.attack("fgsm", 0.1).logits, rtol=0, atol=1e-4)
    assert run.info["attack_accuracy"]["fgsm-25.5"] == run.attack("fgsm", 0.1).accuracy
    with pytest.raises(ValueError, match=r"no attack with eps = 25/255; it has 8/255, 25\.5/255"):
        run.attack("fgsm", 25 / 255)


def test_out_of_distribution_images_have_no_labels(run):
    images = load_dataset("photo_patches").subset(15, seed=0).images
    stored = run.ood("photo_patches")
    again = extract_features(run.classifier(), images, device="cpu")
    np.testing.assert_allclose(again.logits, stored.logits, rtol=0, atol=1e-5)
    assert stored.labels is None
    with pytest.raises(ValueError, match="has no labels of photo_patches"):
        run.ood_labels("photo_patches")


def test_a_density_is_the_runs_own_or_fitted_now(run):
    rows = run.features("train").features
    test = run.features("test").features
    for n_components, seed in [(2, None), (2, 0), (3, None), (2, 1)]:
        expected = DiagonalGMM(n_components, random_state=seed or 0, device="cpu").fit(rows)
        density = run.density(n_components, seed=seed)
        np.testing.assert_allclose(density.score_samples(test), expected.score_samples(test))
    assert contents(run.path.parents[2]).keys() == STAGES | RECORDS, "nothing is written"


def test_a_runs_own_mixture_and_all_others_stop_at_the_same_iteration(run):
    train = run.features("train")
    fitted = [run.density(2), run.density(2, seed=1), usual_mixture(train), ZhengHong()]
    assert {each.max_iter for each in [*fitted, DiagonalGMM()]} == {300}


def test_deep_densities_are_fitted_with_the_experiments_arguments(run):
    arguments = EXPERIMENT.deep_densities["vae"]
    fresh = FeatureVAE(**arguments, random_state=0, device="cpu")
    fresh.fit(run.features("train").features)
    test = run.features("test").features
    (vae,) = run.deep_densities().values()
    np.testing.assert_allclose(vae.score_samples(test), fresh.score_samples(test))
    assert list(run.deep_densities()) == ["VAE"]


def test_the_pixel_cnn_scores_the_images_of_the_features(run):
    images = {"test": digits(), "photo_patches": load_dataset("photo_patches").subset(15, seed=0)}
    train = load_dataset("digits", "train").images
    fresh = PixelCNN(**EXPERIMENT.pixel_cnn, random_state=0, device="cpu").fit(train)
    for name, image_set in images.items():
        stored = run.image_log_likelihood(name)
        np.testing.assert_allclose(stored, fresh.score_samples(image_set.images), rtol=1e-5)
        bits = run.bits_per_dim[name]
        expected = fresh.bits_per_dim(image_set.images).mean()
        assert bits["PixelCNN"] == pytest.approx(expected, rel=1e-5)
    assert bits["independent pixels"] == histogram_bits(train, images["photo_patches"].images)
    assert set(run.bits_per_dim) == {"validation", *images}
    assert not (run.path / "pixel_cnn-training.safetensors").exists()


def test_the_pixel_cnn_draws_images_below_those_it_was_trained_on(run):
    sheet = np.asarray(Image.open(run.figure("drawings")))  # (2 rows of images, …)
    train = load_dataset("digits", "train").images
    above, below = np.split(sheet, 2)
    drawn = PixelCNN.load(run.path / "density/pixel_cnn.safetensors")
    drawn = drawn.set_params(random_state=0, device="cpu").sample(12)[0]
    for column in range(12):
        place = slice(None), slice(column * train.shape[3], (column + 1) * train.shape[3])
        assert np.array_equal(above[place], train[column].transpose(1, 2, 0))
        assert np.array_equal(below[place], drawn[column].transpose(1, 2, 0))


def test_a_deep_density_with_another_seed_is_fitted_now(run):
    rows, test = run.features("train").features, run.features("test").features
    other = FeatureVAE(**EXPERIMENT.deep_densities["vae"], random_state=1, device="cpu").fit(rows)
    density = run.deep_density("vae", seed=1)
    np.testing.assert_allclose(density.score_samples(test), other.score_samples(test))
    assert not np.allclose(density.score_samples(test), run.deep_density("vae").score_samples(test))
    with pytest.raises(FileNotFoundError, match="has no density 'maf'; it has: vae"):
        run.deep_density("maf")


@pytest.mark.parametrize("weight", [0, 2.5])
def test_the_adaptive_attack_climbs_the_runs_mixture(run, weight):
    rows = run.attacked[:5]
    images = torch.from_numpy(digits().images[rows]).float() / 255
    labels, classifier = digits().labels[rows], run.classifier()
    options = {"weight": weight, "iterations": 3, "device": "cpu"}
    expected = adaptive_bim(classifier, run.density(2), images, labels, 32 / 255, **options)
    stored = run.adaptive_attack(weight)
    again = extract_features(classifier, expected, device="cpu")
    np.testing.assert_allclose(stored.logits, again.logits, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(stored.labels, labels)
    with pytest.raises(FileNotFoundError, match="has no attacks/adaptive-7"):
        run.adaptive_attack(7)


def without_training_features(root, name=EXPERIMENT.name):
    """Let a run be one that was published without its training features."""
    path = root / name / "run.json"
    info = json.loads(path.read_text())
    del info["files"]["features/train.safetensors"]
    path.write_text(json.dumps(info))
    (root / name / "features/train.safetensors").unlink()
    return load_run(root / name)


@pytest.mark.parametrize(("n_components", "seed"), [(2, None), (2, 1), (3, None)])
def test_the_scorers_are_those_fitted_on_the_runs_features(run, n_components, seed):
    train, validation, test = (run.features(s) for s in ("train", "validation", "test"))
    density = DiagonalGMM(n_components, random_state=seed or 0, device="cpu")
    expected = fit_scorers(train, validation, density)
    scorers = run.scorers(n_components, seed=seed)
    assert list(scorers) == list(expected)
    for name, scorer in scorers.items():
        np.testing.assert_allclose(
            scorer.score_samples(test), expected[name].score_samples(test), rtol=1e-9
        )


def test_without_training_features_a_run_scores_by_what_it_holds(run, root):
    bare, test = without_training_features(root), run.features("test")
    scorers = run.scorers(2)
    del scorers["Nearest neighbors"]
    assert list(bare.scorers(2)) == list(scorers)
    for name, scorer in bare.scorers(2).items():
        np.testing.assert_array_equal(scorer.score_samples(test), scorers[name].score_samples(test))
    for options in ({"n_components": 3}, {"n_components": 2, "seed": 1}):
        with pytest.raises(FileNotFoundError, match="without its training features: it has mixtu"):
            bare.scorers(**options)


def test_siblings_are_the_other_classifiers_of_the_same_images(root):
    own = root / EXPERIMENT.name
    for name in ("digits/wider/seed0", "digits/tiny/seed1", "other/tiny/seed0"):
        shutil.copytree(own, root / name)
    names = [sibling.name for sibling in load_run(root / "digits/wider/seed0").siblings(2)]
    assert names == ["digits/wider/seed0", "digits/tiny/seed0"]
    without_training_features(root)
    assert len(load_run(root / "digits/wider/seed0").siblings(2)) == 2
    assert len(load_run(root / "digits/wider/seed0").siblings(3)) == 1, "tiny can't fit it"


def test_the_figure_is_a_picture(run):
    assert run.figure("examples").read_bytes().startswith(b"\x89PNG")


def test_pictures_are_test_images_from_the_least_likely_to_the_likeliest(run):
    rows, test = run.pictured, run.features("test")
    sheet = np.asarray(Image.open(run.figure("pictures")))
    pictures = np.split(sheet, len(rows), axis=1)  # side by side
    np.testing.assert_array_equal(
        np.stack(pictures).transpose(0, 3, 1, 2), digits("test").images[rows]
    )
    likelihood = run.density(2).score_samples(test.features)
    for group in (test.correct, ~test.correct):
        own = np.intersect1d(rows, np.flatnonzero(group))
        assert len(own) == min(30, group.sum())
        ranks = np.sort(np.searchsorted(np.sort(likelihood[group]), likelihood[own]))
        assert ranks[0] == 0 and ranks[-1] == group.sum() - 1
        assert np.ptp(np.diff(ranks)) <= 1, "evenly spread"


def test_large_images_are_pictured_small(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("left", "right"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{i}.png")
    experiment = Experiment(
        f"imagefolder:{tmp_path / 'images'}",
        "tiny",
        {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
        Recipe(epochs=1, batch_size=8, lr=0.01),
        mixtures=(1,),
        attacks=(),
    )
    run = make(tmp_path / "runs", experiment)
    assert Image.open(run.figure("pictures")).size == (32 * len(run.pictured), 32)


def test_a_run_without_mixtures_has_no_pictures(root):
    run = make(root, replace(EXPERIMENT, mixtures=(), adaptive=None))
    assert run.pictured.tolist() == [] and "figures/pictures.png" not in run.info["files"]


def test_a_run_of_before_has_no_pictures(root):
    record = root / EXPERIMENT.name / "run.json"
    info = json.loads(record.read_text())
    del info["pictured"]
    record.write_text(json.dumps(info))
    assert load_run(root / EXPERIMENT.name).pictured.tolist() == []


def test_what_the_run_has_not_is_said(run):
    for eps in (16 / 255, 8, 0):
        with pytest.raises(ValueError, match=r"no attack with eps = .*; it has 8/255, 32/255"):
            run.attack("fgsm", eps)
    for ask, name in [
        (lambda: run.attack("pgd", 8 / 255), "attacks/pgd-8"),
        (lambda: run.ood("svhn"), "ood/svhn"),
        (lambda: run.features("val"), "features/val"),
        (lambda: run.figure("roc"), "figures/roc"),
    ]:
        with pytest.raises(FileNotFoundError, match=rf"has no {name}\..*; it has: attacks/"):
            ask()


# --- finding a run -------------------------------------------------------------------------------


def test_a_run_is_found_by_path_and_by_name(published, tmp_path, monkeypatch):
    name = EXPERIMENT.name
    assert load_run(published / name).name == load_run(str(published / name)).name == name
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISTAKES_RUNS", str(published))
    assert load_run(name).path == published / name
    monkeypatch.delenv("MISTAKES_RUNS")
    shutil.copytree(published, tmp_path / "runs")
    assert load_run(name).path.resolve() == tmp_path / "runs" / name
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr(mistakes_lib.runs.reading, "PUBLISHED_RUNS", published)
    assert load_run(name).path == published / name


def test_ones_own_run_goes_before_the_published(published, root, monkeypatch):
    monkeypatch.setattr(mistakes_lib.runs.reading, "PUBLISHED_RUNS", published)
    monkeypatch.setenv("MISTAKES_RUNS", str(root))
    assert load_run(EXPERIMENT.name).path == root / EXPERIMENT.name


def test_an_unknown_run_lists_the_known(published, tmp_path, monkeypatch):
    monkeypatch.setattr(mistakes_lib.runs.reading, "PUBLISHED_RUNS", tmp_path / "none")
    monkeypatch.setenv("MISTAKES_RUNS", str(published))
    with pytest.raises(FileNotFoundError, match=r"known runs are digits/tiny/seed0.*mistakes run"):
        load_run("digits/tiny/seed1")
    monkeypatch.setenv("MISTAKES_RUNS", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="no run digits/tiny/seed0: known runs are none"):
        load_run(EXPERIMENT.name)


def test_new_runs_go_where_the_caller_or_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MISTAKES_RUNS", str(tmp_path))
    assert runs_root() == tmp_path
    assert runs_root("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("MISTAKES_RUNS")
    assert runs_root() == Path("runs")


# --- publishing it -------------------------------------------------------------------------------


def test_a_published_run_is_the_run_without_its_workshop(run, tmp_path):
    copy = publish_run(run, tmp_path)
    assert copy.path == tmp_path / run.name and copy.info == run.info
    assert contents(tmp_path).keys() == STAGES | {"run.json"}
    for name in copy.info["files"]:
        assert copy.file(name).read_bytes() == run.file(name).read_bytes()
    with pytest.raises(FileExistsError, match="is there already: remove it first"):
        publish_run(run, tmp_path)


def test_it_may_go_without_training_features(run, tmp_path):
    copy = publish_run(run, tmp_path, training_features=False)
    assert contents(tmp_path).keys() == (STAGES | {"run.json"}) - {"features/train.safetensors"}
    assert not copy.has_training_features
    test = run.features("test")
    for name, scorer in copy.scorers(2).items():
        np.testing.assert_array_equal(
            scorer.score_samples(test), run.scorers(2)[name].score_samples(test)
        )


def test_it_may_go_without_the_pixel_cnn_whose_word_stays(run, tmp_path):
    copy = publish_run(run, tmp_path, pixel_cnn=False)
    assert contents(tmp_path).keys() == (STAGES | {"run.json"}) - {"density/pixel_cnn.safetensors"}
    assert copy.bits_per_dim == run.bits_per_dim
    for name in copy.bits_per_dim:
        ours, theirs = copy.image_log_likelihood(name), run.image_log_likelihood(name)
        np.testing.assert_array_equal(ours, theirs)


def test_it_may_go_without_logits_which_features_and_last_layer_give(run, tmp_path):
    copy = publish_run(run, tmp_path, logits=False)
    head, own = copy.classifier().head, run.features("test")
    for batch, whole in (
        (copy.features("test"), own),
        (copy.attack("fgsm", 8 / 255), run.attack("fgsm", 8 / 255)),
        (copy.ood("photo_patches"), run.ood("photo_patches")),
        (copy.adaptive_attack(0), run.adaptive_attack(0)),
    ):
        np.testing.assert_array_equal(batch.features, whole.features)
        np.testing.assert_array_equal(batch.labels, whole.labels)
        expected = batch.features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        np.testing.assert_allclose(batch.logits, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(batch.logits, whole.logits, rtol=0, atol=0.02)  # float16
    assert copy.info["accuracy"]["test"] == copy.features("test").accuracy
    assert copy.info["attack_accuracy"]["bim-8"] == copy.attack("bim", 8 / 255).accuracy
    assert copy.info["ood"] == run.info["ood"]
    small, large = (each.file("features/test.safetensors").stat().st_size for each in (copy, run))
    assert small < large - 4 * own.logits.size + 1000
    with pytest.raises(ValueError, match="holds a FeatureSet without logits, not a FeatureSet"):
        FeatureSet.load(copy.file("features/test.safetensors"))


def test_a_damaged_run_is_not_published(root, tmp_path):
    (root / EXPERIMENT.name / "features/test.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"features/test\.safetensors .* is damaged"):
        publish_run(load_run(root / EXPERIMENT.name), tmp_path / "book")
    assert not [path for path in (tmp_path / "book").rglob("*") if path.is_file()]


# --- making it again -----------------------------------------------------------------------------


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
            {"ood/photo_patches.safetensors", "pixels/photo_patches.safetensors"},
        ),
        ({"ood": {}}, set()),
        ({"recipe": replace(EXPERIMENT.recipe, lr=0.1)}, STAGES - PIXELS),
        ({"architecture": {**EXPERIMENT.architecture, "growth_rate": 5}}, STAGES - PIXELS),
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
    run = make(root, replace(EXPERIMENT, recipe=recipe, **less))
    fresh = DiagonalGMM(2, random_state=0, device="cpu").fit(run.features("train").features)
    test = run.features("test").features
    np.testing.assert_allclose(run.density(2).score_samples(test), fresh.score_samples(test))
    assert run.ood_sets == {}
    assert list(run.info["attack_accuracy"]) == ["fgsm-16", "bim-16"]
    for ask in (lambda: run.attack("bim", 8 / 255), lambda: run.ood("photo_patches")):
        with pytest.raises((ValueError, FileNotFoundError), match="it has"):
            ask()


def test_another_seed_is_another_run(root, run):
    before = contents(root)
    other = make(root, replace(EXPERIMENT, seed=1))
    assert other.name == "digits/tiny/seed1"
    assert contents(root) == before
    assert not np.array_equal(other.features("test").logits, run.features("test").logits)
    assert not np.array_equal(other.attacked, run.attacked)


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


# --- killed, and two at once ---------------------------------------------------------------------

CHILD = """
import json, os, signal, sys
from pathlib import Path
from mistakes_lib import runs
from mistakes_lib.runs.experiment import Experiment

root, experiment, function, file, moment = sys.argv[1:]
replace = Path.replace

def deadly(self, target):
    if Path(target).name != file:
        return replace(self, target)
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, target)
    os.kill(os.getpid(), signal.SIGKILL)

Path.replace = deadly
experiment = Experiment.from_dict(json.loads(experiment))
getattr(runs, function)(experiment, root=root, device="cpu")
"""


def start(nursery, root, file="", moment="", *, experiment=EXPERIMENT, function="make_run"):
    """Make a run in a child process, killed just before or after it renames a file into place."""
    return nursery.start(CHILD, root, json.dumps(experiment.to_dict()), function, file, moment)


def seconds_of(child):
    """How long a child takes that nobody kills."""
    started = time.monotonic()
    assert child.wait() == 0, child.stderr
    return time.monotonic() - started


def kill_after(child, seconds):
    """Kill a child; return its exit code, which is 0 if it was done before."""
    time.sleep(seconds)
    child.kill()
    return child.wait()


def temporaries(root):
    return [name for name in contents(root) if Path(name).name.startswith(".")]


@pytest.mark.slow
def test_killed_at_any_write_and_resumed_it_is_the_same_run(nursery, published, tmp_path):
    """Each process starts where the one before was killed: inside a write, or just after it."""
    moments = [
        ("training.safetensors", "before"),
        ("training.safetensors", "after"),  # one epoch of two
        ("training.safetensors", "after"),
        ("classifier.safetensors", "before"),
        ("classifier.safetensors", "after"),  # the journal knows nothing of it
        ("stages.json", "after"),  # the checkpoint is still there
        ("train.safetensors", "before"),
        ("test.safetensors", "after"),
        ("fgsm-32.safetensors", "before"),
        ("photo_patches.safetensors", "after"),
        ("gmm-2.safetensors", "before"),
        ("vae-training.safetensors", "after"),  # one epoch of two
        ("vae.safetensors", "before"),
        ("stages.json", "before"),
        ("examples.png", "before"),
        ("run.json", "before"),
    ]
    for file, moment in moments:
        child = start(nursery, tmp_path, file, moment)
        assert child.wait() == -signal.SIGKILL, (file, child.stderr)
    assert temporaries(tmp_path), "a killed writer had no time to clean up"
    with pytest.raises(FileNotFoundError, match="no run"):
        load_run(tmp_path / EXPERIMENT.name)
    make(tmp_path)
    assert_same_run(tmp_path, published)


@pytest.mark.slow
def test_killed_at_fifty_random_moments_and_resumed_it_is_the_same_run(
    nursery, published, tmp_path
):
    """Each within half of the time that a whole run takes; after a finished run, another."""
    roots, kills = [tmp_path / "undisturbed", tmp_path / "1"], 0
    whole = seconds_of(start(nursery, roots[0]))
    rng = np.random.default_rng(0)
    while kills < 50:
        child = start(nursery, roots[-1])
        code = kill_after(child, rng.uniform(0, whole / 2))
        assert code in (0, -signal.SIGKILL), child.stderr
        if code == 0:
            roots.append(tmp_path / str(len(roots)))
        else:
            kills += 1
    for root in roots:
        make(root)
        assert_same_run(root, published)


@pytest.mark.slow
def test_a_training_killed_ten_times_ends_bit_for_bit_the_same(nursery, tmp_path):
    """Temporal Ensembling, whose checkpoint also has the ensemble predictions."""
    recipe = replace(EXPERIMENT.recipe, epochs=20)
    experiment = replace(EXPERIMENT, recipe=recipe, labels_per_class=10)
    options = {"experiment": experiment, "function": "train_run"}
    whole = seconds_of(start(nursery, tmp_path / "undisturbed", **options))
    rng = np.random.default_rng(0)
    for kill in range(10):
        if kill % 2:
            child = start(nursery, tmp_path / "killed", **options)
            code = kill_after(child, rng.uniform(0, whole / 10))
        else:
            moment = ("before", "after")[kill % 4 // 2]
            child = start(nursery, tmp_path / "killed", "training.safetensors", moment, **options)
            code = child.wait()
        assert code == -signal.SIGKILL, child.stderr
    seconds_of(start(nursery, tmp_path / "killed", **options))
    undisturbed, resumed = (
        load_run(tmp_path / root / experiment.name).info for root in ("undisturbed", "killed")
    )
    assert resumed["files"] == undisturbed["files"]


@pytest.mark.slow
def test_a_training_by_several_recipes_is_killed_in_each_and_ends_the_same(nursery, tmp_path):
    """It is the first one's training, then the second one's from its weights, and so on."""
    second = Recipe(epochs=2, lr=0.05, milestones=(), max_shift=1, ema_decay=0.9)
    third = replace(second, epochs=1, lr=0.01)
    experiment = replace(EXPERIMENT, then=[second, third])
    options = {"device": "cpu", "progress": False}
    undisturbed = train_run(experiment, root=tmp_path / "undisturbed", **options)
    history = undisturbed.info["training"]["history"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]
    assert [record["lr"] for record in history[2:]] == [0.05, 0.05, 0.01]

    first = train_run(EXPERIMENT, root=tmp_path / "first", **options)
    data, classifier = load_dataset("digits", "train"), first.classifier().train()
    for seed, recipe in enumerate(experiment.then, start=1):
        train(classifier, data.images, data.labels, recipe, seed=seed, device="cpu")
    expected = undisturbed.classifier().state_dict()
    for name, value in classifier.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)

    moments = [
        ("training.safetensors", "after"),
        ("training-2.safetensors", "before"),
        ("training-2.safetensors", "after"),
        ("training-3.safetensors", "after"),
        ("classifier.safetensors", "before"),
        ("stages.json", "after"),  # all checkpoints are still there
    ]
    train_it = {"experiment": experiment, "function": "train_run"}
    for file, moment in moments:
        child = start(nursery, tmp_path / "runs", file, moment, **train_it)
        assert child.wait() == -signal.SIGKILL, (file, child.stderr)
    resumed = train_run(experiment, root=tmp_path / "runs", **options)
    assert resumed.info["files"] == undisturbed.info["files"]
    assert not list((tmp_path / "runs").rglob("training*.safetensors"))


def test_a_later_recipe_does_not_go_on_from_weights_that_are_gone(tmp_path):
    experiment = replace(EXPERIMENT, then=[EXPERIMENT.recipe])
    options = {"device": "cpu", "progress": False}
    expected = train_run(experiment, root=tmp_path / "undisturbed", **options)
    folder = tmp_path / "runs" / EXPERIMENT.name
    folder.mkdir(parents=True)
    (folder / "training-2.safetensors").write_bytes(b"of another first recipe")
    again = train_run(experiment, root=tmp_path / "runs", **options)
    assert again.info["files"] == expected.info["files"]


@pytest.mark.slow
def test_processes_at_once_share_the_work(nursery, published, tmp_path):
    """They take turns, and what one has computed the other does not compute again."""
    children = [start(nursery, tmp_path) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0], [c.stderr for c in children]
    printed = "".join(child.stdout for child in children)
    for name in STAGES:
        assert printed.count(f"] {name}\n") == 1
    assert printed.count("] done: ") == 3
    assert_same_run(tmp_path, published)


# --- disks ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 50 MB of its own, and how to change its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not mount("size=50m"):
        pytest.skip("mounting a file system takes rights that this user lacks")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def parameters(tmp_path):
    """The experiment as a file for the command."""
    experiment = EXPERIMENT.to_dict()
    own = {name: experiment.pop(name) for name in ("data_set", "classifier", "seed")}
    path = tmp_path / "parameters.yml"
    path.write_text(json.dumps(own | {"experiment": experiment}))  # JSON is YAML
    return path


def command_run(parameters, root):
    arguments = ["run", str(parameters), "--runs", str(root), "--device", "cpu", "--quiet"]
    return CliRunner().invoke(app, arguments)


def assert_one_line(result, *parts):
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr


@pytest.mark.slow
def test_on_a_full_disk_nothing_is_lost(published, parameters, small_disk):
    """It is said, again and again, and with more space the run goes on to the same end."""
    folder, remount = small_disk
    needed = sum(len(data) for data in contents(published).values())
    for share in (0.05, 0.2, 0.4, 0.6, 0.8):  # more and more of it is found on the disk
        assert remount(f"size={int(share * needed)}")
        result = command_run(parameters, folder)
        assert_one_line(result, "No space left on device", "free some space")
        with pytest.raises(FileNotFoundError, match="no run"):
            load_run(folder / EXPERIMENT.name)
        assert not temporaries(folder)
    assert remount("size=50m")
    result = command_run(parameters, folder)
    assert (result.exit_code, result.output) == (0, "")
    assert_same_run(folder, published)


def test_a_folder_that_is_read_only_is_named_and_still_read(published, parameters, small_disk):
    folder, remount = small_disk
    assert remount("ro")
    assert_one_line(command_run(parameters, folder), "Read-only file system", str(folder))
    assert remount("rw")
    shutil.copytree(published, folder, dirs_exist_ok=True)
    assert remount("ro")
    assert load_run(folder / EXPERIMENT.name).features("test").accuracy > 0


# --- leftovers, trainings alone ------------------------------------------------------------------


def test_a_leftover_of_a_killed_writer_is_removed_but_nothing_else(root):
    folder = root / EXPERIMENT.name
    (folder / "features" / ".test.safetensors.ab12_xyz").write_text("half")
    kept = folder / "features" / ".notes"
    kept.write_text("mine")
    make(root)
    assert temporaries(root) == ["features/.notes"]


# --- a training alone, and semi-supervised ones ---------------------------------------------------


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


def test_the_checkpoint_of_another_training_is_left_alone(root):
    checkpoint = root / EXPERIMENT.name / "training.safetensors"
    save_arrays(checkpoint, {"weights.x": np.ones(1)}, {"history": [{"epoch": 1}]})
    make(root)
    assert checkpoint.is_file()
