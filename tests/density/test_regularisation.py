"""The regularisation that knows the features' scale."""

import numpy as np
import pytest

from mistakes_lib.density.gmm import reg_covar_for


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("n", [2, 10_000])  # 10,000 rows are several blocks
def test_it_is_a_millionth_of_the_mean_variance_in_any_unit(n, unit):
    features = unit * np.random.default_rng(0).normal([3, 0, -1], [1, 5, 0.1], size=(n, 3))
    assert reg_covar_for(features) == pytest.approx(1e-6 * features.var(axis=0).mean(), rel=5e-3)


def test_single_precision_gives_the_same():
    features = np.random.default_rng(0).normal(100, 1, size=(5000, 4)).astype(np.float32)
    assert reg_covar_for(features) == reg_covar_for(features.astype(np.float64))


def test_features_that_do_not_vary_get_scikit_learns():
    assert reg_covar_for(np.ones((3, 2))) == 1e-6
