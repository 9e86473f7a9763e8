"""Rows in whatever form users have them are the same rows."""

import numpy as np
import pytest
import torch

from mistakes_lib.density import DiagonalGMM

ROWS = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)


def fitted(rows):
    return DiagonalGMM(3, random_state=0, device="cpu").fit(rows)


@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [
        (lambda rows: torch.tensor(rows, requires_grad=True), 1e-6),
        (lambda rows: torch.tensor(rows, dtype=torch.float64), 1e-6),
        (lambda rows: torch.tensor(rows, dtype=torch.bfloat16), 0.1),
        (lambda rows: torch.tensor(rows, dtype=torch.float16), 0.01),
    ],
)
def test_tensors_of_any_precision_and_with_gradients(convert, tolerance):
    expected = fitted(ROWS).score_samples(ROWS)
    found = fitted(ROWS).score_samples(convert(ROWS))
    np.testing.assert_allclose(found, expected, atol=20 * tolerance, rtol=tolerance)
    assert np.isfinite(fitted(convert(ROWS)).means_).all()


def test_empty_blocks_are_passed_over():
    whole = fitted([ROWS[:200], ROWS[200:]])
    parts = fitted([ROWS[:0], ROWS[:200], ROWS[200:200], ROWS[200:]])
    np.testing.assert_allclose(parts.means_, whole.means_)
    with pytest.raises(ValueError, match="no blocks, so there are no rows"):
        fitted([ROWS[:0]])


def test_dask_arrays_of_unknown_chunks_empty_chunks_and_data_frames():
    array = pytest.importorskip("dask.array")
    frame = pytest.importorskip("dask.dataframe")
    import pandas as pd

    kept = ROWS[ROWS[:, 0] > 0]
    order = np.argsort(ROWS[:, 0])
    rows = array.from_array(ROWS[order], chunks=(100, 4))  # the first chunk is emptied
    unknown = rows[rows[:, 0] > 0]
    expected = fitted([kept]).score(kept)
    assert fitted(unknown).score(kept) == pytest.approx(expected, abs=0.2)
    frames = frame.from_pandas(pd.DataFrame(ROWS), npartitions=3)
    assert fitted(frames).score(ROWS) == pytest.approx(fitted([ROWS]).score(ROWS), abs=0.2)


def test_a_regularisation_larger_than_the_variances_is_said(recwarn):
    with pytest.warns(UserWarning, match="reg_covar=1e-06 is larger than the variances"):
        fitted(1e-4 * ROWS)
    recwarn.clear()
    fitted(ROWS)
    assert not recwarn.list
