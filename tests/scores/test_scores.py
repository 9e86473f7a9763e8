"""What holds for every scorer, and that a file gives it back."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.scores import Energy, LogLikelihood, Mahalanobis, MaxLogit, Scorer, ViM, ZhengHong
from mistakes_lib.scores.registry import METHODS
from tests.helpers.batches import blobs, with_mistakes

# The law for all scorers holds for whatever the registry lists.
SCORERS = [method.make(DiagonalGMM(6, random_state=0), num_classes=3) for method in METHODS]
LEARNERS = [
    scorer
    for scorer in SCORERS
    if type(scorer)._fit is not Scorer._fit and not isinstance(scorer, Energy)  # checks T, no more
]
LABEL_LEARNERS = [scorer for scorer in SCORERS if scorer.needs_labels]


def by_name(scorer):
    return type(scorer).__name__


def under_another_head(batch):
    """The same features with the logits of a random linear layer."""
    head = np.random.default_rng(0).normal(size=(batch.features.shape[1], batch.logits.shape[1]))
    return FeatureSet(batch.features, batch.features @ head + 9, batch.labels)


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_every_scorer_gives_float64_scores_row_by_row(scorer):
    train, batch = blobs(), blobs(40, seed=1)
    scorer = clone(scorer).fit(train)
    scores = scorer.score_samples(batch)
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scorer.score_samples(batch[7:9]), scores[7:9], rtol=1e-6)
    unlabelled = FeatureSet(batch.features, batch.logits)
    np.testing.assert_array_equal(scorer.score_samples(unlabelled), scores)


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_the_score_of_every_scorer_is_its_auroc_for_mistakes(scorer):
    batch = with_mistakes(blobs(80, seed=1))
    scorer = clone(scorer).fit(blobs())
    right, wrong = (scorer.score_samples(batch)[rows] for rows in (batch.correct, ~batch.correct))
    pairs = np.sign(right[:, None] - wrong[None, :])  # each right input against each wrong one
    assert scorer.score(batch) == pytest.approx((pairs + 1).mean() / 2)


def test_a_score_needs_labels_and_both_kinds_of_predictions():
    batch = with_mistakes(blobs(80, seed=1))
    with pytest.raises(ValueError, match="needs labels; score_samples scores each input without"):
        MaxLogit().score(FeatureSet(batch.features, batch.logits))
    for rows, kind in ((batch.correct, "right"), (~batch.correct, "wrong")):
        with pytest.raises(ValueError, match=f"predictions are {kind}: their AUROC needs both"):
            MaxLogit().score(batch[rows])


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_every_scorer_trusts_what_is_clearly_right_more(scorer):
    """The shared orientation: a class mean with a sharp logit above a far point with flat ones."""
    train = blobs()
    centre = train.features[train.labels == 0].mean(axis=0)
    sharp, flat = [20.0, 0.0, 0.0], [-20.0, -20.0, -20.0]
    pair = FeatureSet(np.stack([centre, centre + 1e3]), np.array([sharp, flat]))
    near, far = clone(scorer).fit(train).score_samples(pair)
    assert near > far


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_class_agnostic_scorers_ignore_labels_and_logits(scorer):
    train, batch = blobs(), blobs(40, seed=1)
    shuffled = np.random.default_rng(0).permutation(train.labels)
    relabelled = FeatureSet(train.features, under_another_head(train).logits, shuffled)
    same = np.allclose(
        clone(scorer).fit(train).score_samples(batch),
        clone(scorer).fit(relabelled).score_samples(under_another_head(batch)),
        rtol=1e-6,
    )
    assert same == scorer.class_agnostic


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_every_scorer_says_what_it_is(scorer):
    assert scorer.name
    assert scorer.reads in (("features",), ("logits",), ("features", "logits"))
    assert scorer.fits_on in ("train", "validation")
    assert clone(scorer).get_params(deep=False).keys() == scorer.get_params(deep=False).keys()
    assert len({other.name for other in SCORERS}) == len(SCORERS)


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_another_number_of_columns_is_refused(scorer):
    fitted = clone(scorer).fit(blobs(d=5, c=3))
    others = {"features": blobs(9, d=4, c=3), "logits": blobs(9, d=5, c=4)}
    for part in scorer.reads:
        with pytest.raises(ValueError, match=rf"was fitted on \d {part}"):
            fitted.score_samples(others[part])


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
@pytest.mark.parametrize("method", ["fit", "score_samples", "score"])
def test_a_bare_array_is_refused(scorer, method):
    with pytest.raises(TypeError, match="expects a FeatureSet, got ndarray"):
        getattr(clone(scorer), method)(np.zeros((3, 5)))


@pytest.mark.parametrize("scorer", LEARNERS, ids=by_name)
def test_scoring_before_fitting_is_refused(scorer):
    with pytest.raises(NotFittedError, match=r"not fitted yet: call fit\((train|validation)\)"):
        clone(scorer).score_samples(blobs(9))


@pytest.mark.parametrize("scorer", LABEL_LEARNERS, ids=by_name)
def test_missing_labels_are_refused(scorer):
    train = blobs()
    with pytest.raises(ValueError, match=f"needs labels: .*{scorer.fits_on} split"):
        clone(scorer).fit(FeatureSet(train.features, train.logits))


def test_scorer_alone_scores_nothing():
    with pytest.raises(NotImplementedError):
        Scorer().score_samples(blobs(9))


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_a_saved_scorer_scores_bit_for_bit_alike(scorer, tmp_path):
    fitted, batch = clone(scorer).fit(blobs()), blobs(50, seed=1)
    fitted.save(tmp_path / "own")
    loaded = type(scorer).load(tmp_path / "own")
    assert type(loaded) is type(scorer)
    np.testing.assert_array_equal(loaded.score_samples(batch), fitted.score_samples(batch))
    with pytest.raises(ValueError, match="was fitted on"):
        loaded.score_samples(FeatureSet(np.zeros((2, 9)), np.zeros((2, 9))))
    Scorer.load(tmp_path / "own").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "own").read_bytes()


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_a_file_gives_back_the_librarys_class_whatever_others_are_called(scorer, tmp_path):
    fitted, batch = clone(scorer).fit(blobs()), blobs(50, seed=1)
    fitted.save(tmp_path / "scorer")
    namesake = type(
        type(scorer).__name__, (Scorer,), {"_score": lambda self, *parts: parts[0][:, 0]}
    )
    loaded = Scorer.load(tmp_path / "scorer")
    assert type(loaded) is type(scorer) is not namesake
    np.testing.assert_array_equal(loaded.score_samples(batch), fitted.score_samples(batch))


def test_a_scorer_of_ones_own_is_loaded_by_its_name(tmp_path):
    class OfMyOwn(MaxLogit):
        pass

    OfMyOwn().fit(blobs()).save(tmp_path / "scorer")
    assert type(Scorer.load(tmp_path / "scorer")) is OfMyOwn


@pytest.mark.parametrize("scorer", SCORERS, ids=by_name)
def test_only_a_fitted_scorer_is_saved(scorer, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted"):
        clone(scorer).save(tmp_path / "scorer")
    assert not list(tmp_path.iterdir())


def test_parameters_outlive_the_file_but_for_device_and_open_seeds(tmp_path):
    scorer = ZhengHong(np.int64(3), device="cpu", random_state=np.random.RandomState(0))
    scorer.fit(blobs()).save(tmp_path / "scorer")
    loaded = ZhengHong.load(tmp_path / "scorer")
    assert loaded.get_params() == ZhengHong(3).get_params()
    Energy(2.5).fit(blobs()).save(tmp_path / "energy")
    assert Scorer.load(tmp_path / "energy").temperature == 2.5


def test_a_density_of_another_library_is_not_saved(tmp_path):
    scorer = LogLikelihood(GaussianMixture(1)).fit(blobs())
    with pytest.raises(TypeError, match="GaussianMixture cannot be saved: take one of DiagonalGMM"):
        scorer.save(tmp_path / "scorer")


def test_another_kind_of_file_is_refused(tmp_path):
    Mahalanobis().fit(blobs()).save(tmp_path / "scorer")
    with pytest.raises(ValueError, match="holds a Mahalanobis, not a ViM"):
        ViM.load(tmp_path / "scorer")
    DiagonalGMM(2, random_state=0).fit(blobs().features).save(tmp_path / "density")
    with pytest.raises(ValueError, match="holds a DiagonalGMM, not a Scorer or"):
        Scorer.load(tmp_path / "density")
