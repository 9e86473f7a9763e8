"""An ImageSet: its size, fingerprint, statistics and subsets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistakes_lib.data.image_set import ImageSet
from mistakes_lib.data.named import load_dataset
from tests.helpers.originals import IMAGES, halved, random_images


def test_size_averages_areas():
    own, half, double = (load_dataset("digits", size=size) for size in (8, 4, 16))
    assert own.fingerprint == load_dataset("digits").fingerprint
    assert np.abs(half.images - halved(own.images)).max() <= 1
    np.testing.assert_array_equal(double.images, own.images.repeat(2, axis=2).repeat(2, axis=3))
    np.testing.assert_array_equal(half.labels, own.labels)


def image_set(images, labels=None, classes=("a", "b")):
    return ImageSet(images, labels, classes, "x", "x")


@settings(deadline=None, max_examples=100)
@given(IMAGES, st.data())
def test_the_fingerprint_knows_every_pixel_and_label(images, data):
    labels = np.zeros(len(images), dtype=np.int64)
    whole = image_set(images, labels)
    assert whole.fingerprint == image_set(images.copy(), labels.copy()).fingerprint
    other = images.copy()
    other.ravel()[data.draw(st.integers(0, images.size - 1))] ^= data.draw(st.integers(1, 255))
    assert image_set(other, labels).fingerprint != whole.fingerprint
    labels[data.draw(st.integers(0, len(labels) - 1))] = 1
    assert image_set(images, labels).fingerprint != whole.fingerprint
    assert image_set(images).fingerprint != whole.fingerprint


def test_the_fingerprint_knows_the_shape_but_not_the_memory():
    images = np.zeros((2, 3, 2, 8), dtype=np.uint8)
    assert image_set(images).fingerprint != image_set(images.reshape(2, 3, 4, 4)).fingerprint
    rng = np.random.default_rng(0)
    images = random_images(rng, 4)
    strided = image_set(np.asfortranarray(images))
    assert strided.fingerprint == image_set(images).fingerprint


@settings(deadline=None, max_examples=100)
@given(IMAGES)
def test_channel_statistics_equal_numpys(images):
    mean, std = image_set(images).channel_statistics()
    pixels = images / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), atol=1e-7)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_a_subset_keeps_the_order_and_repeats_nothing(n, size, seed):
    images = np.zeros((n, 3, 1, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    subset = image_set(images, np.arange(n) % 2).subset(size, seed=seed)
    rows = subset.images[:, 0, 0, 0].astype(int)
    assert len(rows) == min(n, size)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(subset.labels, rows % 2)
    same = image_set(images, np.arange(n) % 2).subset(size, seed=seed)
    assert same.fingerprint == subset.fingerprint


def test_the_seed_decides_the_subset():
    digits = load_dataset("digits")
    first, other = (digits.subset(20, seed=seed).fingerprint for seed in (0, 1))
    assert first != other


def test_rows_are_picked_like_an_arrays():
    digits = load_dataset("digits")
    for rows in (slice(3, 9, 2), np.array([5, 0]), digits.labels == 3):
        picked = digits[rows]
        np.testing.assert_array_equal(picked.images, digits.images[rows])
        np.testing.assert_array_equal(picked.labels, digits.labels[rows])
        assert picked.classes == digits.classes
    assert load_dataset("photo_patches")[:5].labels is None


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 4, 4)), None, r"must be uint8 .*got float64 \(2, 3, 4, 4\)"),
        (np.zeros((2, 1, 4, 4), np.uint8), None, "must be uint8"),
        (np.zeros((3, 4, 4), np.uint8), None, "must be uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0], "1 entries, but there are 2 rows"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0, 2], r"labels\[1\] is 2"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0, 0.5], "whole numbers"),
    ],
)
def test_wrong_images_or_labels_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        image_set(images, labels)
