"""What goes through, what comes out, and what the one error says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from mistakes_lib.support.checks import (
    as_array,
    as_labels,
    as_matrix,
    as_vector,
    check_fraction,
    check_positive,
)

FINITE = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=FINITE))
def test_the_same_values_come_out_of_arrays_tensors_and_lists(values):
    for given_as in (values, torch.from_numpy(values), values.tolist()):
        array = as_array(given_as, "x")
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int32, torch.bool])
def test_tensors_of_other_types_and_with_gradients_are_read(dtype):
    np.testing.assert_array_equal(as_array(torch.tensor([0, 1]).to(dtype), "x"), [0.0, 1.0])
    np.testing.assert_array_equal(as_array(torch.ones(2, requires_grad=True), "x"), [1.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_lists_of_tensors_and_sparse_tensors_are_read(dtype):
    rows = [torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True), torch.zeros(2).to(dtype)]
    np.testing.assert_array_equal(as_array(rows, "x"), [[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(as_array(torch.eye(2).to(dtype).to_sparse(), "x"), np.eye(2))


def test_dtype_none_keeps_single_and_double_precision_only():
    for given_as, kept in [("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("f2", "f8")]:
        assert as_array(np.ones(3, dtype=given_as), "x", dtype=None).dtype == kept


@settings(deadline=None)
@given(st.data())
def test_the_first_bad_row_is_named(data):
    values = np.zeros((data.draw(st.integers(1, 6)), 3))
    bad = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, unique=True))
    values[bad, data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([np.nan, np.inf]))
    message = rf"scores has .* {len(bad)} of {len(values)} rows, the first at index {min(bad)}:"
    with pytest.raises(ValueError, match=message):
        as_array(values, "scores")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: as_array([], "x"), ValueError, r"x is empty \(shape \(0,\)\)"),
        (lambda: as_array(np.nan, "x"), ValueError, "x has a NaN"),
        (lambda: as_array(["a"], "x"), TypeError, "x must be numeric, got list"),
        (lambda: as_array([[1], [1, 2]], "x"), TypeError, "x must be numeric"),
        (lambda: as_array(None, "x"), TypeError, "x must be numeric, got None"),
        (lambda: as_array([1 + 2j], "x"), TypeError, "x must be numeric.*complex128 are no real n"),
        (lambda: as_array(np.array(["2020"], "M8[D]"), "x"), TypeError, "datetime.* no real numb"),
        (lambda: as_array(csr_matrix(np.eye(2)), "x"), TypeError, r"sparse.*pass x\.toarray\(\)"),
        (lambda: as_array(np.ma.masked_less([1, 2], 2), "x"), ValueError, "x is a masked array"),
        (lambda: as_vector(np.ones((2, 1)), "x"), ValueError, r"one-dimensional.*\(2, 1\)"),
        (lambda: as_matrix(np.ones(2), "x"), ValueError, r"shape \(n, d\), got shape \(2,\)"),
        (lambda: as_matrix(np.ones((2, 3)), "x", columns=4), ValueError, "x has 3 columns.* 4"),
        (lambda: as_labels([0, 0.5], "y"), ValueError, "y must be whole numbers"),
        (lambda: as_labels([0, 1], "y", length=3), ValueError, "y has 2 entries.* 3 rows"),
        (lambda: as_labels([0, 3], "y", num_classes=3), ValueError, r"y\[1\] is 3, outside 0…2"),
        (lambda: as_labels([-1, 0], "y", num_classes=3), ValueError, r"y\[0\] is -1"),
    ],
)
def test_bad_input_gets_one_error_that_names_it(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_labels_come_out_as_int64():
    labels = as_labels(torch.tensor([2, 0], dtype=torch.uint8), "y", length=2, num_classes=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0]


@pytest.mark.parametrize("check", [check_positive, check_fraction])
@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, None, "0.5", [0.5]])
def test_a_setting_out_of_range_is_refused(check, bad):
    with pytest.raises(ValueError, match=r"share must .* got"):
        check(bad, "share")


def test_a_setting_in_range_is_passed_through():
    assert check_positive(3, "x") == 3
    assert check_fraction(np.float32(0.5), "x") == 0.5
    with pytest.raises(ValueError, match="strictly between"):
        check_fraction(1, "x")
