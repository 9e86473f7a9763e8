"""Products by whatever library is fastest are products all the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mistakes_lib.density.gmm.products import Affine

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, SIZES, st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None, max_examples=50)
def test_it_is_numpys_product(n, d, k, dtype):
    rng = np.random.default_rng([n, d, k])
    rows, weight, constant = (rng.normal(size=shape) for shape in ((n, d), (k, d), k))
    ours = Affine(*(torch.tensor(a, dtype=dtype) for a in (weight, constant)))
    found = ours(torch.tensor(rows, dtype=dtype))
    assert found.dtype == dtype and not found.is_mkldnn
    tolerance = 40 * torch.finfo(dtype).eps * d
    np.testing.assert_allclose(found, rows @ weight.T + constant, rtol=tolerance, atol=tolerance)


def test_it_takes_transposed_weights_and_what_wants_gradients():
    weight = torch.arange(6.0).view(2, 3).requires_grad_()
    found = Affine(weight.T, torch.zeros(3))(torch.tensor([[1.0, 10.0]], requires_grad=True))
    assert found.tolist() == [[30, 41, 52]] and not found.requires_grad


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays_so(value):
    found = Affine(torch.ones(2, 2), torch.zeros(2))(torch.tensor([[1.0, value], [1.0, 2.0]]))
    assert not torch.isfinite(found[0]).any() and found[1].tolist() == [3, 3]


def test_other_shapes_are_refused():
    with pytest.raises(RuntimeError):
        Affine(torch.ones(2, 3), torch.zeros(2))(torch.ones(1, 2))
