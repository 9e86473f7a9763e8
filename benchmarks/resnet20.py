"""A ResNet-20 for images of 32 × 32, with the names of the public checkpoints for CIFAR-10."""

from torch import nn
from torch.nn.functional import pad, relu

__all__ = ["resnet20"]


class Block(nn.Module):
    """Two convolutions and a shortcut without weights (He et al. 2016, option A)."""

    def __init__(self, before, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.more = (planes - before) // 2

    def forward(self, x):
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
        return relu(out + x)


class ResNet20(nn.Module):
    """Three stages of three blocks; 0.27 million parameters."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        before = 16
        for stage, planes in enumerate((16, 32, 64), start=1):
            blocks = []
            for stride in (2 if stage > 1 else 1, 1, 1):
                blocks.append(Block(before, planes, stride))
                before = planes
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean(dim=(2, 3)))


def resnet20():
    """The network, with random weights."""
    return ResNet20()
