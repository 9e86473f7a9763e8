"""Folders of images are divided as they are laid out, and read as torchvision's networks want."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import normalize

from mistakes_lib.data.files import (
    Preprocessing,
    class_names,
    list_files,
    list_unlabelled,
    read_image,
    split_files,
)


def write(folder, counts):
    """Class → number of images, every image another shade."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (4, 4), (i, i, i)).save(folder / name / f"{i:03}.png")
    return folder


def counts(files):
    return {
        name: np.bincount(part.labels, minlength=len(part.classes)).tolist()
        for name, part in files.items()
    }


def test_one_subfolder_a_class_is_divided_by_the_seed(tmp_path):
    write(tmp_path, {"cat": 20, "dog": 40})
    files = split_files(tmp_path)
    assert counts(files) == {"train": [16, 32], "validation": [2, 4], "test": [2, 4]}
    paths = {name: list(part.paths) for name, part in files.items()}
    assert len({path for part in paths.values() for path in part}) == 60
    assert all(
        path.parent.name == part.classes[label]
        for part in files.values()
        for path, label in zip(part.paths, part.labels, strict=True)
    )
    again, other = split_files(tmp_path), split_files(tmp_path, seed=1)
    assert paths == {name: list(part.paths) for name, part in again.items()}
    assert paths["test"] != list(other["test"].paths)
    assert files["test"].origin == f"10 % of {tmp_path}"


@pytest.mark.parametrize(
    ("layout", "expected", "validation"),
    [
        (("train", "validation", "test"), ([20, 20], [6, 6], [4, 4]), "{}/validation"),
        (("train", "val", "test"), ([20, 20], [6, 6], [4, 4]), "{}/val"),
        (("train", "test"), ([18, 18], [2, 2], [4, 4]), "10 % of {}/train"),
        (("train", "val"), ([20, 20], [3, 3], [3, 3]), "half of {}/val"),
    ],
)
def test_folders_that_are_divided_already_are_taken_so(tmp_path, layout, expected, validation):
    sizes = {"train": 20, "validation": 6, "val": 6, "test": 4}
    for name in layout:
        write(tmp_path / name, {"cat": sizes[name], "dog": sizes[name]})
    files = split_files(tmp_path)
    assert class_names(tmp_path) == ("cat", "dog")
    assert tuple(counts(files).values()) == expected
    assert files["validation"].origin == validation.format(tmp_path)
    paths = [path for part in files.values() for path in part.paths]
    assert len(paths) == len(set(paths))


def test_labels_follow_the_networks_own_order(tmp_path):
    write(tmp_path, {"cat": 10, "dog": 20})
    files = split_files(tmp_path, ("dog", "emu", "cat"))
    assert counts(files)["train"] == [16, 0, 8]
    with pytest.raises(ValueError, match=r"has a class 'cat' that the network lacks: .* 'cart'"):
        split_files(tmp_path, ("cart", "dog"))


def test_what_cannot_be_divided_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        split_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="too few images of a class to be split"):
        split_files(write(tmp_path / "few", {"cat": 1, "dog": 30}))
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    for look in (list_files, list_unlabelled, split_files):
        with pytest.raises(FileNotFoundError, match=r"no images in .*empty"):
            look(tmp_path / "empty")


def test_a_damaged_image_is_named(tmp_path):
    whole = Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype="uint8"))
    whole.save(tmp_path / "whole.png")
    contents = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(contents[: len(contents) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("half.png", "text.jpg"):
        with pytest.raises(ValueError, match=rf"{name} is damaged or no image"):
            read_image(tmp_path / name)


def test_images_without_classes_are_found_at_any_depth(tmp_path):
    write(tmp_path, {"a/b": 2, "c": 3})
    files = list_unlabelled(tmp_path)
    assert len(files) == 5 and files.labels is None
    assert files.prepared(Preprocessing(4, 4))[0].shape == (3, 4, 4)


@pytest.mark.parametrize("shape", [(300, 400), (500, 260), (100, 90)])
def test_preprocessing_is_torchvisions(shape):
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    preset = weights.transforms()
    pixels = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype="uint8")
    image = Image.fromarray(pixels)
    ours = Preprocessing(256, 224, "bilinear")(image)
    assert ours.dtype == torch.uint8
    torch.testing.assert_close(normalize(ours / 255, preset.mean, preset.std), preset(image))
