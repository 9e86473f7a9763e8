"""Where the information is: bases by linear algebra, and a direction that the test plants."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from mistakes_lib import feature_subspaces, information_by_subspace, share_of_zeros


def test_the_bases_are_orthonormal_and_split_the_space():
    rng = np.random.default_rng(0)
    features, weight = rng.normal(size=(80, 7)) * np.arange(1, 8), rng.normal(size=(4, 7))
    spaces = feature_subspaces(features, weight)
    for basis in spaces.values():
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
    row, null = spaces["row space of the head"], spaces["null space of the head"]
    assert (row.shape[1], null.shape[1]) == (3, 4), "the rows' mean decides nothing"
    np.testing.assert_allclose(row @ row.T + null @ null.T, np.eye(7), atol=1e-10)
    first = spaces["first 3 principal components"]
    peer = PCA(3).fit(features).components_
    np.testing.assert_allclose(np.abs(first.T @ peer.T), np.eye(3), atol=1e-8)


def test_what_lies_in_the_null_space_changes_no_prediction():
    rng = np.random.default_rng(1)
    features, weight = rng.normal(size=(50, 6)), rng.normal(size=(3, 6))
    null = feature_subspaces(features, weight)["null space of the head"]
    moved = features + rng.normal(size=(50, null.shape[1])) @ null.T * 100
    gap = moved @ weight.T - features @ weight.T
    np.testing.assert_allclose(gap, gap[:, :1] @ np.ones((1, 3)), atol=1e-9)


def test_a_planted_direction_is_found_where_it_is():
    """Suspect inputs spread along one direction, which the head reads."""
    rng = np.random.default_rng(0)
    fit_on, good, bad = (rng.normal(size=(n, 6)) + 3 for n in (1500, 800, 400))
    bad[:, 0] += rng.choice([-4, 4], 400)
    head = np.zeros((2, 6))
    head[:, 0] = 1, -1
    options = {"n_components": 1, "leading": 2, "device": "cpu"}
    table = information_by_subspace(fit_on, head, {"mistakes": (good, bad)}, **options)
    auroc = table.AUROC.xs("mistakes", level="failure")
    assert auroc["row space of the head"] > 0.95
    assert auroc["null space of the head"] == pytest.approx(0.5, abs=0.05)
    assert table.loc[("row space of the head", "mistakes"), "dimensions"] == 1
    norms = np.linalg.norm(np.vstack([good, bad]), axis=1)
    expected = roc_auc_score([1] * 800 + [0] * 400, norms)
    assert auroc["norm alone"] == pytest.approx(expected)


def test_the_direction_ignores_the_length():
    rng = np.random.default_rng(2)
    fit_on, good = rng.normal(size=(500, 3)) + 4, rng.normal(size=(200, 3)) + 4
    head = rng.normal(size=(2, 3))
    table = information_by_subspace(
        fit_on, head, {"longer": (good, 4 * good)}, n_components=1, device="cpu"
    )
    auroc = table.AUROC.xs("longer", level="failure")
    assert auroc["divided by their norm"] == pytest.approx(0.5, abs=1e-6)
    assert auroc["norm alone"] == 0 and auroc["all dimensions"] > 0.95


def test_zeros_are_counted_by_hand():
    table = share_of_zeros({"a": [[0.0, 1.0], [0.0, 0.0]], "b": [[3.0, 4.0]]})
    assert table.loc["a"].tolist() == [0.75, 0.5, 0.5]
    assert table.loc["b"].tolist() == [0, 5, 0]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: feature_subspaces(np.zeros((5, 3)), np.zeros((2, 4))), "4 columns, but 3"),
        (lambda: feature_subspaces(np.ones((5, 3)), np.eye(3), leading=4), "leading"),
        (lambda: information_by_subspace(np.ones((5, 3)), np.eye(3), {}), "groups is empty"),
        (
            lambda: information_by_subspace(
                np.ones((5, 3)), np.eye(3), {"x": (np.ones((2, 3)), np.ones((2, 2)))}
            ),
            r"groups\['x'\] has 2 columns",
        ),
        (lambda: share_of_zeros({"x": []}), "is empty"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
