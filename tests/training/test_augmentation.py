"""Shifts and flips against a loop over the pixels."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from mistakes_lib.training.augmentation import augment

DTYPES = [torch.uint8, torch.int64, torch.bool, torch.bfloat16, torch.float32, torch.float64]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distinct_pixels(n, c, h, w):
    """No two pixels alike and none black, so that every version of an image is recognisable."""
    return torch.arange(1, n * c * h * w + 1).reshape(n, c, h, w)


def moved(image, down, right, mirrored):
    """One image (c, h, w), mirrored and then translated, pixel by pixel."""
    c, h, w = image.shape
    result = np.zeros_like(image)
    for channel, row, column in itertools.product(range(c), range(h), range(w)):
        to_row = row + down
        to_column = (w - 1 - column if mirrored else column) + right
        if 0 <= to_row < h and 0 <= to_column < w:
            result[channel, to_row, to_column] = image[channel, row, column]
    return result


def versions(image, max_shift, flip):
    """All that may come out, as (2 s + 1)² translations × mirrored or not → bytes."""
    shifts = range(-max_shift, max_shift + 1)
    return {
        move: moved(image, *move).tobytes()
        for move in itertools.product(shifts, shifts, [False, True] if flip else [False])
    }


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 5),
    c=st.integers(1, 3),
    h=st.integers(1, 6),
    w=st.integers(1, 6),
    max_shift=st.integers(0, 3),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_each_image_becomes_one_of_its_shifted_mirrored_versions(n, c, h, w, max_shift, flip, seed):
    images = distinct_pixels(n, c, h, w)
    result = augment(images, max_shift=max_shift, flip=flip, generator=generator(seed))
    assert result.shape == images.shape
    for image, ours in zip(images.numpy(), result.numpy(), strict=True):
        assert ours.tobytes() in versions(image, max_shift, flip).values()


@pytest.mark.parametrize(("max_shift", "flip"), [(2, True), (1, False), (0, True)])
def test_every_version_comes_equally_often(max_shift, flip):
    image = distinct_pixels(1, 1, 6, 6)
    move_of = {b: m for m, b in versions(image[0].numpy(), max_shift, flip).items()}
    n = 400 * len(move_of)
    drawn = augment(image.expand(n, 1, 6, 6), max_shift=max_shift, flip=flip, generator=generator())
    counts = Counter(move_of[ours.tobytes()] for ours in drawn.numpy())
    assert counts.keys() == set(move_of.values())
    statistic = sum((count - 400) ** 2 / 400 for count in counts.values())
    assert statistic < chi2.ppf(1 - 1e-6, len(move_of) - 1)


def test_images_of_a_batch_move_independently():
    images = distinct_pixels(1, 1, 6, 6).expand(200, 1, 6, 6)
    drawn = augment(images, generator=generator()).numpy()
    assert len({ours.tobytes() for ours in drawn}) > 40  # of 50 versions


def test_channels_move_together():
    grey = distinct_pixels(40, 1, 5, 5)
    drawn = augment(grey.expand(40, 3, 5, 5), generator=generator())
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert torch.equal(drawn[:, 0], drawn[:, 2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_do_changes_nothing(dtype):
    images = torch.rand(4, 3, 5, 7, generator=generator()).mul(255).to(dtype)
    result = augment(images, max_shift=0, flip=False)
    assert result.dtype == dtype
    assert torch.equal(result, images)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_and_the_values_are_kept(dtype):
    images = torch.rand(40, 3, 5, 7, generator=generator()).mul(255).to(dtype)
    result = augment(images, generator=generator(1))
    assert result.dtype == dtype
    as_doubles = augment(images.double(), generator=generator(1))
    assert torch.equal(result.double(), as_doubles)


def test_the_generator_decides():
    images = distinct_pixels(30, 2, 6, 6)
    first, same, other = (augment(images, generator=generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    own = generator(0)
    assert torch.equal(augment(images, generator=own), first)
    assert not torch.equal(augment(images, generator=own), first)  # it has moved on


def test_with_a_generator_torchs_own_random_state_stays():
    before = torch.get_rng_state()
    augment(distinct_pixels(3, 1, 4, 4), generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_images_are_not_written_to():
    images = distinct_pixels(30, 2, 6, 6)
    before = images.clone()
    result = augment(images, max_shift=0, flip=False, generator=generator())
    result.zero_()
    augment(images, generator=generator())
    assert torch.equal(images, before)


def test_any_memory_layout_gives_the_same():
    images = distinct_pixels(30, 3, 6, 6)
    expected = augment(images, generator=generator())
    layout = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(layout, generator=generator()), expected)
    strided = torch.stack([images, images], dim=-1)[..., 0]
    assert torch.equal(augment(strided, generator=generator()), expected)


def test_a_shift_may_push_everything_out():
    drawn = augment(torch.ones(200, 1, 2, 2), max_shift=5, generator=generator())
    assert set(drawn.sum(dim=(1, 2, 3)).int().tolist()) == {0, 1, 2, 4}


def test_no_images_stay_none():
    assert augment(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("max_shift", [-1, -10])
def test_a_negative_shift_is_refused(max_shift):
    with pytest.raises(ValueError, match=f"max_shift must be at least 0, got {max_shift}"):
        augment(torch.zeros(2, 3, 4, 4), max_shift=max_shift)


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4), (1, 2, 3, 4, 4)])
def test_only_batches_of_images_are_taken(shape):
    with pytest.raises(ValueError, match=r"images must have shape \(n, c, h, w\), got"):
        augment(torch.zeros(shape))
