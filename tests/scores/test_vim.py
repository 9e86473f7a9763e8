"""ViM against pytorch-ood and its paper."""

import numpy as np
import pytest
import torch
from pytorch_ood.detector import ViM as PeerViM
from scipy.special import logsumexp, softmax

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import ViM
from mistakes_lib.scores.vim import _usual_dim


def linear_head(d=12, c=4, seed=0):
    """A head, and a training and another FeatureSet of features with a few broad directions."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(c, d)).astype(np.float32), rng.normal(size=c).astype(np.float32)
    mixing = rng.normal(size=(d, d)) * np.geomspace(3, 0.1, d)[:, None]

    def draw(n):
        features = (rng.normal(size=(n, d)) @ mixing).astype(np.float32)
        return FeatureSet(features, features @ weight.T + bias, rng.integers(c, size=n))

    return weight, bias, draw(500), draw(80)


@pytest.mark.parametrize("dim", [0, 3, 6, 11])
def test_vim_equals_pytorch_ood(dim):
    weight, bias, train, batch = linear_head()
    peer = PeerViM(None, d=dim, w=torch.tensor(weight), b=torch.tensor(bias))
    peer.fit_features(torch.tensor(train.features), torch.tensor(train.labels))
    expected = -peer.predict_features(torch.tensor(batch.features)).numpy()  # float32 throughout
    scorer = ViM(dim).fit(train)
    np.testing.assert_allclose(scorer.alpha_, peer.alpha, rtol=1e-3)
    np.testing.assert_allclose(scorer.score_samples(batch), expected, rtol=1e-3, atol=1e-2)


def test_vim_finds_the_head_in_features_and_logits():
    weight, bias, train, _ = linear_head()
    np.testing.assert_allclose(weight @ ViM().fit(train).origin_ + bias, 0, atol=1e-4)


def test_vim_adds_a_virtual_class_to_the_softmax():
    """The paper scores by the probability of the virtual class; ours is the same ranking."""
    _, _, train, batch = linear_head()
    scorer = ViM().fit(train)
    energy = logsumexp(batch.logits.astype(np.float64), axis=1)
    virtual_logit = energy - scorer.score_samples(batch)
    assert (virtual_logit >= 0).all()
    logits = np.column_stack([virtual_logit, batch.logits])
    probability = softmax(logits, axis=1)[:, 0]
    np.testing.assert_array_equal(np.argsort(-probability), np.argsort(scorer.score_samples(batch)))
    fitted = logsumexp(train.logits.astype(np.float64), axis=1) - scorer.score_samples(train)
    assert fitted.mean() == pytest.approx(train.logits.max(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize(("d", "dim"), [(4096, 1000), (2048, 1000), (768, 512), (342, 171), (1, 0)])
def test_vim_takes_the_papers_dimension(d, dim):
    assert _usual_dim(d) == dim


def test_vim_is_safe_for_dead_features():
    """Features that are always 0 change nothing, wherever they stand and whatever their weights."""
    _, _, train, batch = linear_head()

    def with_dead(batch):
        features = np.insert(batch.features, [0, 5, 5, 12], 0, axis=1)
        return FeatureSet(features, batch.logits, batch.labels)

    scores = ViM(6).fit(with_dead(train)).score_samples(with_dead(batch))
    np.testing.assert_allclose(scores, ViM(6).fit(train).score_samples(batch), rtol=1e-4, atol=1e-4)


def test_vim_refuses_what_it_cannot_use():
    _, _, train, _ = linear_head()
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no affine function of the features"):
        ViM().fit(FeatureSet(train.features, rng.normal(size=train.logits.shape)))
    with pytest.raises(ValueError, match="mean highest logit, which must be above 0"):
        ViM().fit(FeatureSet(train.features, train.logits - 1000))
    with pytest.raises(ValueError, match=r"dim == 12, must be <= 11"):
        ViM(12).fit(train)
    flat = np.repeat(train.features[:, :1], 5, axis=1)
    with pytest.raises(ValueError, match="leave no residual"):
        ViM(2).fit(FeatureSet(flat, flat[:, :3] + 9))
