"""Corruptions against PIL, torch and hand-worked cases; stronger is farther from the original."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mistakes_lib.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt


@pytest.fixture(scope="module")
def images():
    """Smooth colours with an edge, as photographs have them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(6, 4, 4, 3), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(c).resize((32, 32), Image.BICUBIC)) for c in coarse]
    return np.ascontiguousarray(np.stack(smooth).transpose(0, 3, 1, 2))


every_kind = pytest.mark.parametrize("kind", CORRUPTIONS)


@every_kind
def test_bytes_in_bytes_out_the_same_for_one_seed(images, kind):
    kept = images.copy()
    first = corrupt(images, kind, 3, seed=1)
    assert first.dtype == np.uint8 and first.shape == images.shape
    np.testing.assert_array_equal(first, corrupt(images, kind, 3, seed=1))
    np.testing.assert_array_equal(first[:2], corrupt(images[:2], kind, 3, seed=1))
    np.testing.assert_array_equal(images, kept)
    assert (first != images).any()


@every_kind
def test_a_stronger_corruption_is_farther_from_the_original(images, kind):
    many = np.concatenate([images] * 8)
    gaps = [np.abs(corrupt(many, kind, s) - many.astype(float)).mean() for s in STRENGTHS]
    if kind == "saturation":  # the first two take colour away, the others add it
        assert gaps[1] > gaps[0] and gaps[2] < gaps[3] < gaps[4]
    elif kind == "pixelate":  # sides that divide 32 evenly move edges less
        assert gaps[0] < gaps[2] < gaps[4]
    else:
        assert np.diff(gaps).min() > 0


def test_noise_has_its_standard_deviation_and_another_seed_is_other_noise():
    gray = np.full((20, 3, 32, 32), 128, dtype=np.uint8)
    noisy = corrupt(gray, "gaussian_noise", 2)
    assert (noisy / 255.0).std() == pytest.approx(0.06, rel=0.05)
    assert (noisy != corrupt(gray, "gaussian_noise", 2, seed=1)).mean() > 0.9
    assert (noisy[0] != noisy[1]).mean() > 0.9
    salted = corrupt(gray, "impulse_noise", 5)
    assert (salted != 128).mean() == pytest.approx(0.07, rel=0.1)
    assert set(np.unique(salted)) == {0, 128, 255}


def test_brightness_and_posterize_by_hand():
    image = np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8)
    expected = np.minimum(np.round((image / 255 + 0.3) * 255), 255)
    np.testing.assert_allclose(corrupt(image, "brightness", 5), expected, atol=1)
    np.testing.assert_array_equal(corrupt(image, "posterize", 5), image & 0b11000000)


def test_jpeg_and_colour_are_those_of_pil(images):
    """torchvision rounds where PIL truncates: one level apart at most."""
    picture = Image.fromarray(images[0].transpose(1, 2, 0))
    for kind, enhance, factor in (
        ("contrast", ImageEnhance.Contrast, 0.15),
        ("saturation", ImageEnhance.Color, 3.0),
    ):
        peer = np.asarray(enhance(picture).enhance(factor)).transpose(2, 0, 1).astype(int)
        assert np.abs(corrupt(images[:1], kind, 5)[0] - peer).max() <= 2
    quality = [np.abs(corrupt(images, "jpeg", s) - images.astype(int)).mean() for s in (1, 5)]
    assert 0 < quality[0] < quality[1] < 20


def test_a_square_of_gray_has_its_side():
    black = np.zeros((5, 3, 32, 32), dtype=np.uint8)
    hidden = corrupt(black, "occlude", 3)
    assert ((hidden == 128).sum(axis=(2, 3)) == 64).all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((np.zeros((1, 3, 4, 4)), "blur", 1), "must be uint8"),
        ((np.zeros((1, 1, 4, 4), np.uint8), "blur", 1), "must be uint8"),
        ((np.zeros((0, 3, 4, 4), np.uint8), "blur", 1), "n ≥ 1"),
        ((np.zeros((1, 3, 4, 4), np.uint8), "blurr", 1), "unknown corruption 'blurr'"),
        ((np.zeros((1, 3, 4, 4), np.uint8), "blur", 6), "strength"),
        ((np.zeros((1, 3, 4, 4), np.uint8), "blur", 0), "strength"),
    ],
)
def test_bad_input_is_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        corrupt(*arguments)
