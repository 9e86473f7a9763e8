"""A checkpoint as public repositories hold them: its accuracy is printed, wrong settings alarm."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from tests.helpers.commands import mistakes

MODULE = """
from torch import nn


def colour(channels=3):
    return nn.Sequential(
        nn.Conv2d(channels, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(216, 10),
    )


def grey():
    return colour(1)
"""
NETWORKS = {"colour": 3, "grey": 1}  # channels
HALF = {  # what they were trained with
    "colour": ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"),
    "grey": ("--mean", "0.5", "--std", "0.5"),
}
NAMES = [f"class_{i}" for i in range(1, 11)]  # sorted as text, class_10 would be the second
PARTS = {"train": slice(0, 1000), "validation": slice(1000, 1400), "test": slice(1400, 1797)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits as grey PNGs of 8 × 8 in folders, and networks trained on them for a second."""
    folder, digits = tmp_path_factory.mktemp("strangers"), load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))  # other writers come last
    pixels, labels = (digits.images[order] * 15.9).astype(np.uint8), digits.target[order]
    for part, rows in PARTS.items():
        for i in range(*rows.indices(len(pixels))):
            path = folder / "images" / part / NAMES[labels[i]] / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i]).save(path)
    (folder / "strangers_network.py").write_text(MODULE)
    (folder / "order.txt").write_text("\n".join(NAMES))
    return folder, {name: train(name, pixels, labels, folder) for name in NETWORKS}


def train(name, pixels, labels, folder):
    """Write a network's checkpoint; its accuracy on the test images, computed by torch alone."""
    names = {}
    exec(MODULE, names)
    torch.manual_seed(0)
    net, channels = names[name](), NETWORKS[name]
    images = torch.tensor(pixels)[:, None].expand(-1, channels, -1, -1) / 127.5 - 1
    labels = torch.tensor(labels)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(6):
        for rows in torch.randperm(1000).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimiser.step()
    weights = {f"module.{k}": v for k, v in net.state_dict().items() if "num_batches" not in k}
    torch.save({"state_dict": weights, "best_prec1": 95.0, "epoch": 6}, folder / f"{name}.th")
    with torch.no_grad():
        right = net.eval()(images[PARTS["test"]]).argmax(dim=1) == labels[PARTS["test"]]
    return float(right.double().mean())


def report(name, *options):
    """What ``mistakes report`` finds: facts, console, page."""
    command = ["--model", f"strangers_network:{name}", "--weights", f"{name}.th"]
    result = mistakes("report", *command, "--images", "images", "--components", 5, *options)
    assert result.exit_code == 0, result.output
    facts = json.loads(Path("report", "report.json").read_text())
    return facts, result.stdout, Path("report", "report.html").read_text(encoding="utf-8")


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder[0])


@pytest.fixture
def accuracy_of(folder):
    return folder[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_known_accuracy_is_printed_and_nothing_alarms(here, accuracy_of, name):
    accuracy = accuracy_of[name]
    facts, console, page = report(name, *HALF[name], "--classes", "order.txt")
    assert 0.9 < accuracy < 1
    assert facts["inputs"]["accuracy"]["test"] == pytest.approx(accuracy, abs=1e-12)
    assert f"test: 397 images, images/test; accuracy {accuracy:.1%}\n" in console
    assert f"<td>397 images, images/test; accuracy {accuracy:.1%}</td>" in page
    assert not any("accuracy" in alarm["alarm"] for alarm in facts["alarms"]), facts["alarms"]


TRUE = "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
ORDER = ("--classes", "order.txt")


@pytest.mark.parametrize(
    ("name", "options", "cure"),
    [
        ("colour", (*HALF["colour"],), f"for --classes: {', '.join(NAMES)}"),
        ("colour", ("--mean", "-3,-3,-3", *ORDER), TRUE),
        ("colour", (*HALF["colour"], "--size", 32, *ORDER), "--size 8"),
        ("colour", (*HALF["colour"], "--size", 4, *ORDER), "--size 8"),
        ("grey", ("--mean", "127.5", "--std", "0.5", *ORDER), "--mean 0.5 --std 0.5"),
        ("grey", (*HALF["grey"], "--size", 32, *ORDER), "--size 8"),
    ],
)
def test_a_wrong_setting_alarms_on_the_console_and_on_the_page(here, name, options, cure):
    facts, console, page = report(name, *options)
    cures = [alarm["cure"] for alarm in facts["alarms"]]
    assert any(cure in each for each in cures), (cures, facts["inputs"]["accuracy"])
    for alarm in facts["alarms"]:
        assert f"ALARM: {alarm['alarm']}\n" in console
        assert f"what to do: {alarm['cure']}\n" in console
        assert f"<strong>{alarm['alarm']}.</strong>" in page
        assert f"What to do: {alarm['cure']}." in " ".join(page.split())
