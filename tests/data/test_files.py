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
    common_size,
    list_files,
    list_unlabelled,
    natural_order,
    read_image,
    split_files,
    used_images,
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
    assert files["test"].origin == f"10% of {tmp_path}"


@pytest.mark.parametrize(
    ("layout", "expected", "validation"),
    [
        (("train", "validation", "test"), ([20, 20], [6, 6], [4, 4]), "{}/validation"),
        (("train", "val", "test"), ([20, 20], [6, 6], [4, 4]), "{}/val"),
        (("train", "test"), ([18, 18], [2, 2], [4, 4]), "10% of {}/train"),
        (("train", "val"), ([20, 20], [3, 3], [3, 3]), "half of {}/val"),
        (("train",), ([16, 16], [2, 2], [2, 2]), "10% of {}/train"),
        (("Train", "valid", "TEST"), ([20, 20], [6, 6], [4, 4]), "{}/valid"),
        (("training", "dev", "testing"), ([20, 20], [6, 6], [4, 4]), "{}/dev"),
    ],
)
def test_folders_that_are_divided_already_are_taken_so(tmp_path, layout, expected, validation):
    sizes = (20, 4) if layout == ("train", "test") else (20, 6, 4)
    for name, size in zip(layout, sizes, strict=False):
        write(tmp_path / name, {"cat": size, "dog": size})
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


# --- what users run into -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_deep_grey_images_are_scaled_by_their_depth(tmp_path, suffix):
    """Pillow alone clips: everything above 255 of 65535 would be white."""
    deep = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / f"x.{suffix}")
    found = np.asarray(read_image(tmp_path / f"x.{suffix}"))
    assert found.shape == (8, 8, 3)
    np.testing.assert_allclose(found[..., 0], deep / 257, atol=1)
    assert len(np.unique(found)) > 32


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_known_range_are_refused_by_name(tmp_path, dtype):
    Image.fromarray(np.full((4, 4), 70000, dtype)).save(tmp_path / "depth.tif")
    with pytest.raises(ValueError, match=r"depth\.tif .*without a known range; save it with 8 or"):
        read_image(tmp_path / "depth.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_red_green_and_blue(tmp_path, mode):
    from mistakes_lib.data import reading

    image = Image.new("RGB", (4, 4), (255, 255, 255))
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        image = image.convert(mode)
    red, green, blue = reading.as_rgb(image).getpixel((0, 0))
    assert min(red, green, blue) >= 254


@pytest.mark.parametrize("suffix", ["gif", "tiff", "ppm", "webp", "JPEG", "bmp", "jp2", "tga"])
def test_every_format_of_pillow_is_found(tmp_path, suffix):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / "cat" / f"x.{suffix}")
    (path,) = list_files(tmp_path).paths
    assert read_image(path).size == (8, 8)


def test_images_in_subfolders_of_a_class_are_found_and_the_rest_is_counted(tmp_path):
    write(tmp_path, {"cat/2020/may": 3, "cat/2021": 2, "cat": 1, "dog": 4, "emu": 0})
    write(tmp_path / "__MACOSX", {"cat": 2})
    write(tmp_path / ".ipynb_checkpoints", {"cat": 2})
    (tmp_path / "cat" / "._000.png").write_bytes(b"of a Mac")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"of Windows")
    (tmp_path / "dog" / "notes.txt").write_text("said")
    (tmp_path / "read.me").write_text("said")
    files = list_files(tmp_path)
    assert files.classes == class_names(tmp_path) == ("cat", "dog")
    assert np.bincount(files.labels).tolist() == [6, 4]
    assert files.passed_over == {
        "hidden or made by the system": 4,
        "no images (.txt)": 1,
        "subfolders without images (emu)": 1,
        "files outside the class folders (read.me)": 1,
    }


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    write(tmp_path, {"cat": 2})
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    assert len(list_files(tmp_path)) == 2


def test_splits_that_cannot_be_meant_are_named(tmp_path):
    for name in ("val", "test"):
        write(tmp_path / name, {"cat": 3, "dog": 3})
    with pytest.raises(ValueError, match=r"has test, val but no train: .*trained on, in .*train"):
        split_files(tmp_path)
    write(tmp_path / "train", {"cat": 9, "dog": 9})
    write(tmp_path / "valid", {"cat": 3, "dog": 3})
    with pytest.raises(ValueError, match="two folders of validation images, val and valid"):
        split_files(tmp_path)


def test_what_may_be_a_split_or_a_class_is_refused(tmp_path):
    write(tmp_path / "train", {"cat": 9, "dog": 9})
    write(tmp_path, {"originals": 9})
    expected = r"may be a split with the classes cat, dog, or a class beside originals: take orig"
    with pytest.raises(ValueError, match=expected):
        split_files(tmp_path)
    with pytest.raises(ValueError, match=expected):
        class_names(tmp_path)


def test_a_class_may_be_called_train_and_a_flat_test_folder_is_passed_over(tmp_path):
    write(tmp_path / "a", {"train": 20, "bus": 20})
    assert class_names(tmp_path / "a") == ("bus", "train")
    write(tmp_path / "b" / "train", {"cat": 20, "dog": 20})
    write(tmp_path / "b", {"test": 5})
    files = split_files(tmp_path / "b")
    assert counts(files)["test"] == [2, 2]
    assert files["train"].passed_over == {"folders beside the splits (test)": 1}


def test_natural_order_is_timms(tmp_path):
    from timm.data.readers.reader_image_folder import find_images_and_targets

    names = [f"class_{i}" for i in range(1, 12)] + ["10", "9", "Zebra", "ant"]
    write(tmp_path, dict.fromkeys(names, 1))
    _, numbers = find_images_and_targets(str(tmp_path))
    expected = tuple(sorted(numbers, key=numbers.get))
    assert natural_order(names) == expected == class_names(tmp_path, natural=True)
    assert class_names(tmp_path) == tuple(sorted(names)) != expected


def test_the_common_size_is_that_of_all(tmp_path):
    write(tmp_path, {"cat": 3})
    paths = list_files(tmp_path).paths
    assert common_size(paths) == (4, 4)
    Image.new("RGB", (5, 4)).save(tmp_path / "cat" / "z.png")
    assert common_size(list_files(tmp_path).paths) is None
    assert Preprocessing()(Image.new("RGB", (5, 4))).shape == (3, 4, 5)
    assert "grey" in str(Preprocessing(channels=1)) and "size as it is" in str(Preprocessing())


# --- their relatives ------------------------------------------------------------------------------


def test_numbers_with_a_sign_are_refused_by_name(tmp_path):
    """Such as the densities of a CT scan, −1024 … 3071: as unsigned ones, air would be white."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[339] = 2  # SampleFormat: signed
    scan = np.linspace(-1024, 3071, 16).astype(np.int16).reshape(4, 4)
    Image.fromarray(scan.view(np.uint16)).save(tmp_path / "scan.tif", tiffinfo=tags)
    with pytest.raises(
        ValueError, match=r"scan\.tif .*with a sign, without a known range; save it"
    ):
        read_image(tmp_path / "scan.tif")


@pytest.mark.parametrize("maximum", [15, 255, 1023, 4095, 65535])
def test_pixels_of_any_depth_reach_from_black_to_white(tmp_path, maximum):
    values = np.linspace(0, maximum, 16).round()
    raw = values.astype(">u2" if maximum > 255 else "u1").tobytes()
    (tmp_path / "x.pgm").write_bytes(b"P5\n4 4\n%d\n" % maximum + raw)
    found = np.asarray(read_image(tmp_path / "x.pgm"))[..., 0].ravel()
    np.testing.assert_allclose(found, values / maximum * 255, atol=1)


def test_two_outputs_of_one_name_do_not_share_a_folder(tmp_path):
    """ImageNet has two classes "crane" and two "maillot": each image would be there twice."""
    write(tmp_path, {"crane": 20, "otter": 20})
    with pytest.raises(ValueError, match="class 'crane', but two of the outputs are called so"):
        split_files(tmp_path, ("crane", "otter", "crane"))
    files = split_files(tmp_path, ("crane", "maillot", "maillot", "otter"))
    assert counts(files)["train"] == [16, 0, 0, 16]


@pytest.mark.parametrize("inside", ["data", "data/cifar", "train/images"])
def test_a_folder_around_the_classes_is_no_class(tmp_path, inside):
    write(tmp_path / inside, {"cat": 20, "dog": 20})
    assert class_names(tmp_path) == ("cat", "dog")
    assert counts(split_files(tmp_path))["train"] == [16, 16]
    assert counts(split_files(tmp_path, ("dog", "cat")))["train"] == [16, 16]


def test_a_folder_around_the_splits_is_no_class(tmp_path):
    for part, count in (("train", 20), ("test", 5)):
        write(tmp_path / "data" / part, {"cat": count, "dog": count})
    assert counts(split_files(tmp_path))["test"] == [5, 5]


def test_one_class_with_folders_inside_is_a_class(tmp_path):
    write(tmp_path / "train", {"cat/2020": 20, "cat/2021": 20, "dog": 20})
    write(tmp_path / "test", {"cat/2020": 3, "cat/2021": 3})
    assert counts(split_files(tmp_path, ("cat", "dog")))["test"] == [6, 0]


def test_classes_that_are_divided_each_are_refused(tmp_path):
    """Else images that the network was trained on would be tested on."""
    write(tmp_path, {"cat/train": 20, "cat/test": 5, "dog/train": 20, "dog/test": 5})
    with pytest.raises(ValueError, match=r"divided into test, train: put these first .*test/cat"):
        split_files(tmp_path)


def test_images_beside_the_splits_are_counted_and_their_size_does_not_matter(tmp_path):
    write(tmp_path / "train", {"cat": 20, "dog": 20})
    write(tmp_path / "test", {"cat": 5, "dog": 5})
    (tmp_path / "originals").mkdir()
    for path in (tmp_path / "preview.png", tmp_path / "originals" / "large.png"):
        Image.new("RGB", (400, 300)).save(path)
    assert split_files(tmp_path)["train"].passed_over == {
        "folders beside the splits (originals)": 1,
        "images outside the class folders (preview.png)": 1,
    }
    assert len(used_images(tmp_path)) == 50
    assert common_size(used_images(tmp_path)) == (4, 4)
    with pytest.raises(FileNotFoundError, match="no folder"):
        used_images(tmp_path / "nowhere")
