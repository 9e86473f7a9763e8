"""DiagonalGMM against scikit-learn, SciPy and closed forms."""

import math
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import DataLoader, TensorDataset

from mistakes_lib.density import DiagonalGMM
from mistakes_lib.support.storage import save_arrays


@parametrize_with_checks([DiagonalGMM(3, max_iter=200, device="cpu")])
def test_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


def overlapping(n=600, d=4, k=5, seed=0):
    """Rows whose clusters overlap, so that EM has work to do."""
    return make_blobs(n, d, centers=k, cluster_std=2.5, random_state=seed)[0]


def start(rows, k, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "weights_init": rng.dirichlet(np.full(k, 5.0)),
        "means_init": rows[rng.choice(len(rows), k, replace=False)],
        "precisions_init": rng.uniform(0.1, 2.0, (k, rows.shape[1])),
    }


def fit_both(rows, k, **options):
    options |= start(rows, k)
    ours = DiagonalGMM(k, device="cpu", **options)
    reference = GaussianMixture(k, covariance_type="diag", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ours.fit(rows), reference.fit(rows)


def assert_same_mixture(ours, reference, rtol=1e-7):
    assert ours.n_iter_ == reference.n_iter_
    assert ours.converged_ == reference.converged_
    np.testing.assert_allclose(ours.weights_, reference.weights_, rtol=rtol)
    np.testing.assert_allclose(ours.means_, reference.means_, rtol=rtol, atol=rtol)
    # The variance of a component with one row is reg_covar, plus what scikit-learn loses by
    # subtracting squares that are not centred.
    np.testing.assert_allclose(ours.covariances_, reference.covariances_, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(ours.precisions_, reference.precisions_, rtol=10 * rtol)
    assert ours.lower_bound_ == pytest.approx(reference.lower_bound_, rel=rtol)


@settings(deadline=None, max_examples=15)
@given(
    k=st.integers(1, 6),
    d=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    max_iter=st.sampled_from([1, 3, 100]),
)
def test_same_start_gives_scikit_learns_mixture(k, d, seed, max_iter):
    rows = overlapping(150, d, 3, seed)
    assert_same_mixture(*fit_both(rows, k, max_iter=max_iter))


def test_every_answer_equals_scikit_learns():
    rows = overlapping()
    ours, reference = fit_both(rows, 4)
    others = overlapping(50, seed=1)
    np.testing.assert_allclose(ours.score_samples(others), reference.score_samples(others))
    np.testing.assert_array_equal(ours.predict(others), reference.predict(others))
    np.testing.assert_allclose(
        ours.predict_proba(others), reference.predict_proba(others), rtol=1e-6, atol=1e-12
    )
    for name in ("score", "aic", "bic"):
        expected = getattr(reference, name)(others)
        assert getattr(ours, name)(others) == pytest.approx(expected)


def test_one_component_is_the_closed_form():
    rows = overlapping()
    gmm = DiagonalGMM(1, reg_covar=0, device="cpu").fit(rows)
    closed = multivariate_normal(rows.mean(axis=0), np.diag(rows.var(axis=0)))
    np.testing.assert_allclose(gmm.score_samples(rows), closed.logpdf(rows))
    np.testing.assert_allclose(gmm.bits_per_dim(rows), -closed.logpdf(rows) / (4 * math.log(2)))


def test_likelihood_never_falls():
    bounds = DiagonalGMM(8, tol=0, max_iter=60, random_state=0, device="cpu")
    with pytest.warns(ConvergenceWarning, match=r"raise max_iter|Raise max_iter"):
        bounds.fit(overlapping())
    assert np.diff(bounds.lower_bounds_).min() > -1e-10


def test_block_size_does_not_matter():
    rows = overlapping()
    options = {"random_state": 0, "device": "cpu"}
    whole, blocks = (DiagonalGMM(5, batch_size=b, **options).fit(rows) for b in (10_000, 37))
    assert whole.n_iter_ == blocks.n_iter_
    np.testing.assert_allclose(whole.means_, blocks.means_)
    np.testing.assert_allclose(whole.score_samples(rows), blocks.score_samples(rows))


@pytest.mark.parametrize("init_params", ["k-means++", "kmeans", "random_from_data"])
def test_each_start_finds_clear_clusters(init_params):
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    rows = make_blobs(300, centers=centres, random_state=0)[0]
    gmm = DiagonalGMM(3, init_params=init_params, n_init=8, random_state=0, device="cpu").fit(rows)
    found = gmm.means_[np.argsort(gmm.means_ @ [1, 2])]
    np.testing.assert_allclose(found, centres, atol=0.3)


def test_of_several_starts_the_best_is_kept():
    rows = overlapping(k=12)
    options = {"init_params": "random_from_data", "device": "cpu", "max_iter": 200}
    random_state = np.random.RandomState(3)
    alone = [DiagonalGMM(6, random_state=random_state, **options).fit(rows) for _ in range(5)]
    best = DiagonalGMM(6, n_init=5, random_state=np.random.RandomState(3), **options).fit(rows)
    assert len({round(g.lower_bound_, 3) for g in alone}) > 1
    assert best.lower_bound_ == pytest.approx(max(g.lower_bound_ for g in alone))


def test_seed_decides():
    rows = overlapping(k=12)
    first, same, other = (
        DiagonalGMM(6, random_state=s, device="cpu").fit(rows).means_ for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)


def test_a_large_offset_costs_no_digits():
    rows = overlapping()
    near, far = (
        DiagonalGMM(5, random_state=0, device="cpu").fit(rows + shift) for shift in (0, 1e4)
    )
    np.testing.assert_allclose(far.covariances_, near.covariances_, rtol=1e-6)
    np.testing.assert_allclose(far.score_samples(rows + 1e4), near.score_samples(rows), rtol=1e-6)


def test_constant_and_nearly_constant_features_are_safe():
    """As saturated tanh units and dead ReLU units give them."""
    rng = np.random.default_rng(0)
    rows = np.tanh(rng.normal(scale=3, size=(400, 6))).astype(np.float32)
    rows[:, 0] = 1.0
    rows[:, 1] = np.where(rng.random(400) < 0.01, 1e-4, 0.0)
    gmm = DiagonalGMM(20, random_state=0, device="cpu").fit(rows)
    assert np.isfinite(gmm.score_samples(rows)).all()
    assert gmm.covariances_.min() >= 1e-6 * (1 - 1e-9)
    assert gmm.score_samples(rows).dtype == np.float64


def test_more_components_than_distinct_rows():
    rows = np.repeat(np.eye(3), 10, axis=0)
    gmm = DiagonalGMM(8, random_state=0, device="cpu").fit(rows)
    assert np.isfinite(gmm.means_).all() and np.isfinite(gmm.score_samples(rows)).all()
    assert gmm.weights_.sum() == pytest.approx(1)


def tanh_features(rng, n=3000, d=64):
    hidden = rng.normal(size=(60, 8))[rng.integers(60, size=n)] + 0.1 * rng.normal(size=(n, 8))
    return np.tanh(hidden @ rng.normal(size=(8, d)) / 2)


def relu_features(rng):
    """A third of the units never fires, another third seldom."""
    features = np.maximum(tanh_features(rng), 0)
    features[:, :20] = 0
    features[:, 20:40] *= rng.random((len(features), 20)) < 0.02
    return features


@pytest.mark.parametrize(
    "features",
    [tanh_features, relu_features, lambda rng: tanh_features(rng) + 1e4],
    ids=["tanh", "relu", "offset"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_features_of_networks_get_scikit_learns_likelihood(features, dtype):
    """So many components that float32 looks for those that matter; 1e-4 nats per dimension."""
    rng = np.random.default_rng(0)
    rows = features(rng).astype(dtype)
    start = DiagonalGMM(48, max_iter=1, tol=0, random_state=0, device="cpu").fit(rows)
    names = ("weights", "means", "precisions")
    given = {f"{name}_init": getattr(start, f"{name}_") for name in names}
    ours = DiagonalGMM(48, max_iter=20, tol=1e-9, device="cpu", **given).fit(rows)
    exact = rows.astype(np.float64)
    # Scikit-learn's squares are not centred: it is given rows that are.
    centre = exact.mean(axis=0)
    given["means_init"] = given["means_init"] - centre
    reference = GaussianMixture(48, covariance_type="diag", max_iter=20, tol=1e-9, **given)
    reference.fit(exact - centre)
    found, expected = ours.score_samples(rows), reference.score_samples(exact - centre)
    assert abs(found.mean() - expected.mean()) / rows.shape[1] < 1e-4
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * rows.shape[1])


def near_duplicates(rng):
    rows = tanh_features(rng, n=300)
    return np.concatenate([rows, rows + 1e-4 * rng.normal(size=rows.shape)])


@settings(deadline=None, max_examples=10)
@given(
    k=st.sampled_from([1, 31, 32, 100, 600]),
    scale=st.sampled_from([1e-2, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 1.0]),
    dead=st.integers(0, 40),
    seed=st.integers(0, 10**6),
)
def test_scale_offset_duplicates_dead_features_and_k_up_to_n(k, scale, offset, dead, seed):
    """The mixture of scikit-learn, whose rows are centred, as its squares are not."""
    rng = np.random.default_rng(seed)
    rows = near_duplicates(rng)
    rows[:, :dead] = 0
    rows = scale * (rows - rows.mean(axis=0))
    given = {
        "weights_init": np.full(k, 1 / k),
        "means_init": rows[rng.choice(len(rows), k, replace=False)],
        "precisions_init": np.tile(1 / (rows.var(axis=0) + 1e-6 * scale**2), (k, 1)),
    }
    options = {"max_iter": 4, "tol": 0, "reg_covar": 1e-6 * scale**2}
    reference = GaussianMixture(k, covariance_type="diag", **options, **given)
    shifted = given | {"means_init": given["means_init"] + offset * scale}
    ours = DiagonalGMM(k, device="cpu", **options, **shifted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference.fit(rows)
        ours.fit(rows + offset * scale)
    assert ours.lower_bound_ == pytest.approx(reference.lower_bound_, rel=1e-7)
    np.testing.assert_allclose(ours.weights_, reference.weights_, rtol=1e-5, atol=1e-8)
    means = ours.means_ - offset * scale
    kept = reference.weights_ * len(rows) > 1e-6  # scikit-learn moves one without rows to 0
    np.testing.assert_allclose(means[kept], reference.means_[kept], rtol=1e-5, atol=1e-6 * scale)


def test_the_number_of_threads_changes_no_bit():
    rows = tanh_features(np.random.default_rng(0), n=9000)
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        gmm = DiagonalGMM(40, max_iter=3, tol=1e9, random_state=0, device="cpu").fit(rows)
        found.append([gmm.means_, gmm.covariances_, gmm.score_samples(rows)])
    torch.set_num_threads(before)
    for other in found[1:]:
        for array, expected in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(array, expected)


# --- rows that come in blocks --------------------------------------------------------------------


def test_blocks_and_mapped_files_give_the_mixture_of_the_array(tmp_path):
    rows = tanh_features(np.random.default_rng(0))
    np.save(tmp_path / "rows.npy", rows)
    others = [
        np.load(tmp_path / "rows.npy", mmap_mode="r"),
        [rows[:1], rows[1:1000], rows[1000:]],
        DataLoader(TensorDataset(torch.from_numpy(rows)), 700, collate_fn=stacked),
    ]
    options = {"random_state": 0, "device": "cpu"}
    for start in ("k-means++", "kmeans", "random_from_data"):
        expected = DiagonalGMM(40, init_params=start, **options).fit(rows)
        for X in others:
            gmm = DiagonalGMM(40, init_params=start, **options).fit(X)
            assert gmm.n_features_in_ == 64
            np.testing.assert_allclose(gmm.lower_bounds_, expected.lower_bounds_, rtol=1e-9)
            np.testing.assert_allclose(gmm.means_, expected.means_, atol=1e-6)
            np.testing.assert_allclose(gmm.covariances_, expected.covariances_, atol=1e-6)


def stacked(items):
    return torch.stack([row for (row,) in items])


@pytest.mark.parametrize(
    ("blocks", "error", "complaint"),
    [
        (lambda rows: iter([rows]), TypeError, "an iterator ends: pass a list of arrays"),
        (lambda rows: (block for block in [rows]), TypeError, "an iterator ends"),
        (lambda rows: [rows, rows[:, :2]], ValueError, "block 1 of X has 2 features, those befo"),
        (lambda rows: [rows, rows * np.nan], ValueError, "block 1 of X has a NaN or an infinity"),
        (lambda rows: [rows, rows[0]], ValueError, r"block 1 of X must have shape \(n, d\)"),
        (lambda rows: {1: rows}.values(), ValueError, "n_samples=600 rows are too few"),
        (lambda rows: {}.values(), ValueError, "X has no blocks"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks, error, complaint):
    with pytest.raises(error, match=complaint):
        DiagonalGMM(700, device="cpu").fit(blocks(overlapping()))


LIMITED = """
import resource
import numpy as np
from mistakes_lib import DiagonalGMM

rng = np.random.default_rng(0)
centres = rng.normal(size=(500, 64)).astype(np.float32)
rows = centres[rng.integers(500, size=200_000)]
rows += 0.3 * rng.normal(size=rows.shape).astype(np.float32)
DiagonalGMM(2, max_iter=2, tol=1e9).fit(rows[:5000])  # libraries have what they need from now on
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
limit = used + 400 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
gmm = DiagonalGMM(500, max_iter=2, tol=0, random_state=0).fit(rows)
assert np.isfinite(gmm.lower_bounds_).all()
try:
    np.ones((200_000, 500))  # what responsibilities of all rows would take: the limit is real
except MemoryError:
    print("done within the limit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_does_not_grow_with_rows_times_components(nursery):
    child = nursery.start(LIMITED)
    assert child.wait() == 0, child.stderr
    assert child.stdout == "done within the limit\n"


@pytest.mark.slow
def test_a_thousand_components_on_as_many_rows_as_cifar_has():
    """45,000 × 342 tanh features of low intrinsic dimension, some dead: EM converges, no NaN."""
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(1000, 20))[rng.integers(1000, size=45_000)]
    hidden = (groups + 0.2 * rng.normal(size=groups.shape)).astype(np.float32)
    rows = np.tanh(hidden @ rng.normal(size=(20, 342)).astype(np.float32) / 3)
    rows[:, :5] = 1.0
    gmm = DiagonalGMM(1000, random_state=0).fit(rows)
    assert gmm.converged_
    assert gmm.n_iter_ > 2, "the start is not the end"
    for values in (gmm.weights_, gmm.means_, gmm.covariances_, gmm.score_samples(rows[:2000])):
        assert np.isfinite(values).all()
    assert np.diff(gmm.lower_bounds_).min() > 0


def test_log_prob_is_score_samples_and_differentiable():
    rows = overlapping()
    gmm = DiagonalGMM(4, random_state=0, device="cpu").fit(rows)
    points = torch.tensor(rows[:5], requires_grad=True)
    values = gmm.log_prob(points)
    np.testing.assert_allclose(values.detach().numpy(), gmm.score_samples(rows[:5]))
    assert torch.autograd.gradcheck(gmm.log_prob, points)
    single = gmm.log_prob(torch.tensor(rows[:5], dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), values.detach().numpy(), rtol=1e-4)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_the_gradient_in_closed_form_is_that_of_automatic_differentiation(dtype, rtol):
    rows = overlapping()
    gmm = DiagonalGMM(4, random_state=0, device="cpu").fit(rows)
    far = 5 * rows[:3]  # beside points that several components share, some far from all
    points = torch.tensor(np.concatenate([rows[:50], far]), dtype=dtype, requires_grad=True)
    expected = torch.autograd.grad(gmm.log_prob(points.double()).sum(), points)[0]
    found = gmm.log_prob_gradient(points.detach())
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol)


def test_samples_come_from_the_mixture():
    rows = overlapping()
    gmm = DiagonalGMM(4, random_state=0, device="cpu").fit(rows)
    drawn, components = gmm.sample(40_000)
    assert drawn.shape == (40_000, 4) and components.shape == (40_000,)
    share = np.bincount(components, minlength=4) / 40_000
    np.testing.assert_allclose(share, gmm.weights_, atol=0.01)
    second = drawn[components == 2]
    np.testing.assert_allclose(second.mean(axis=0), gmm.means_[2], atol=0.15)
    np.testing.assert_allclose(second.var(axis=0), gmm.covariances_[2], rtol=0.1)


def test_a_saved_mixture_comes_back(tmp_path):
    rows = overlapping()
    gmm = DiagonalGMM(4, tol=1e-4, random_state=0, device="cpu").fit(rows)
    gmm.save(tmp_path / "gmm.safetensors")
    again = DiagonalGMM.load(tmp_path / "gmm.safetensors")
    np.testing.assert_array_equal(again.score_samples(rows), gmm.score_samples(rows))
    assert again.lower_bounds_ == gmm.lower_bounds_
    assert (again.n_components, again.tol, again.n_iter_) == (4, 1e-4, gmm.n_iter_)
    gmm.save(tmp_path / "same.safetensors")
    assert (tmp_path / "same.safetensors").read_bytes() == (
        tmp_path / "gmm.safetensors"
    ).read_bytes()


def test_loading_something_else_says_so(tmp_path):
    save_arrays(tmp_path / "x.safetensors", {"a": np.ones(2)}, {"kind": "FeatureSet"})
    with pytest.raises(ValueError, match="holds a FeatureSet, not a DiagonalGMM"):
        DiagonalGMM.load(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="nothing"):
        DiagonalGMM.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"n_components": 0}, "n_components"),
        ({"max_iter": -1}, "max_iter"),
        ({"n_init": 0}, "n_init"),
        ({"tol": -1.0}, "tol"),
        ({"reg_covar": -1.0}, "reg_covar"),
        ({"batch_size": 0}, "batch_size"),
        ({"init_params": "magic"}, "init_params must be one of"),
        ({"weights_init": [0.5, 0.4]}, "must sum to 1"),
        ({"means_init": np.zeros((2, 3))}, r"means_init must have shape \(2, 4\), got \(2, 3\)"),
        ({"precisions_init": -np.ones((2, 4))}, "precisions_init must be above 0"),
        ({"n_components": 601}, "too few for n_components=601"),
    ],
)
def test_bad_parameters_are_named(parameters, complaint):
    with pytest.raises(ValueError, match=complaint):
        DiagonalGMM(**{"n_components": 2} | parameters).fit(overlapping())


def test_zero_variance_without_regularisation_says_what_to_do():
    rows = np.ones((10, 2))
    with pytest.raises(ValueError, match="raise reg_covar"):
        DiagonalGMM(1, reg_covar=0).fit(rows)


@pytest.mark.parametrize("value", [1.0, 0.1, 1e-9, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_variance_that_is_rounding_counts_as_none(value, dtype):
    """Collapsed components, and features that are constant up to the last digits of their sums."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.array([[0, value], [value, 0]]), 500, axis=0).astype(dtype)
    constant = np.column_stack([rng.normal(size=1000), np.full(1000, value)]).astype(dtype)
    for rows, k in ((clusters, 2), (constant, 1), ([constant[:300], constant[300:]], 1)):
        with pytest.raises(ValueError, match="raise reg_covar"):
            DiagonalGMM(k, reg_covar=0, random_state=0, device="cpu").fit(rows)
    narrow = value * (1 + 1e-3 * rng.normal(size=(1000, 2)))  # no rounding: it is fitted
    found = DiagonalGMM(1, reg_covar=0, device="cpu").fit(narrow).covariances_
    np.testing.assert_allclose(found[0], narrow.var(axis=0), rtol=1e-9)


def test_a_warm_start_goes_on_from_the_last_mixture_also_from_a_file(tmp_path):
    rows = overlapping()
    options = {"tol": 0, "random_state": 0, "device": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = DiagonalGMM(5, max_iter=7, **options).fit(rows)
        parts = DiagonalGMM(5, max_iter=3, warm_start=True, n_init=3, **options).fit(rows)
        first = DiagonalGMM(5, max_iter=3, n_init=3, **options).fit(rows)
        np.testing.assert_array_equal(parts.means_, first.means_)  # there is nothing to go on from
        single = DiagonalGMM(5, max_iter=3, warm_start=True, **options).fit(rows)
        single.save(tmp_path / "gmm.safetensors")
        again = DiagonalGMM.load(tmp_path / "gmm.safetensors")
        blocks = [rows[:100], rows[100:]]
        for gmm in (single, again.set_params(device="cpu")):
            gmm.set_params(max_iter=4).fit(blocks if gmm is again else rows)
            np.testing.assert_allclose(gmm.means_, whole.means_, rtol=1e-9)
            np.testing.assert_allclose(gmm.lower_bounds_, whole.lower_bounds_[3:], rtol=1e-9)
    for X, k in ((rows[:, :2], 5), (rows, 4)):
        with pytest.raises(ValueError, match="warm_start goes on from a mixture of shape"):
            single.set_params(n_components=k).fit(X)


def test_no_iteration_leaves_the_start(tmp_path):
    rows = overlapping()
    own = start(rows, 3)
    gmm = DiagonalGMM(3, max_iter=0, device="cpu", **own).fit(rows)
    np.testing.assert_allclose(gmm.means_, own["means_init"])
    np.testing.assert_allclose(gmm.precisions_cholesky_**2, own["precisions_init"])
    gmm.save(tmp_path / "gmm.safetensors")
    again = DiagonalGMM.load(tmp_path / "gmm.safetensors")
    assert (again.n_iter_, again.lower_bound_, again.converged_) == (0, -math.inf, False)
    np.testing.assert_array_equal(again.precisions_cholesky_, gmm.precisions_cholesky_)


def test_unfitted_is_said():
    for ask in ("score_samples", "predict", "predict_proba", "score", "bits_per_dim", "bic"):
        with pytest.raises(NotFittedError):
            getattr(DiagonalGMM(2), ask)(np.ones((3, 2)))
    with pytest.raises(NotFittedError):
        DiagonalGMM(2).sample(3)
