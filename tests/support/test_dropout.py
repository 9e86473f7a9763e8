"""Dropout against torch's own and against the binomial distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

from mistakes_lib.classifiers import densenet_bc, wide_resnet
from mistakes_lib.support.dropout import Dropout


def kept(p, n=200_000, seed=0):
    """Which of n entries are left."""
    torch.manual_seed(seed)
    return (Dropout(p)(torch.ones(n)) != 0).numpy()


@pytest.mark.parametrize("p", [0.001, 0.2, 0.3, 0.5, 0.97])
def test_the_share_that_is_dropped_is_p(p):
    assert stats.binomtest(int((~kept(p)).sum()), 200_000, p).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_entries_are_dropped_independently_of_their_neighbours(p):
    """Four neighbours share a random number of 64 bits."""
    some = kept(p)
    for lag in (1, 2, 3, 4, 5):
        _, pvalue = stats.pearsonr(some[:-lag], some[lag:])
        assert pvalue > 1e-4, f"lag {lag}"


@pytest.mark.parametrize("p", [0.2, 0.3, 0.5])
def test_what_is_left_is_scaled_as_torch_does(p):
    torch.manual_seed(0)
    x = torch.linspace(1, 2, 1000, dtype=torch.float64)
    ours, theirs = Dropout(p)(x), F.dropout(x, p)
    both = (ours != 0) & (theirs != 0)
    assert both.sum() > 100
    # ours has rounded p to a multiple of 2⁻¹⁶
    torch.testing.assert_close(ours[both], theirs[both], rtol=1e-4, atol=0)


def test_expectations_stay_to_the_last_digit_of_p():
    """The scale is that of the rounded p: one over the share that is kept."""
    p = 0.2
    scale = Dropout(p)(torch.ones(1000, dtype=torch.float64)).max().item()
    assert scale == pytest.approx(1 / (1 - round(p * 2**16) / 2**16), rel=1e-15)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=4),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    p=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_shape_and_dtype_are_those_of_the_input(shape, dtype, p):
    x = torch.ones(shape, dtype=dtype)
    dropped = Dropout(p)(x)
    assert (dropped.shape, dropped.dtype) == (x.shape, x.dtype)
    assert not (p == 1 and dropped.any())
    assert p or torch.equal(dropped, x)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3),
        lambda x: x[:, ::2, 1:],
        lambda x: x[:, :1].expand(-1, 3, -1, -1),
    ],
    ids=["contiguous", "channels_last", "transposed", "with gaps", "expanded"],
)
def test_any_layout_is_dropped_alike(make):
    x = make(torch.rand(8, 4, 16, 16) + 1)
    dropped = Dropout(0.25)(x)
    left = dropped != 0
    torch.testing.assert_close(dropped[left], x[left] / 0.75)
    assert 0.6 < left.float().mean() < 0.9
    assert dropped.stride() == F.dropout(x, 0.25).stride()


def test_the_gradient_passes_where_the_input_did():
    x = torch.rand(1000, dtype=torch.float64, requires_grad=True)
    dropped = Dropout(0.5)(x)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, (dropped != 0) * 2.0, check_dtype=False)


def test_the_seed_decides():
    assert np.array_equal(kept(0.5, seed=1), kept(0.5, seed=1))
    assert not np.array_equal(kept(0.5, seed=1), kept(0.5, seed=2))


def test_nothing_is_dropped_in_evaluation():
    x = torch.rand(100)
    assert torch.equal(Dropout(0.5).eval()(x), x)


def test_compiled_layers_draw_masks_of_their_own_and_go_back_by_the_same():
    """Neither is the second mask taken for the first, nor any drawn anew in the backward pass."""
    first, second = Dropout(0.5), Dropout(0.5)
    both = torch.compile(lambda x, y: (first(x), second(y)), backend="aot_eager_decomp_partition")
    x, y = (torch.ones(1000, requires_grad=True) for _ in range(2))
    a, b = both(x, y)
    (a.sum() + b.sum()).backward()
    assert not torch.equal(a, b)
    assert torch.equal(a, x.grad)
    assert torch.equal(b, y.grad)


@pytest.mark.parametrize("make", [densenet_bc, wide_resnet])
def test_networks_drop_by_it(make):
    layers = [
        m for m in make(10, depth=10, dropout=0.4).modules() if isinstance(m, torch.nn.Dropout)
    ]
    assert layers
    assert {(type(layer), layer.p) for layer in layers} == {(Dropout, 0.4)}


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_a_probability_lies_between_0_and_1(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(p)
