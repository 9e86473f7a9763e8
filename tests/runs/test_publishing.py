"""A published run is the run without its workshop."""

import numpy as np
import pytest

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.runs import load_run, publish_run
from mistakes_lib.runs.files import nearest_mixture
from tests.helpers.runs import EXPERIMENT, STAGES, contents


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


def test_it_may_go_without_its_network_but_for_the_last_layer(run, tmp_path):
    copy = publish_run(run, tmp_path, classifier=False, logits=False)
    expected = (STAGES | {"run.json", "head.safetensors"}) - {"classifier.safetensors"}
    assert contents(tmp_path).keys() == expected
    head = run.classifier().head
    for name in ("weight", "bias"):
        ours, theirs = (getattr(each, name).detach().numpy() for each in (copy.head, head))
        np.testing.assert_array_equal(ours, theirs)
    test, own = copy.features("test"), run.features("test")
    np.testing.assert_allclose(test.logits, own.logits, rtol=0, atol=0.02)  # float16
    with pytest.raises(FileNotFoundError, match="was published without its network"):
        copy.classifier()


def test_its_densities_and_detectors_may_be_copied_in_single_precision(run, tmp_path):
    copy = publish_run(run, tmp_path, full_precision=False, training_features=False)
    test = run.features("test")
    mixture, own = copy.density(2), run.density(2)
    assert mixture.means_.dtype == mixture.covariances_.dtype == np.float64
    np.testing.assert_array_equal(mixture.means_, own.means_.astype(np.float32))
    np.testing.assert_array_equal(mixture.weights_, own.weights_)
    for name, scorer in copy.scorers(2).items():
        expected = run.scorers(2)[name].score_samples(test)
        np.testing.assert_allclose(
            scorer.score_samples(test), expected, rtol=1e-3, atol=1e-3 * np.std(expected)
        )
    small, large = (each.file("density/gmm-2.safetensors").stat().st_size for each in (copy, run))
    assert small < large


def test_a_damaged_run_is_not_published(root, tmp_path):
    (root / EXPERIMENT.name / "features/test.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"features/test\.safetensors .* is damaged"):
        publish_run(load_run(root / EXPERIMENT.name), tmp_path / "book")
    assert not [path for path in (tmp_path / "book").rglob("*") if path.is_file()]


def test_a_published_run_may_be_published_again(run, tmp_path):
    slim = {"classifier": False, "logits": False, "full_precision": False}
    once = publish_run(run, tmp_path / "once", **slim)
    twice = publish_run(once, tmp_path / "twice", **slim)
    assert twice.info == once.info
    for name in once.info["files"]:
        assert twice.file(name).read_bytes() == once.file(name).read_bytes()


def test_further_fits_may_come_with_it(run, tmp_path):
    slim = {"training_features": False, "full_precision": False}
    copy = publish_run(run, tmp_path, refits=2, **slim)
    assert (run.fitted_seeds(2), copy.fitted_seeds(2), copy.fitted_seeds(3)) == ([0], [0, 1, 2], [])
    for seed in (1, 2):
        expected = run.density(2, seed=seed)  # fitted now
        np.testing.assert_allclose(copy.density(2, seed=seed).means_, expected.means_, rtol=1e-6)
    assert not np.allclose(copy.density(2, seed=1).means_, copy.density(2, seed=2).means_)
    again = publish_run(copy, tmp_path / "again")
    assert again.info["files"] == copy.info["files"]
    with pytest.raises(FileNotFoundError, match=r"seeds 0, 1, 2, and no other"):
        copy.density(2, seed=3)
    with pytest.raises(ValueError, match="no training features, so no mixture can be refitted"):
        publish_run(copy, tmp_path / "third", refits=1)


def test_the_nearest_of_a_runs_mixtures_stands_for_another(run):
    assert run.experiment.mixtures == (2,) and run.nearest_mixture(1000) == 2
    sizes = (1, 10, 50, 100, 200, 1000)
    assert [nearest_mixture(sizes, k) for k in (0, 40, 400, 900)] == [1, 50, 200, 1000]
    assert nearest_mixture(sizes) == 100  # the paper's, for mistakes
