"""Checkpoints for CIFAR-10 that somebody else trained and published, as their files are."""

import json
import os
from pathlib import Path

import pytest
import torch

from mistakes_lib.support.locations import REPORTS
from tests.helpers.commands import mistakes

# The architecture as the book's chapter shows it, and its deeper sister.
NETWORK = (REPORTS / "resnet20" / "network.py").read_text(encoding="utf-8")
NETWORK += "\n\ndef resnet56():\n    return ResNet(9)\n"
ROOT = Path(os.environ.get("MISTAKES_DATA", "."))
WEIGHTS = {
    "resnet20": ROOT / "foreign" / "resnet20-12fca82f.th",
    "resnet56": ROOT / "foreign" / "resnet56-4bfd9763.th",
}
MEAN, STD = ("--mean", "0.485,0.456,0.406"), ("--std", "0.229,0.224,0.225")
ORDER = sorted(
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
)

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(path.is_file() for path in WEIGHTS.values()),
        reason="needs resnet20-12fca82f.th and resnet56-4bfd9763.th in the folder foreign",
    ),
]


@pytest.fixture
def link(tmp_path, monkeypatch):
    """A function that links the first images of each class; the current folder has the network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strangers.py").write_text(NETWORK)

    def images(train, test, names=ORDER):
        for part, count in (("train", train), ("test", test)):
            for own, name in zip(ORDER, names, strict=True):
                folder = tmp_path / "images" / part / name
                folder.mkdir(parents=True)
                for path in sorted((ROOT / "cifar10" / part / own).iterdir())[:count]:
                    (folder / path.name).symlink_to(path)

    return images


def report(network, *options):
    """What ``mistakes report`` finds: facts, console, page."""
    command = ["--model", f"strangers:{network}", "--weights", WEIGHTS[network]]
    result = mistakes("report", *command, "--images", "images", "--workers", 0, *options)
    assert result.exit_code == 0, result.output
    facts = json.loads(Path("report", "report.json").read_text())
    return facts, result.stdout, Path("report", "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("network", "known"), [("resnet20", 0.9173), ("resnet56", 0.9339)])
def test_a_strangers_checkpoint_has_its_known_accuracy(link, network, known):
    """Their authors' on all test images; on 1,000 within three standard errors."""
    kept = torch.load(WEIGHTS[network], weights_only=True, map_location="cpu")
    assert set(kept) == {"state_dict", "best_prec1"}, "wrapped, beside another value"
    assert all(key.startswith("module.") for key in kept["state_dict"])
    assert not any(key.endswith("num_batches_tracked") for key in kept["state_dict"])
    link(60, 100)
    facts, console, _ = report(network, *MEAN, *STD)
    error = (known * (1 - known) / 1000) ** 0.5
    assert facts["inputs"]["accuracy"]["test"] == pytest.approx(known, abs=3 * error)
    assert facts["inputs"]["accuracy"]["train"] > 0.98
    assert "32 × 32; size as it is" in console


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--mean", "0,0,0", *STD), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (("--mean", "0,0,0", "--std", "1,1,1"), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (("--mean", "123.7,116.3,103.5", *STD), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ((*MEAN, *STD, "--size", 224), "--size 32"),
        ((*MEAN, *STD, "--size", 16), "--size 32"),
        ((*MEAN, *STD, "--classes", "turned.txt"), f"for --classes: {', '.join(ORDER)}"),
    ],
    ids=["no mean", "no normalisation", "mean of 0…255", "enlarged", "made smaller", "order"],
)
def test_a_wrong_setting_of_a_real_network_alarms(link, options, cure):
    link(30, 30)
    Path("turned.txt").write_text("\n".join([*ORDER[1:], ORDER[0]]))
    assert_alarm(*report("resnet20", *options), cure)


def test_folders_in_another_order_than_the_outputs_alarm(link):
    """Numbered from 1, as the toolkit that trained the network counts them, but sorted as text."""
    names = [f"class_{i}" for i in range(1, 11)]
    link(30, 30, names)
    assert_alarm(*report("resnet20", *MEAN, *STD), f"for --classes: {', '.join(names)}")


def assert_alarm(facts, console, page, cure):
    assert facts["inputs"]["accuracy"]["train"] < 0.9
    assert any(cure in alarm["cure"] for alarm in facts["alarms"]), facts["alarms"]
    assert "ALARM: " in console and cure in console
    assert 'class="alarm"' in page and cure in page
