"""Sets of one split, anybody's images, and what is not there."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm
from sklearn.datasets import load_sample_image

from mistakes_lib.data.image_set import SPLITS
from mistakes_lib.data.named import load_dataset
from tests.helpers.originals import rows_of, write_class_folders, write_tiny_imagenet


def test_tiny_imagenet_is_all_validation_images_at_32_pixels(tmp_path):
    images, labels = write_tiny_imagenet(tmp_path)
    tiny = load_dataset("tiny_imagenet", root=tmp_path)
    assert tiny.images.shape == (204, 3, 32, 32)
    assert np.abs(tiny.images - images).max() <= 1
    np.testing.assert_array_equal(tiny.labels, labels)
    assert list(tiny.classes) == sorted(tiny.classes)


def test_gaussian_noise_has_the_moments_of_a_clipped_normal():
    noise = load_dataset("gaussian_noise")
    assert noise.images.shape == (10_000, 3, 32, 32)
    assert noise.labels is None
    counts = np.bincount(noise.images.ravel(), minlength=256)
    edges = (np.arange(255) + 0.5) / 255  # between two levels
    expected = np.diff(norm(0.5, 0.25).cdf([-np.inf, *edges, np.inf])) * counts.sum()
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected)).all()
    pixels = noise.images[:1000].reshape(1000, -1)
    neighbours = np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.005
    assert noise.fingerprint == load_dataset("gaussian_noise").fingerprint


def test_photo_patches_tile_two_photographs():
    patches = load_dataset("photo_patches")
    assert patches.images.shape == (2 * 53 * 80, 3, 8, 8)
    photo = load_sample_image("flower.jpg")
    rows = patches.images[53 * 80 :].reshape(53, 80, 3, 8, 8)
    again = rows.transpose(0, 3, 1, 4, 2).reshape(53 * 8, 640, 3)
    np.testing.assert_array_equal(again, photo[: 53 * 8])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_out_of_distribution_sets_have_nothing_to_train_on(tmp_path, split):
    write_tiny_imagenet(tmp_path, num_classes=2)
    for name in ("gaussian_noise", "photo_patches", "tiny_imagenet"):
        with pytest.raises(ValueError, match=f"{name} is an out-of-distribution set.*'test' only"):
            load_dataset(name, split, root=tmp_path, download=False)


def test_a_folder_without_splits_is_divided_80_10_10(tmp_path):
    images, labels = write_class_folders(tmp_path, ("cat", "dog"), 50, ".png", edge=20)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    sets = [load_dataset(f"imagefolder:{tmp_path}", split, size=20) for split in SPLITS]
    rows = [rows_of(s.images, images) for s in sets]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(100))
    assert [np.bincount(s.labels).tolist() for s in sets] == [[40, 40], [5, 5], [5, 5]]
    for image_set, found in zip(sets, rows, strict=True):
        np.testing.assert_array_equal(image_set.labels, labels[found])


def test_images_of_any_kind_and_size_become_rgb_squares(tmp_path):
    for i, mode in enumerate(["RGB", "RGBA", "L", "P", "1"] * 4):
        path = tmp_path / "abc"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new(mode, (10 + i, 50 - i)).save(path)
    for size in (None, 7):
        image_set = load_dataset(f"imagefolder:{tmp_path}", "train", size=size)
        assert image_set.images.shape == (16, 3, size or 32, size or 32)


def test_a_label_means_the_same_class_in_train_and_test(tmp_path):
    write_class_folders(tmp_path / "train", ("cat", "dog", "owl"), 10, ".png", edge=4)
    write_class_folders(tmp_path / "test", ("dog", "owl"), 2, ".png", edge=4)
    test = load_dataset(f"imagefolder:{tmp_path}", "test")
    assert [test.classes[label] for label in test.labels] == ["dog", "dog", "owl", "owl"]
    assert test.classes == load_dataset(f"imagefolder:{tmp_path}", "train").classes
    write_class_folders(tmp_path / "test", ("yak",), 2, ".png", edge=4)
    with pytest.raises(ValueError, match="'yak' that train lacks"):
        load_dataset(f"imagefolder:{tmp_path}", "test")


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*one subfolder a class"):
        load_dataset(f"imagefolder:{tmp_path / 'nowhere'}")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no images in .*empty"):
        load_dataset(f"imagefolder:{tmp_path / 'empty'}")
