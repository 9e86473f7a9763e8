"""A run's evidence: every topic that a rule names, equal to the library's own functions."""

import json
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mistakes_lib import DiagonalGMM, FeatureSet, LogLikelihood, fit_scorers, mann_whitney
from mistakes_lib.book.claims import UNTESTABLE, judge, load_claims
from mistakes_lib.book.evidence import run_evidence, stored_evidence, write_evidence
from mistakes_lib.support.locations import BOOK


class SmallRun:
    """A run of made-up features: three classes, attacks that move towards another, strangers."""

    name, title, family = "toy/net/seed0", "Net on toys", "densenet_bc"
    eps_levels, ood_sets = (1, 8), {"gaussian_noise": "noise", "fashion_mnist": "clothes"}

    def __init__(self, path):
        self.path = path
        (path / "run.json").write_text("{}")
        rng = np.random.default_rng(0)
        self.centres = rng.normal(scale=2, size=(3, 4))
        self.head = torch.nn.Linear(4, 3).double()
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(self.centres))
            self.head.bias.copy_(torch.tensor(-(self.centres**2).sum(axis=1) / 2))
        self.splits = {n: self.draw(rng, k) for n, k in (("train", 500), ("validation", 250))}
        self.splits["test"] = self.draw(rng, 400)
        self.attacked = np.arange(150)
        self.strange = {n: self.batch(rng.normal(6, 1, (80, 4)), None) for n in self.ood_sets}
        self.pixels = {n: rng.normal(size=400) for n in ("test", *self.ood_sets)}
        attacks = ("fgsm", "bim")
        self.experiment = SimpleNamespace(mixtures=(2, 5), attacks=attacks, seed=0)
        self.scored_images, self.bits_per_dim = tuple(self.pixels), {"test": {}}
        self.info = {"accuracy": {"train": 0.9}}

    def batch(self, features, labels):
        logits = self.head(torch.tensor(features)).detach().numpy()
        return FeatureSet(features, logits, labels)

    def draw(self, rng, n):
        labels = rng.integers(3, size=n)
        return self.batch(self.centres[labels] + 1.4 * rng.normal(size=(n, 4)), labels)

    def features(self, split):
        return self.splits[split]

    def attack(self, name, eps):
        clean = self.features("test")[self.attacked]
        toward = self.centres[(clean.labels + 1) % 3] - clean.features
        return self.batch(clean.features + min(1, 10 * eps) * toward, clean.labels)

    def ood(self, name):
        return self.strange[name]

    def image_log_likelihood(self, name):
        return self.pixels[name]

    @cached_property
    def mixtures(self):
        train = self.features("train").features
        return {k: DiagonalGMM(k, random_state=0, device="cpu").fit(train) for k in (2, 5)}

    def density(self, n_components):
        return self.mixtures[n_components]

    def scorers(self, n_components, *, deep):
        splits = self.features("train"), self.features("validation")
        others = {"VAE": self.mixtures[5], "MAF": self.mixtures[2]} if deep else {}
        scorers = fit_scorers(*splits, self.density(n_components))
        return scorers | {name: LogLikelihood(other) for name, other in others.items()}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run = SmallRun(folder)
    path = write_evidence(run, folder / "evidence", resamples=20)
    return run, path


def test_no_claim_lacks_evidence_where_a_run_has_everything(stored):
    run, path = stored
    topics = stored_evidence(path.parent)[run.name]
    for judgement in judge(load_claims(BOOK / "claims.yml"), topics):
        assert judgement.verdict != UNTESTABLE, judgement.claim.id
        assert judgement.ours


def test_topics_are_the_librarys_numbers(stored):
    run, path = stored
    topics = stored_evidence(path.parent)[run.name]
    test, mixture = run.features("test"), run.density(2)
    scores = mixture.score_samples(test.features)
    result = mann_whitney(scores[test.correct], scores[~test.correct])
    assert topics["u_test"]["auroc"] == pytest.approx(result.auroc, abs=1e-4)
    assert topics["u_test"]["log10_p"] == pytest.approx(result.log10_p, rel=1e-3)
    maf = topics["mistakes"]["maf"]
    assert maf["difference"] == 0 and maf["verdict"] == "on par", "it is the same mixture"
    attacks = topics["adversarial"]
    assert attacks["settings"] == 4
    assert sum(attacks["mahalanobis"].values()) == 4
    assert topics["weakest"]["comparisons"] == 8
    assert attacks["lowest"]["auroc"] <= attacks["highest"]["auroc"]
    detector = topics["one_detector"]
    assert set(detector) == {"ours", "calibrated", "both"}
    assert detector["ours"]["strange"]["share"] > 0.9
    assert detector["ours"]["false_alarms"] < 0.15
    assert topics["pixelcnn_ood"]["tested"] == 1
    assert topics["run"]["family"] == "densenet_bc"


def test_evidence_is_computed_once_for_each_run(stored, monkeypatch):
    run, path = stored
    monkeypatch.setattr("mistakes_lib.book.evidence.run_evidence", None)
    assert write_evidence(run, path.parent) == path
    (run.path / "run.json").write_text('{"another": 1}')
    with pytest.raises(TypeError):
        write_evidence(run, path.parent)
    (run.path / "run.json").write_text("{}")


def test_a_run_without_attacks_strangers_and_pixel_cnn_has_less_evidence(tmp_path):
    run = SmallRun(tmp_path)
    run.experiment.attacks, run.ood_sets, run.scored_images = (), {}, ()
    topics = run_evidence(run, resamples=5)
    assert not {"adversarial", "ood", "u_test_pixelcnn"} & set(topics)
    json.dumps(topics["purification"])


def test_the_pixel_cnn_of_another_run_is_evidence_of_mistakes_but_not_again_of_strangers(tmp_path):
    """Which images a classifier mistakes is its own; no classifier takes part in the second."""
    run = SmallRun(tmp_path)
    run.bits_per_dim = {}
    topics = run_evidence(run, resamples=5)
    assert "u_test_pixelcnn" in topics and "PixelCNN" in topics["mistakes"]
    assert "pixelcnn_ood" not in topics
