"""The list of known classes names what is there, and finds the images."""

import numpy as np
import pytest

from mistakes_lib.data import ImageSet, load_dataset
from mistakes_lib.data.overlap import KNOWN_CLASSES, known_classes, rows_of_strangers


def some(classes, labels):
    images = np.zeros((5 if labels is None else len(labels), 3, 2, 2), dtype=np.uint8)
    return ImageSet(images, labels, classes, "some", "some")


def test_the_classes_that_a_reviewer_named_are_known_to_cifar_10():
    names = {name for name, _ in known_classes("cifar10").values()}
    assert names >= {
        "tabby", "Persian cat", "Egyptian cat", "Labrador retriever", "golden retriever",
        "Chihuahua", "Yorkshire terrier", "German shepherd", "standard poodle", "bullfrog",
        "tailed frog", "convertible", "beach wagon", "albatross", "goose", "black stork",
    }  # fmt: skip


def test_strangers_are_counted_by_hand():
    pets = some(("n02123045", "n01443537", "n02669723"), [0, 0, 1, 2, 1])  # tabby, goldfish, gown
    assert rows_of_strangers(pets, "cifar10").tolist() == [False, False, True, True, True]
    assert rows_of_strangers(pets, "cifar100").tolist() == [True, True, False, True, False]


@pytest.mark.data
@pytest.mark.parametrize("data_set", KNOWN_CLASSES)
def test_every_id_is_one_of_tiny_imagenets_and_every_class_one_of_the_data_sets(data_set):
    strange, known = load_dataset("tiny_imagenet", "test"), known_classes(data_set)
    assert set(known) <= set(strange.classes)
    try:
        classes = set(load_dataset(data_set, "test", download=False).classes)
    except FileNotFoundError:
        pytest.skip(f"{data_set} is not among the images at hand")
    assert {own for _, own in known.values()} <= classes
    rows = rows_of_strangers(strange, data_set)
    assert rows.sum() == len(rows) - 50 * len(known)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no overlap of classes is listed for 'svhn'"):
        known_classes("svhn")
    with pytest.raises(ValueError, match="are no WordNet ids"):
        rows_of_strangers(some(("cat",), [0]), "cifar10")
    with pytest.raises(ValueError, match="some has no labels"):
        rows_of_strangers(some(("n1",), None), "cifar10")
