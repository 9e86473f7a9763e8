"""Checkpoints for CIFAR-10 that somebody else trained and published, as their files are."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mistakes_lib.cli.app import app

NETWORK = """
from torch import nn
from torch.nn.functional import pad, relu


class Block(nn.Module):
    def __init__(self, before, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.more = (planes - before) // 2

    def forward(self, x):
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.more:  # option A of He et al. 2016: stride 2, zero channels on both sides
            x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
        return relu(out + x)


class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        before = 16
        for i, planes in enumerate((16, 32, 64), start=1):
            strides = [2 if i > 1 else 1] + [1] * (blocks - 1)
            layer = [Block(before if j == 0 else planes, planes, s) for j, s in enumerate(strides)]
            setattr(self, f"layer{i}", nn.Sequential(*layer))
            before = planes
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean(dim=(2, 3)))


def resnet20():
    return ResNet(3)
"""
ROOT = Path(os.environ.get("MISTAKES_DATA", "."))
WEIGHTS = ROOT / "foreign" / "resnet20-12fca82f.th"
GIVEN = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs foreign/resnet20-12fca82f.th")
def test_a_strangers_checkpoint_has_its_known_accuracy(tmp_path, monkeypatch):
    """91.7 % on all test images, on 1,000 within three standard errors; trained on train."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strangers.py").write_text(NETWORK)
    for part, count in (("train", 60), ("test", 100)):
        for folder in sorted((ROOT / "cifar10" / part).iterdir()):
            (tmp_path / "images" / part / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                (tmp_path / "images" / part / folder.name / path.name).symlink_to(path)
    command = ["report", "--model", "strangers:resnet20", "--weights", str(WEIGHTS)]
    result = CliRunner().invoke(app, [*command, "--images", "images", *GIVEN, "--workers", "0"])
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["inputs"]["accuracy"]["test"] == pytest.approx(0.917, abs=0.026)
    assert facts["inputs"]["accuracy"]["train"] > 0.98
    assert "32 × 32; size as it is" in result.stdout
