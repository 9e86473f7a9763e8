"""The one list of scorers: its names, what each gets, and that everything reads it."""

import subprocess
import sys

import pytest
from sklearn.mixture import GaussianMixture

import mistakes_lib
from mistakes_lib import scores, usual_scorers
from mistakes_lib.scores.registry import METHODS, Method, find_method

# What tables of the published chapters say, in their order.
LABELS = [
    "GMM-100",
    "Nearest neighbors",
    "Mahalanobis",
    "Relative Mahalanobis",
    "Zheng & Hong",
    "ViM",
    "Calibrated",
    "Max softmax",
    "Max logit",
    "Energy",
]


def test_tables_name_the_scorers_as_the_published_chapters_do():
    made = usual_scorers(GaussianMixture(100), num_classes=10)
    assert list(made)[: len(LABELS)] == LABELS


def test_no_two_methods_share_a_name():
    made = usual_scorers(GaussianMixture(100), num_classes=10)
    assert len(made) == len({method.key for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.key)
def test_each_is_public_and_made_by_its_name(method):
    kind = getattr(mistakes_lib, method.kind)
    assert kind is getattr(scores, method.kind)
    assert type(find_method(method.key).make(GaussianMixture(6), 3)) is kind


def test_the_density_reaches_the_scorers_that_need_one():
    density = GaussianMixture(100, random_state=7)
    assert find_method("likelihood").make(density, 10).density is density
    per_class = find_method("zheng-hong").make(density, 40)
    assert (per_class.n_components, per_class.random_state) == (2, 7)  # 100 / 40, rounded
    assert find_method("zheng-hong").make(GaussianMixture(3), 100).n_components == 1


def test_a_label_may_name_the_density():
    method = Method("mine", "logits", "Energy", label="Energy beside {density.n_components}")
    density = GaussianMixture(5)
    assert method.label_of(method.make(density, 2), density) == "Energy beside 5"


def test_an_unknown_name_is_refused_with_all_that_are_known():
    with pytest.raises(ValueError, match="unknown method 'vom': choose from likelihood, nearest"):
        find_method("vom")


def test_reading_the_list_loads_no_network_library():
    check = "import sys, mistakes_lib.scores.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
