"""Both ways between pytorch-ood and us the numbers are the other side's own, the sign turned."""

import sys

import numpy as np
import pytest
import torch
from pytorch_ood.api import Detector, ModelNotSetException, RequiresFittingException
from pytorch_ood.benchmark.base import Benchmark
from pytorch_ood.detector import (
    KNN,
    ODIN,
    EnergyBased,
    KLMatching,
    MaxSoftmax,
    TemperatureScaling,
    ViM,
)
from pytorch_ood.detector import Mahalanobis as PeerMahalanobis
from pytorch_ood.metrics import OODMetrics
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

import mistakes_lib as ours
from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.detector import Detector as OwnDetector
from mistakes_lib.detector import fit_detector
from mistakes_lib.evaluation.detection import detection_report
from mistakes_lib.features.feature_set import FeatureSet, extract_features
from mistakes_lib.scores.pytorch_ood import PytorchOODScorer, as_pytorch_ood

D, C = 6, 3


def network():
    """A classifier of 2 × 2 images whose features are D mixed pixels."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, D), nn.Tanh(), nn.Dropout(0.5))
    return FeatureClassifier(body, nn.Linear(D, C))


def images(n, seed, shift=0.0):
    """Pixels of three kinds, as many as there are classes, and these."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(C, size=n)
    pixels = rng.uniform(size=(n, 3, 2, 2)) * 0.25 + shift
    pixels[np.arange(n), labels] += 0.25
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)


NETWORK = network()
TRAIN_IMAGES, TEST_IMAGES, FAR_IMAGES = images(300, 0), images(120, 1), images(80, 2, shift=0.5)
TRAIN, TEST, FAR = (
    extract_features(NETWORK, pixels, labels=labels, device="cpu")
    for pixels, labels in (TRAIN_IMAGES, TEST_IMAGES, FAR_IMAGES)
)
HEAD = {"w": NETWORK.head.weight, "b": NETWORK.head.bias}


# --- theirs as ours ------------------------------------------------------------------------------

FEATURE_DETECTORS = {
    "mahalanobis": lambda: PeerMahalanobis(None),
    "knn": lambda: KNN(None, k=5),
    "vim": lambda: ViM(None, d=3, **HEAD),
}
LOGIT_DETECTORS = {
    "energy": lambda: EnergyBased(None, t=2.0),
    "softmax": lambda: MaxSoftmax(None),
    "kl": lambda: KLMatching(None),
    "temperature": lambda: TemperatureScaling(None),
}


@pytest.mark.parametrize("make", FEATURE_DETECTORS.values(), ids=FEATURE_DETECTORS)
def test_a_detector_of_features_says_what_it_says_in_pytorch_ood(make):
    peer = make().fit_features(torch.tensor(TRAIN.features), torch.tensor(TRAIN.labels))
    scores = PytorchOODScorer(make()).fit(TRAIN).score_samples(TEST)
    assert scores.dtype == np.float64 and scores.shape == (len(TEST),)
    np.testing.assert_array_equal(scores, -peer.predict_features(torch.tensor(TEST.features)))


@pytest.mark.parametrize("make", LOGIT_DETECTORS.values(), ids=LOGIT_DETECTORS)
def test_a_detector_of_logits_says_what_it_says_in_pytorch_ood(make):
    peer = make().fit_logits(torch.tensor(TRAIN.logits), torch.tensor(TRAIN.labels))
    scores = PytorchOODScorer(make()).fit(TRAIN).score_samples(TEST)
    expected = -peer.predict_logits(torch.tensor(TEST.logits)).detach().numpy()
    np.testing.assert_array_equal(scores, expected.astype(np.float64))


def test_theirs_agree_with_our_own():
    pairs = [
        (PeerMahalanobis(None), ours.Mahalanobis(), 2 * len(TRAIN)),
        (KNN(None, k=5), ours.NearestNeighbors(5), 1),
        (ViM(None, d=3, **HEAD), ours.ViM(3), 1),
        (EnergyBased(None), ours.Energy(), 1),
    ]
    for peer, own, factor in pairs:
        theirs = PytorchOODScorer(peer).fit(TRAIN).score_samples(TEST) * factor
        np.testing.assert_allclose(theirs, own.fit(TRAIN).score_samples(TEST), rtol=2e-3, atol=2e-3)


def test_it_is_a_scorer_like_any_other():
    peer = KNN(None, k=5)
    scorer = PytorchOODScorer(peer)
    assert (scorer.reads, scorer.needs_labels) == (("features",), True)
    assert scorer.name == "KNN (pytorch-ood)"
    scores = scorer.fit(TRAIN).score_samples(TEST)
    assert not peer._is_fitted, "fit learns on a copy"
    with pytest.raises(NotFittedError, match=r"call fit\(train\) first"):
        clone(scorer).score_samples(TEST)
    np.testing.assert_array_equal(clone(scorer).fit(TRAIN).score_samples(TEST), scores)
    detector = fit_detector(TRAIN, TEST, scorer=clone(scorer))
    assert detector.flag(FAR).mean() > 0.8 > 0.2 > detector.flag(TEST).mean()
    assert PytorchOODScorer(TemperatureScaling(None), fits_on="validation").reads == ("logits",)


def test_what_it_cannot_do_is_said(tmp_path):
    with pytest.raises(TypeError, match="ODIN has neither predict_features nor predict_logits"):
        PytorchOODScorer(ODIN(NETWORK)).fit(TRAIN)
    with pytest.raises(ValueError, match="needs labels"):
        PytorchOODScorer(KNN(None)).fit(FeatureSet(TRAIN.features, TRAIN.logits))
    fitted = PytorchOODScorer(KNN(None, k=5)).fit(TRAIN)
    with pytest.raises(TypeError, match="cannot be saved"):
        OwnDetector(fitted, 0.0, "by hand").save(tmp_path / "detector")
    with pytest.raises(ValueError, match="fitted on 6 features"):
        fitted.score_samples(FeatureSet(TEST.features[:, :2], TEST.logits))


# --- ours as theirs ------------------------------------------------------------------------------


class Small(Benchmark):
    """Test images against far ones, labelled −1."""

    ood_names = ("far",)

    def train_set(self):
        return TensorDataset(*TRAIN_IMAGES)

    def test_sets(self, known=True, unknown=True):
        far = TensorDataset(FAR_IMAGES[0], torch.full_like(FAR_IMAGES[1], -1))
        return [ConcatDataset([TensorDataset(*TEST_IMAGES), far])]


SCORERS = [ours.LogLikelihood(ours.DiagonalGMM(2, random_state=0)), ours.Mahalanobis(),
           ours.NearestNeighbors(5), ours.ViM(3), ours.Energy()]  # fmt: skip


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: type(scorer).__name__)
def test_a_benchmark_of_pytorch_ood_finds_what_our_report_finds(scorer):
    benchmark = Small()
    detector = as_pytorch_ood(clone(scorer), NETWORK)
    assert isinstance(detector, Detector)
    detector.fit(DataLoader(benchmark.train_set(), batch_size=50))
    (found,) = benchmark.evaluate([detector], loader_kwargs={"batch_size": 64})
    own = clone(scorer).fit(TRAIN)
    report = detection_report(own.score_samples(TEST), own.score_samples(FAR), random_state=0)
    assert found["Detector"] == type(scorer).__name__
    assert found["AUROC"] == pytest.approx(report.auroc, abs=1e-6)
    assert found["FPR95TPR"] == pytest.approx(report.fpr95, abs=1e-6)
    scores = detector.predict(FAR_IMAGES[0])
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, -own.score_samples(FAR), rtol=1e-4, atol=1e-4)


def test_ours_and_theirs_get_the_same_metrics():
    features = {name: torch.tensor(part.features) for name, part in (("in", TEST), ("out", FAR))}
    found = []
    for detector in (as_pytorch_ood(ours.NearestNeighbors(5)), KNN(None, k=5)):
        detector.fit_features(torch.tensor(TRAIN.features), torch.tensor(TRAIN.labels))
        metrics = OODMetrics()
        metrics.update(detector.predict_features(features["in"]), torch.tensor(TEST.labels))
        metrics.update(detector.predict_features(features["out"]), torch.full((len(FAR),), -1))
        found.append(metrics.compute())
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0]["AUROC"] > 0.9, "far images have the higher outlier scores"


def test_outliers_among_the_training_rows_are_left_out():
    x = torch.tensor(np.concatenate([TRAIN.features, 100 + FAR.features]))
    y = torch.tensor(np.concatenate([TRAIN.labels, np.full(len(FAR), -1)]))
    mixed = as_pytorch_ood(ours.Mahalanobis()).fit_features(x, y)
    scores = mixed.predict_features(torch.tensor(TEST.features))
    np.testing.assert_array_equal(scores, -ours.Mahalanobis().fit(TRAIN).score_samples(TEST))


def test_the_network_is_in_eval_mode():
    NETWORK.train()
    detector = as_pytorch_ood(ours.Mahalanobis().fit(TRAIN), NETWORK)
    first = detector(TEST_IMAGES[0])
    np.testing.assert_array_equal(first, detector(TEST_IMAGES[0]))


def test_what_is_missing_is_said_in_the_words_of_each_side(monkeypatch):
    with pytest.raises(ValueError, match="Energy reads logits: pass the classifier"):
        as_pytorch_ood(ours.Energy())
    detector = as_pytorch_ood(ours.Mahalanobis())
    with pytest.raises(RequiresFittingException):
        detector.predict_features(torch.tensor(TEST.features))
    with pytest.raises(ModelNotSetException):
        detector(TEST_IMAGES[0])
    monkeypatch.setitem(sys.modules, "pytorch_ood", None)
    with pytest.raises(ImportError, match=r"pip install 'pytorch-ood>=0\.4'"):
        as_pytorch_ood(ours.Mahalanobis())
