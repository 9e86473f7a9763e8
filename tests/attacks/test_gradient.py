"""FGSM and BIM against torchattacks, and the laws of the ball."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from mistakes_lib.attacks import adaptive_bim, bim, fgsm, kurakin_steps
from mistakes_lib.classifiers import FeatureClassifier
from mistakes_lib.density import DiagonalGMM
from mistakes_lib.features.feature_set import extract_features

ULP = (
    2**-23
)  # of a float32 just below 1, with room for the two roundings of x ± ε and their difference
ATTACKS = [fgsm, bim]


def blob_images(n=200, seed=0):
    """Two classes of 3 × 6 × 6 images: brighter above or brighter below."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    images = rng.uniform(size=(n, 3, 6, 6))
    images[labels == 0, :, :3] *= 0.7
    images[labels == 1, :, 3:] *= 0.7
    return torch.tensor(images, dtype=torch.float32), torch.tensor(labels)


@pytest.fixture(scope="module")
def classifier():
    """A small convolutional network with batch norm and dropout, trained for a moment."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8 * 36, 16),
        nn.Tanh(),
    )
    classifier = FeatureClassifier(
        body, nn.Linear(16, 2), mean=(0.45, 0.45, 0.45), std=(0.3, 0.3, 0.3)
    )
    images, labels = blob_images(seed=1)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        cross_entropy(classifier(images), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    return classifier.eval()


def loss(classifier, images, labels):
    with torch.no_grad():
        return cross_entropy(classifier(images), labels).item()


@pytest.mark.parametrize("eps", [1 / 255, 8 / 255, 0.1])
def test_fgsm_equals_torchattacks(classifier, eps):
    images, labels = blob_images()
    peer = torchattacks.FGSM(classifier, eps=eps)(images, labels)
    torch.testing.assert_close(
        fgsm(classifier, images, labels, eps, device="cpu"), peer, rtol=0, atol=1e-7
    )


@pytest.mark.parametrize(
    ("eps", "step", "iterations"), [(4 / 255, 1 / 255, 7), (8 / 255, 2 / 255, 10), (0.1, 0.03, 5)]
)
def test_bim_equals_torchattacks(classifier, eps, step, iterations):
    images, labels = blob_images()
    peer = torchattacks.BIM(classifier, eps=eps, alpha=step, steps=iterations)(images, labels)
    ours = bim(classifier, images, labels, eps, step=step, iterations=iterations, device="cpu")
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("level", "iterations"),
    [(0.5, 1), (1, 1), (2, 2), (4, 5), (8, 10), (16, 20), (25.5, 29)],  # by hand, rounded down
)
def test_kurakins_own_steps(level, iterations):
    assert kurakin_steps(level / 255) == {"step": 1 / 255, "iterations": iterations}


def test_kurakins_steps_of_no_radius_are_refused():
    with pytest.raises(ValueError, match="not 8"):
        kurakin_steps(8)


def test_bim_takes_the_documented_default_step(classifier):
    images, labels = blob_images(50)
    ours = bim(classifier, images, labels, 8 / 255, device="cpu")
    explicit = bim(classifier, images, labels, 8 / 255, step=2 / 255, device="cpu")
    torch.testing.assert_close(ours, explicit, rtol=0, atol=1e-7)


def test_one_step_of_bim_is_fgsm(classifier):
    images, labels = blob_images(50)
    one = bim(classifier, images, labels, 0.05, iterations=1, device="cpu")
    assert torch.equal(one, fgsm(classifier, images, labels, 0.05, device="cpu"))


@pytest.mark.parametrize("eps", [2 / 255, 8 / 255, 0.1])
def test_attacks_raise_the_loss_and_bim_raises_it_at_least_as_much(classifier, eps):
    images, labels = blob_images()
    clean = loss(classifier, images, labels)
    one_step = loss(classifier, fgsm(classifier, images, labels, eps, device="cpu"), labels)
    many_steps = loss(classifier, bim(classifier, images, labels, eps, device="cpu"), labels)
    assert clean < one_step <= many_steps


@given(st.floats(0, 1), st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_attacks_stay_in_the_ball_and_in_the_unit_range(classifier, eps, seed, iterations):
    images, labels = blob_images(8, seed)
    images[0], images[1] = 0.0, 1.0  # the corners of the range
    for attacked in (
        fgsm(classifier, images, labels, eps, device="cpu"),
        bim(classifier, images, labels, eps, iterations=iterations, device="cpu"),
        bim(classifier, images, labels, eps, step=0.5, iterations=iterations, device="cpu"),
    ):
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        assert (attacked.double() - images.double()).abs().max() <= eps + ULP


def test_fgsm_reaches_the_sphere(classifier):
    """In the middle of the range nothing clips: every pixel with a gradient moves by exactly ε."""
    images, labels = blob_images(50)
    images = 0.3 + 0.4 * images
    moved = (fgsm(classifier, images, labels, 0.1, device="cpu") - images).abs()
    np.testing.assert_allclose(moved, 0.1, atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS)
def test_radius_zero_changes_nothing(classifier, attack):
    images, labels = blob_images(20)
    assert torch.equal(attack(classifier, images, labels, 0, device="cpu"), images)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_batch_size_changes_nothing(classifier, attack):
    """Only rounding differs, which may flip the sign of a vanishing gradient."""
    images, labels = blob_images(50)
    whole = attack(classifier, images, labels, 0.05, device="cpu")
    parts = attack(classifier, images, labels, 0.05, device="cpu", batch_size=7)
    assert (whole - parts).abs().gt(1e-6).float().mean() < 1e-3


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_classifier_is_left_as_it_was(classifier, attack):
    images, labels = blob_images(20)
    classifier.train()
    classifier.body[1].eval()  # a frozen batch norm inside a network in training
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    try:
        in_training = attack(classifier, images, labels, 0.05, device="cpu")
        assert classifier.training
        assert classifier.body[4].training
        assert not classifier.body[1].training
    finally:
        classifier.eval()
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name]), name
    # Dropout was off: the attack equals the one on the network in eval mode.
    assert torch.equal(in_training, attack(classifier, images, labels, 0.05, device="cpu"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_mode_is_restored_after_an_error(classifier, attack):
    classifier.train()
    try:
        with pytest.raises(RuntimeError):  # images of a size that the network does not take
            attack(classifier, torch.rand(2, 3, 9, 9), [0, 1], 0.1, device="cpu")
        assert classifier.training
    finally:
        classifier.eval()


@pytest.mark.parametrize("attack", ATTACKS)
def test_numpy_and_uint8_and_no_grad(classifier, attack):
    rng = np.random.default_rng(0)
    as_bytes = rng.integers(256, size=(10, 3, 6, 6), dtype=np.uint8)
    labels = rng.integers(2, size=10)
    as_floats = torch.tensor(as_bytes / 255, dtype=torch.float32)
    expected = attack(classifier, as_floats, labels, 0.05, device="cpu")
    with torch.no_grad():
        from_numpy = attack(classifier, as_bytes, labels, 0.05, device="cpu")
    assert isinstance(from_numpy, np.ndarray)
    assert from_numpy.dtype == np.float32
    np.testing.assert_array_equal(from_numpy, expected)
    from_bytes = attack(classifier, torch.tensor(as_bytes), labels, 0.05, device="cpu")
    assert torch.equal(from_bytes, expected)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_images_are_not_written_to(classifier, attack):
    images, labels = blob_images(10)
    array = images.numpy().copy()
    array.flags.writeable = False
    attacked = attack(classifier, array[::-1], labels.flip(0), 0.05, device="cpu")
    np.testing.assert_array_equal(array, images)
    assert not np.shares_memory(attacked, array)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("images", "labels", "eps", "message"),
    [
        (torch.full((2, 3, 6, 6), 1.5), [0, 1], 0.1, r"must lie in \[0, 1\]"),
        (torch.full((2, 3, 6, 6), -0.1), [0, 1], 0.1, r"must lie in \[0, 1\]"),
        (torch.rand(3, 6, 6), [0, 1, 1], 0.1, "must have shape"),
        (torch.full((2, 3, 6, 6), torch.nan), [0, 1], 0.1, "NaN"),
        (torch.rand(0, 3, 6, 6), [], 0.1, "empty"),
        (torch.rand(2, 3, 6, 6), [0], 0.1, "1 entries, but there are 2 rows"),
        (torch.rand(2, 3, 6, 6), [0, 2], 0.1, r"labels\[1\] is 2"),
        (torch.rand(2, 3, 6, 6), [0, 0.5], 0.1, "whole numbers"),
        (torch.rand(2, 3, 6, 6), [0, 1], -0.1, "eps must be a number in"),
        (torch.rand(2, 3, 6, 6), [0, 1], 8, "8/255, not 8"),
        (torch.rand(2, 3, 6, 6), [0, 1], np.nan, "eps must be a number in"),
    ],
)
def test_bad_input_gets_one_clear_error(classifier, attack, images, labels, eps, message):
    with pytest.raises(ValueError, match=message):
        attack(classifier, images, labels, eps, device="cpu")


def test_bad_settings_get_one_clear_error(classifier):
    images, labels = blob_images(2)
    for settings_, message in [
        ({"iterations": 0}, "iterations"),
        ({"step": 0.0}, "step must be a number above 0"),
        ({"batch_size": 0}, "batch_size"),
    ]:
        with pytest.raises(ValueError, match=message):
            bim(classifier, images, labels, 0.1, **settings_)
    with pytest.raises(TypeError, match="iterations"):
        bim(classifier, images, labels, 0.1, iterations=2.5)


# --- what users run into --------------------------------------------------------------------------


RETURNED = {
    "a tensor": lambda z: z,
    "a tuple": lambda z: (z, z.sum()),
    "a dict": lambda z: {"logits": z},
    "an object": lambda z: SimpleNamespace(logits=z),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("returned", RETURNED.values(), ids=RETURNED)
def test_any_network_that_returns_logits_is_attacked(classifier, attack, returned):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = classifier

        def forward(self, images):
            return returned(self.inner(images))

    images, labels = blob_images(20)
    expected = attack(classifier, images, labels, 0.05, device="cpu")
    assert torch.equal(attack(Plain(), images, labels, 0.05, device="cpu"), expected)


def test_a_network_without_logits_is_refused():
    class Silent(nn.Module):
        def forward(self, images):
            return None

    with pytest.raises(ValueError, match=r"Silent must return logits \(n, c\), but returns NoneTy"):
        fgsm(Silent(), torch.rand(2, 3, 6, 6), [0, 1], 0.1, device="cpu")


@pytest.mark.parametrize("attack", ATTACKS)
def test_gradients_that_are_exactly_zero_are_counted(classifier, attack, recwarn):
    """Logits times a million: the softmax is 1 in float32, and its gradient 0."""

    class Confident(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = classifier

        def forward(self, images):
            return 1e6 * self.inner(images)

    images, _ = blob_images(20)
    predicted = classifier(images).argmax(dim=1)
    with pytest.warns(UserWarning, match="gradient of 20 of 20 images is exactly zero"):
        attacked = attack(Confident(), images, predicted, 0.05, device="cpu")
    assert torch.equal(attacked, images)
    recwarn.clear()
    attack(classifier, images, predicted, 0.05, device="cpu")
    assert not recwarn.list


# --- an attack that knows of the detector --------------------------------------------------------


@pytest.fixture(scope="module")
def density(classifier):
    images, labels = blob_images(400, seed=2)
    features = extract_features(classifier, images, labels=labels, device="cpu").features
    return DiagonalGMM(3, reg_covar=0.1, random_state=0, device="cpu").fit(features)


def mean_log_likelihood(classifier, density, images):
    return density.score(extract_features(classifier, images, device="cpu").features)


def test_without_weight_the_adaptive_attack_is_bim(classifier, density):
    images, labels = blob_images()
    options = {"iterations": 5, "device": "cpu"}
    ours = adaptive_bim(classifier, density, images, labels, 0.1, weight=0, **options)
    assert torch.equal(ours, bim(classifier, images, labels, 0.1, **options))


def test_the_adaptive_attack_hides_what_bim_shows(classifier, density):
    """In the same ball: features more likely the more they weigh, and still mistaken."""
    images, labels = blob_images()
    likelihoods, losses = [], []
    for weight in (0, 0.03, 0.1, 1):
        options = {"weight": weight, "device": "cpu"}
        attacked = adaptive_bim(classifier, density, images, labels, 0.1, **options)
        assert (attacked - images).abs().max() <= 0.1 + ULP
        assert attacked.min() >= 0 and attacked.max() <= 1
        likelihoods.append(mean_log_likelihood(classifier, density, attacked))
        losses.append(loss(classifier, attacked, labels))
    assert sorted(likelihoods) == likelihoods
    assert sorted(losses, reverse=True) == losses
    assert losses[1] > 10 * loss(classifier, images, labels), "a hidden attack is an attack"


def test_one_adaptive_step_follows_the_gradient_of_both(classifier, density):
    images, labels = blob_images(6)
    x = images.clone().requires_grad_()
    features = classifier.features(x)
    likelihood = density.log_prob(features).sum() / features.shape[1]
    (cross_entropy(classifier.head(features), labels, reduction="sum") + 3 * likelihood).backward()
    expected = (images + 0.05 * x.grad.sign()).clamp(0, 1)
    options = {"weight": 3, "iterations": 1, "device": "cpu"}
    ours = adaptive_bim(classifier, density, images, labels, 0.05, **options)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_the_adaptive_attack_needs_a_weight_and_a_likelihood_with_a_gradient(classifier, density):
    images, labels = blob_images(4)
    with pytest.raises(ValueError, match="weight == -1, must be >= 0"):
        adaptive_bim(classifier, density, images, labels, 0.1, weight=-1)
    with pytest.raises(TypeError, match="has no log_prob"):
        adaptive_bim(classifier, object(), images, labels, 0.1, weight=1)
    with pytest.raises(ValueError, match="eps must be a number in"):
        adaptive_bim(classifier, density, images, labels, 8, weight=1)
