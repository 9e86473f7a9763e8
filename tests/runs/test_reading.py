"""What a run holds, and how it is found."""

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mistakes_lib.runs.finding
from mistakes_lib.attacks import bim, fgsm
from mistakes_lib.data.corruptions import corrupt
from mistakes_lib.data.named import load_dataset
from mistakes_lib.density import DiagonalGMM, FeatureVAE, PixelCNN
from mistakes_lib.density.pixel_cnn.image_codes import histogram_bits
from mistakes_lib.detector import usual_mixture
from mistakes_lib.evaluation.tables import fit_scorers
from mistakes_lib.features.feature_set import extract_features
from mistakes_lib.runs import load_run
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.scores import ZhengHong
from mistakes_lib.support.locations import runs_root
from mistakes_lib.support.storage import load_arrays, save_arrays, sha256_of
from mistakes_lib.training.recipe import Recipe
from tests.helpers.runs import (
    EXPERIMENT,
    RECORDS,
    STAGES,
    contents,
    digits,
    make,
    without_training_features,
)


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
        *("fgsm-8", "fgsm-32", "bim-8", "bim-32", "kurakin-2"),
        *("adaptive-0", "adaptive-2.5", "adaptive-hinge-0.3", "adaptive-match"),
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


def test_bim_with_its_authors_steps_is_beside_ours(run):
    test, eps = digits()[run.attacked], 2 / 255
    adversarial = bim(run.classifier(), test.images, test.labels, eps, step=1 / 255, iterations=2)
    again = extract_features(run.classifier(), adversarial, device="cpu")
    np.testing.assert_allclose(again.logits, run.attack("kurakin", eps).logits, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"no attack with eps = 8/255; it has 2/255$"):
        run.attack("kurakin", 8 / 255)


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


@pytest.mark.parametrize(("kind", "strength"), [("jpeg", 1), ("contrast", 3), ("rotate", 5)])
def test_corrupted_images_are_the_named_rows_at_the_named_strength(run, kind, strength):
    test = digits()[run.corrupted]
    assert len(run.corrupted) == 3 and set(run.corrupted) <= set(range(360))
    again = extract_features(run.classifier(), corrupt(test.images, kind, strength), device="cpu")
    stored = run.corruption(kind, strength)
    np.testing.assert_allclose(again.logits, stored.logits, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(stored.labels, test.labels)


def test_corruptions_that_a_run_has_not_are_named(run):
    with pytest.raises(ValueError, match=r"strength must be one of .*, got 6"):
        run.corruption("jpeg", 6)
    with pytest.raises(FileNotFoundError, match=r"has no corruptions/snow\.safetensors"):
        run.corruption("snow", 1)


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


def without_pixel_cnn(run, root, **changes):
    """A copy of a run that lacks the PixelCNN, as another classifier beside it."""
    folder = root / "digits" / "other" / "seed3"
    shutil.copytree(run.path, folder)
    info = json.loads((folder / "run.json").read_text()) | {"bits_per_dim": {}} | changes
    info["files"] = {name: sha for name, sha in info["files"].items() if "pixel" not in name}
    (folder / "run.json").write_text(json.dumps(info))
    return load_run(folder)


def test_a_pixel_cnn_serves_all_classifiers_of_the_same_images(run, root):
    other = without_pixel_cnn(run, root)
    assert other.pixel_cnn_run.name == run.name
    assert other.scored_images == run.scored_images == ("validation", "test", "photo_patches")
    for name in run.scored_images:
        ours, theirs = (each.image_log_likelihood(name) for each in (other, run))
        np.testing.assert_array_equal(ours, theirs)


def test_other_strangers_of_the_same_name_have_no_likelihoods(run, root):
    other = without_pixel_cnn(run, root, ood={"photo_patches": "photographs of another camera"})
    assert other.scored_images == ("validation", "test")
    with pytest.raises(FileNotFoundError, match=r"'photo_patches'; it has validation, test$"):
        other.image_log_likelihood("photo_patches")


@pytest.mark.parametrize("change", ["fewer", "own labels"])
def test_other_rows_of_the_same_strangers_have_no_likelihoods(run, root, change):
    other = without_pixel_cnn(run, root)
    file = other.path / "ood/photo_patches.safetensors"
    arrays, metadata = load_arrays(file)
    if change == "fewer":
        arrays = {name: array[:-1] for name, array in arrays.items()}
    else:
        arrays["own_labels"] = np.arange(len(arrays["features"]))
        metadata["classes"] = ["a class"]
    save_arrays(file, arrays, metadata)
    other.info["files"]["ood/photo_patches.safetensors"] = sha256_of(file)
    assert other.scored_images == ("validation", "test")


def test_the_pixel_cnn_of_other_images_serves_nobody(run, root):
    data = json.loads(json.dumps(run.info["data"]))
    data["fingerprints"]["train"] = "0" * 64
    other = without_pixel_cnn(run, root, data=data)
    assert other.pixel_cnn_run is None and other.scored_images == ()
    with pytest.raises(FileNotFoundError, match="'test'; it has none: no run of these images"):
        other.image_log_likelihood("test")


def test_scorers_may_have_the_deep_densities(run):
    usual, deep = run.scorers(2), run.scorers(2, deep=True)
    assert list(deep) == [*usual, "VAE"]
    test = run.features("test")
    expected = run.deep_density("vae").score_samples(test.features)
    np.testing.assert_allclose(deep["VAE"].score_samples(test), expected)


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


def test_a_deep_density_with_other_settings_is_fitted_now(run):
    rows, test = run.features("train").features, run.features("test").features
    arguments = {**EXPERIMENT.deep_densities["vae"], "lr": 0.01}
    other = FeatureVAE(**arguments, random_state=0, device="cpu").fit(rows)
    density = run.deep_density("vae", settings={"lr": 0.01})
    np.testing.assert_allclose(density.score_samples(test), other.score_samples(test))
    own = run.deep_density("vae", settings={}).score_samples(test)
    np.testing.assert_array_equal(own, run.deep_density("vae").score_samples(test))
    with pytest.raises(TypeError, match="rate"):
        run.deep_density("vae", settings={"rate": 0.01})


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
    record = root / "digits/tiny/seed0/run.json"
    info = json.loads(record.read_text())
    info["data"]["fingerprints"]["test"] = "of other images"
    record.write_text(json.dumps(info))
    [alone] = load_run(root / "digits/wider/seed0").siblings(2)
    assert alone.name == "digits/wider/seed0"


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


def test_strange_pictures_are_the_first_of_their_set(run):
    sheet = np.asarray(Image.open(run.figure("strange-photo_patches")))
    edge, width, _ = sheet.shape
    images = sheet.reshape(edge, width // edge, edge, 3).transpose(1, 3, 0, 2)
    count = len(run.ood("photo_patches"))
    whole = load_dataset("photo_patches", "test", size=edge).subset(count)
    assert len(images) == min(12, count)
    np.testing.assert_array_equal(images, whole.images[: len(images)])


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
    monkeypatch.setattr(mistakes_lib.runs.finding, "PUBLISHED_RUNS", published)
    assert load_run(name).path == published / name


def test_ones_own_run_goes_before_the_published(published, root, monkeypatch):
    monkeypatch.setattr(mistakes_lib.runs.finding, "PUBLISHED_RUNS", published)
    monkeypatch.setenv("MISTAKES_RUNS", str(root))
    assert load_run(EXPERIMENT.name).path == root / EXPERIMENT.name


def test_an_unknown_run_lists_the_known(published, tmp_path, monkeypatch):
    monkeypatch.setattr(mistakes_lib.runs.finding, "PUBLISHED_RUNS", tmp_path / "none")
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
