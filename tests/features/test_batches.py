"""Images come in whatever holds them; what is no image is said."""

from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.features.feature_set import extract_features

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(10, 3, 8, 8), dtype=np.uint8)
LABELS = RNG.integers(3, size=10)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return FeatureClassifier(nn.Flatten(), nn.Linear(192, 3), mean=(0.5,) * 3, std=(0.25,) * 3)


class Dicts(Dataset):
    """As Hugging Face's data sets with a torch format give them."""

    def __init__(self, images, labels, label="labels"):
        self.images, self.labels, self.label = images, labels, label

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return {"pixel_values": self.images[row], self.label: int(self.labels[row])}


TENSORS = torch.tensor(IMAGES)
SOURCES = {
    "a loader of single tensors": lambda: DataLoader(TensorDataset(TENSORS), batch_size=4),
    "a Dataset": lambda: TensorDataset(TENSORS, torch.tensor(LABELS)),
    "a Dataset of single tensors": lambda: TensorDataset(TENSORS),
    "a Dataset of dicts": lambda: Dicts(TENSORS, LABELS),
    "a loader of dicts": lambda: DataLoader(Dicts(TENSORS, LABELS, "label"), batch_size=3),
    "a loader with more than labels": lambda: DataLoader(
        TensorDataset(TENSORS, torch.tensor(LABELS), torch.arange(10)), batch_size=4
    ),
    "labels in a column": lambda: [(TENSORS, LABELS[:, None])],
    "(n, h, w, 3)": lambda: IMAGES.transpose(0, 2, 3, 1),
    "(n, h, w, 3) tensor": lambda: TENSORS.permute(0, 2, 3, 1),
    "half precision": lambda: (TENSORS / 255).half(),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_holder_of_images_is_read(classifier, source):
    found = extract_features(classifier, SOURCES[source](), device="cpu")
    expected = (IMAGES / 255 - 0.5) / 0.25
    np.testing.assert_allclose(found.features, expected.reshape(10, -1), atol=4e-3)
    if found.labels is not None:
        np.testing.assert_array_equal(found.labels, LABELS)
    assert (found.labels is None) == (
        source in ("a loader of single tensors", "a Dataset of single tensors", "half precision")
        or "(n" in source
    )


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (IMAGES.astype(np.float32), r"must lie in \[0, 1\], got values from 0 to 255: pass uint8"),
        ((IMAGES / 255 - 0.5) / 0.25, "the classifier standardises by itself, so leave out your"),
        ([torch.tensor(IMAGES / 255 - 0.5)], "leave out your loader's Normalize"),
    ],
)
def test_images_of_another_range_are_refused(classifier, images, complaint):
    with pytest.raises(ValueError, match=complaint):
        extract_features(classifier, images, device="cpu")


def test_a_classifier_that_does_not_standardise_takes_standardised_images():
    plain = FeatureClassifier(nn.Flatten(), nn.Linear(192, 3))
    standardised = ((IMAGES / 255 - 0.5) / 0.25).astype(np.float32)
    found = extract_features(plain, [{"pixel_values": standardised}], device="cpu")
    np.testing.assert_array_equal(found.features, standardised.reshape(10, -1))
    with pytest.raises(ValueError, match="pass uint8 or divide by 255"):
        extract_features(plain, IMAGES.astype(np.float32), device="cpu")


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (IMAGES / 255 / 255, "were the images divided by 255 twice"),
        ((IMAGES / 255).round().astype(np.uint8), "do not convert them to uint8"),
    ],
)
def test_images_that_are_nearly_black_are_doubted(classifier, images, complaint):
    with pytest.warns(UserWarning, match=complaint):
        extract_features(classifier, images, device="cpu")


def test_labels_of_a_dict_under_an_unknown_key_are_said(classifier):
    """Such as those of CIFAR-100 at Hugging Face, which has two kinds."""
    batch = {"img": TENSORS, "fine_label": LABELS, "coarse_label": LABELS}
    with pytest.warns(UserWarning, match="a dict with fine_label, coarse_label, but the keys of l"):
        found = extract_features(classifier, [batch], device="cpu")
    assert found.labels is None


def test_pairs_of_an_image_and_its_label_are_batches_of_one(classifier):
    pairs = zip(TENSORS[:, None], torch.tensor(LABELS), strict=True)
    found = extract_features(classifier, pairs, device="cpu")
    np.testing.assert_array_equal(found.labels, LABELS)


def test_labels_that_are_given_twice_must_be_the_same(classifier):
    loader = [(TENSORS, LABELS)]
    again = extract_features(classifier, loader, labels=torch.tensor(LABELS), device="cpu")
    np.testing.assert_array_equal(again.labels, LABELS)
    for others in (1 - np.asarray(LABELS), LABELS[:3]):
        with pytest.raises(ValueError, match="labels are given, but the images bring others"):
            extract_features(classifier, loader, labels=others, device="cpu")


@pytest.mark.parametrize("net", [nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), "vgg"])
def test_a_network_that_is_not_wrapped_is_told_how(net):
    net = torchvision.models.alexnet(num_classes=3) if net == "vgg" else net  # has "features"
    with pytest.raises(TypeError, match=r"must be a FeatureClassifier, .*from_module\(net, mean="):
        extract_features(net, IMAGES, device="cpu")


@pytest.mark.parametrize("wrap", [nn.DataParallel, partial(torch.compile, backend="eager")])
def test_a_wrapped_classifier_is_unwrapped(classifier, wrap):
    expected = extract_features(classifier, IMAGES, device="cpu")
    found = extract_features(wrap(classifier), IMAGES, device="cpu")
    np.testing.assert_array_equal(found.features, expected.features)


@pytest.mark.parametrize("images", [IMAGES[0], list(IMAGES)])
def test_single_images_are_told_from_batches(classifier, images):
    with pytest.raises(ValueError, match=r"give a single image as images\[None\], and a list of"):
        extract_features(classifier, images, device="cpu")


class Paths(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, row):
        return object(), 0


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (3, "must be an array, a tensor, a Dataset or an iterable of batches, got int"),
        ("images.npy", "got str"),
        ({"pixel_values": IMAGES}, "got dict"),
        ([{"text": [1]}], "a dict with the keys text: none of them is pixel_values"),
        ([()], "a batch is empty"),
        (Paths(), "give it a transform such as torchvision's ToTensor"),
    ],
)
def test_what_holds_no_images_is_said(classifier, source, complaint):
    with pytest.raises(TypeError, match=complaint):
        extract_features(classifier, source, device="cpu")


def test_the_network_is_moved_before_gradients_are_given_up(monkeypatch):
    """A parameter made in inference mode could never be trained on again."""
    classifier, seen = FeatureClassifier(nn.Flatten(), nn.Linear(192, 3)), []
    move = classifier.to

    def to(*arguments):
        seen.append(torch.is_inference_mode_enabled())
        return move(*arguments)

    monkeypatch.setattr(classifier, "to", to)
    extract_features(classifier, IMAGES, device="cpu")
    assert seen == [False]
    classifier(TENSORS / 255).sum().backward()
