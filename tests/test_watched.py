"""From images to flags in one call: in a loop, in a web service, from a file."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.classifiers.loading import Network
from mistakes_lib.data.reading import Preprocessing
from mistakes_lib.detector import Detector, Watched, fit_detector
from mistakes_lib.features.feature_set import extract_features
from mistakes_lib.scores import Energy


def images(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(n, 3, 8, 8), dtype=np.uint8), rng.integers(3, size=n)


def trained():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(16, 3))  # fmt: skip


@pytest.fixture(scope="module")
def watched():
    net = trained()
    classifier = FeatureClassifier.from_module(net, mean=(0.5,) * 3, std=(0.25,) * 3)
    sets = []
    for n, seed in ((300, 0), (200, 1)):
        pixels, _ = images(n, seed)
        labels = extract_features(classifier, pixels, device="cpu").predictions
        labels[::7] = (labels[::7] + 1) % 3
        sets.append(extract_features(classifier, pixels, labels=labels, device="cpu"))
    network = Network(classifier, Preprocessing(8, 8), ("a", "b", "c"), "a toy", "4")
    return Watched(network, fit_detector(*sets), device="cpu")


def test_flags_are_those_of_the_detector_on_the_features(watched):
    pixels, _ = images(20, 2)
    seen = extract_features(watched.classifier, pixels, device="cpu")
    np.testing.assert_array_equal(watched.flag(pixels), watched.detector.flag(seen))
    scores = watched.score_samples(pixels)
    assert scores.shape == (20,) and scores.dtype == np.float64
    np.testing.assert_array_equal(scores < watched.detector.threshold, watched.flag(pixels))


def test_images_of_pil_are_read_as_the_network_wants_them(watched):
    pixels, _ = images(3, 2)
    pictures = [Image.fromarray(each.transpose(1, 2, 0)) for each in pixels]
    np.testing.assert_allclose(
        watched.score_samples(pictures), watched.score_samples(pixels), rtol=1e-5
    )
    larger = [pictures[0].resize((16, 12)), pictures[1]]
    assert watched.flag(larger).shape == (2,) and watched.flag(pictures[0]).shape == (1,)
    bare = Watched(watched.classifier, watched.detector, device="cpu")
    with pytest.raises(TypeError, match="images of PIL need a preprocessing"):
        bare.flag(pictures)
    with pytest.raises(TypeError, match="network must be a FeatureClassifier, got Sequential"):
        Watched(trained(), watched.detector)


def test_one_file_brings_it_back_for_the_same_network(watched, tmp_path):
    path = tmp_path / "watched.safetensors"
    watched.save(path)
    pixels, _ = images(20, 2)
    for net in (trained(), nn.DataParallel(trained()), watched.classifier):
        again = Watched.load(path, net, device="cpu")
        np.testing.assert_array_equal(again.score_samples(pixels), watched.score_samples(pixels))
        assert again.preprocessing == watched.preprocessing
        assert again.classes == ("a", "b", "c")
    other = trained()
    nn.init.zeros_(other[4].weight)
    with pytest.raises(ValueError, match="is of a network with other weights: load the weights fi"):
        Watched.load(path, other)
    watched.detector.save(tmp_path / "detector.safetensors")
    with pytest.raises(ValueError, match="holds a Detector, not a Watched"):
        Watched.load(tmp_path / "detector.safetensors", trained())
    assert Detector.load(tmp_path / "detector.safetensors").threshold == watched.detector.threshold
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        Watched.load(path, trained())


def test_another_standardisation_or_another_network_is_refused(watched, tmp_path):
    path = tmp_path / "watched.safetensors"
    watched.save(path)
    other = FeatureClassifier.from_module(trained(), mean=(0.1,) * 3, std=(0.9,) * 3)
    with pytest.raises(ValueError, match=r"is of a network with mean .* this one has \(0\.1"):
        Watched.load(path, other)
    with pytest.raises(ValueError, match=r"watched\.safetensors is of another network: no linear"):
        Watched.load(path, nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
    with pytest.raises(TypeError, match="detector must be a Detector, got Energy"):
        Watched(watched.classifier, Energy())


def test_pictures_of_16_bits_are_not_clipped(watched):
    """An X-ray as PIL holds it: by ``convert("RGB")``, all above 255 of 65535 would be white."""
    pixels = np.random.default_rng(0).integers(256, size=(20, 20), dtype=np.uint8)
    deep = Image.fromarray(pixels.astype(np.uint16) * 257)
    expected = watched.score_samples(Image.fromarray(pixels))
    np.testing.assert_array_equal(watched.score_samples(deep), expected)
    np.testing.assert_array_equal(watched.score_samples([deep]), expected)
    with pytest.raises(ValueError, match="32-bit numbers without a known range"):
        watched.flag(Image.fromarray(pixels.astype(np.float32)))


def test_in_the_loop_of_a_loader(watched):
    pixels, labels = images(20, 2)
    loader = DataLoader(TensorDataset(torch.tensor(pixels), torch.tensor(labels)), batch_size=6)
    flags = np.concatenate([watched.flag(batch) for batch, _ in loader])
    np.testing.assert_array_equal(flags, watched.flag(pixels))
    np.testing.assert_array_equal(watched.flag(loader), flags)


def test_in_a_web_service(watched, tmp_path):
    """A handler of FastAPI: an image file comes in, a flag goes out."""
    fastapi = pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    watched.save(tmp_path / "watched.safetensors")

    service = fastapi.FastAPI()
    serving = Watched.load(tmp_path / "watched.safetensors", trained(), device="cpu")

    async def judge(request: fastapi.Request):
        image = Image.open(io.BytesIO(await request.body()))
        (score,) = serving.score_samples(image)
        return {"score": score, "suspicious": bool(score < serving.detector.threshold)}

    service.post("/judge")(judge)

    picture = Image.fromarray(images(1, 3)[0][0].transpose(1, 2, 0))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    answer = testclient.TestClient(service).post("/judge", content=buffer.getvalue()).json()
    assert answer["suspicious"] == bool(watched.flag(picture)[0])
    assert answer["score"] == pytest.approx(watched.score_samples(picture)[0])
