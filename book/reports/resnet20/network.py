"""ResNet-20 for CIFAR-10 (He et al., 2016), with the names that a public checkpoint has.

Only the architecture stands here. The weights, resnet20-12fca82f.th, are Yerlan Idelbayev's:
https://github.com/akamaster/pytorch_resnet_cifar10
"""

from torch import nn
from torch.nn.functional import pad, relu

__all__ = ["resnet20"]


class Block(nn.Module):
    def __init__(self, before, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.more = (planes - before) // 2  # channels of zeros on either side

    def forward(self, x):
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.more:  # a shortcut without weights
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

    def forward(self, x):  # (b, 3, 32, 32) → (b, 10)
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean(dim=(2, 3)))


def resnet20():
    return ResNet(3)
