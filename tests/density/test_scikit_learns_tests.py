"""Scikit-learn's own tests of its mixture, on DiagonalGMM: read from the installed package.

A mixture with another covariance is scikit-learn's own; one with the default is a diagonal one.
"""

import re
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from mistakes_lib import DiagonalGMM

FILES = "test_gaussian_mixture", "test_mixture"
CHANGES = (  # of their text: the mixture is ours, and where one kind stands for all, diagonal
    ("from sklearn.mixture import GaussianMixture\n", ""),
    ("from sklearn.mixture import BayesianGaussianMixture, GaussianMixture", ""),
    (", BayesianGaussianMixture()", ""),
    ('covar_type = "full"', 'covar_type = "diag"'),
)
WORDS = {  # scikit-learn's → ours, where the same input is refused or warned of in other words
    "The parameter 'weights' should have the shape": "weights_init must have shape",
    "The parameter 'weights' should be in the range": "weights_init must not be negative and must",
    "The parameter 'weights' should be normalized": "weights_init must not be negative and must",
    "The parameter 'means' should have the shape": "means_init must have shape",
    "The parameter 'diag precision' should have the shape": "precisions_init must have shape",
    "'diag precision' should be positive": "precisions_init must be above 0",
    "This GaussianMixture instance is not fitted": "This DiagonalGMM instance is not fitted",
    "Best performing initialization did not converge": "EM did not converge",
    "some components have ill-defined empirical covariance": "a variance is not above 0",
    "Invalid value for 'n_samples'": "n_samples == 0, must be >= 1",
    "Expected n_samples >= n_components": "rows are too few for n_components",
}
LEFT_OUT = {
    "test_gaussian_mixture_array_api_compliance": "arrays of other libraries stay theirs",
    "test_gaussian_mixture_raises_where_array_api_not_implemented": "the same",
    "test_gaussian_mixture_precisions_init": "calls a private method of scikit-learn's",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": "the same",
}


def peer(n_components=1, *, covariance_type="diag", **parameters):
    """DiagonalGMM where scikit-learn's tests make a mixture; theirs for other covariances."""
    if covariance_type != "diag":
        return GaussianMixture(n_components, covariance_type=covariance_type, **parameters)
    if parameters.get("init_params") == "random":
        pytest.skip("DiagonalGMM does not start from random responsibilities")
    parameters = {"init_params": "kmeans", "device": "cpu"} | parameters
    return DiagonalGMM(n_components, **parameters)


def in_our_words(expect):
    """``pytest.raises`` or ``pytest.warns`` that also takes what ``WORDS`` allows."""

    def expect_either(kind, match):
        plain = re.sub(r"\\(.)", r"\1", match)
        ours = next((own for theirs, own in WORDS.items() if theirs in plain), None)
        return expect(kind, match=f"{match}|{re.escape(ours)}" if ours else match)

    return expect_either


def of_scikit_learns(name):
    """name → function of the tests in a file of scikit-learn's that make a mixture."""
    path = Path(find_spec(f"sklearn.mixture.tests.{name}").origin)
    source = path.read_text(encoding="utf-8")
    for before, after in CHANGES:
        source = source.replace(before, after)
    module = types.ModuleType(f"scikit_learns_{name}")
    module.GaussianMixture = peer
    exec(compile(source, path, "exec"), module.__dict__)
    module.pytest = types.SimpleNamespace(
        mark=pytest.mark, raises=in_our_words(pytest.raises), warns=in_our_words(pytest.warns)
    )
    return {
        key: value
        for key, value in vars(module).items()
        if key.startswith("test_") and key not in LEFT_OUT
    }


@pytest.fixture
def global_dtype():
    return np.float64


@pytest.fixture
def global_random_seed():
    return 0


for file in FILES:
    globals().update(of_scikit_learns(file))
