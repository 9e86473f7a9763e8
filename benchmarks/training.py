"""Training speed: our loop against a plain one on torchvision's closest network, in one run.

    python -m benchmarks.training [--images 256] [--repeats 3] [--compile]

The plain loop is the usual one: a DataLoader with torchvision's transforms, float32, one batch
after another. Its networks are put together from torchvision's own parts, with a stem for images of
32 × 32 pixels. Prints a table and writes it to benchmarks/results.md.
"""

import os
from statistics import median
from time import perf_counter
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import transforms
from torchvision.models import DenseNet
from torchvision.models.resnet import BasicBlock

from benchmarks.measuring import (
    as_table,
    copy_rate,
    machine,
    new_parser,
    ratio,
    spread,
    start,
)
from benchmarks.results import headline, named, write_section
from mistakes_lib import Recipe, densenet_bc, train, wide_resnet
from mistakes_lib.classifiers.fused import kernels

WAYS = {
    "ours, float32": {"precision": "float32"},
    "ours, bfloat16": {"precision": "bfloat16"},
    "ours, compiled": {"precision": "bfloat16", "compile": True},
}
# In images: 50 a second by the plain loop where the wish was written down, 150 wanted of ours.
WANTED = {"DenseNet-BC-100-12": 150 / 50}
EDGES = 16, 24, 32  # pixels, of the table of fused blocks

COMPILED = """ *compiled*: bfloat16 and
torch.compile, as the published runs are trained; compiling itself is not counted."""


def plain_densenet():
    """torchvision's DenseNet-BC-100-12: compression 0.5 and bottlenecks are its defaults."""
    net = DenseNet(12, (16, 16, 16), num_init_features=24, drop_rate=0.2, num_classes=10)
    net.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    net.features.norm0 = net.features.relu0 = net.features.pool0 = nn.Identity()
    return net


def plain_wide_resnet(depth=28, widen_factor=10):
    """A WRN-28-10 of torchvision's residual blocks (it has none of this shape)."""
    layers, width = [nn.Conv2d(3, 16, 3, padding=1, bias=False)], 16
    for stage, planes in enumerate(16 * widen_factor * 2**i for i in range(3)):
        for block in range((depth - 4) // 6):
            stride = 2 if stage and not block else 1
            shortcut = None
            if stride > 1 or width != planes:
                shortcut = nn.Sequential(
                    nn.Conv2d(width, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
                )
            layers.append(BasicBlock(width, planes, stride, shortcut))
            width = planes
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Transformed(torch.utils.data.Dataset):
    """Images that are transformed one by one when the loader asks for them."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.transform(self.images[row].permute(1, 2, 0).numpy()), self.labels[row]


def plain_epoch(net, images, labels, batch_size, device):
    """One epoch as most scripts have it; returns seconds."""
    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop(32, padding=2),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )
    loader = torch.utils.data.DataLoader(
        Transformed(images, labels, transform), batch_size, shuffle=True
    )
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    net.to(device).train()
    started = perf_counter()
    for batch, target in loader:
        loss = F.cross_entropy(net(batch.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()  # a GPU has finished when it has answered
    return perf_counter() - started


def our_epoch(net, images, labels, batch_size, device, **options):
    """Seconds of the second epoch of :func:`mistakes_lib.train`; the first may compile."""
    recipe = Recipe(epochs=2, batch_size=batch_size, lr=0.01, milestones=(), **options)
    return train(net, images, labels, recipe, device=device, progress=False)[-1]["seconds"]


def measure(ours, plain, images, labels, batch_size, repeats, device, ways):
    """Seconds of epochs of the plain loop and of ours, in turns: way → list."""
    seconds = {name: [] for name in ("plain, float32", *ways)}
    for repeat in range(-1, repeats):
        times = {"plain, float32": plain_epoch(plain, images, labels, batch_size, device)}
        for name, options in ways.items():
            times[name] = our_epoch(ours, images, labels, batch_size, device, **options)
        for name, time in times.items() if repeat >= 0 else ():  # the first round warms up
            seconds[name].append(time)
    return seconds


def networks(widen_factor):
    """Name → our network, the plain one, its batch, and the share of the images that it gets."""
    wide = wide_resnet(10, widen_factor=widen_factor), plain_wide_resnet(widen_factor=widen_factor)
    return {
        "DenseNet-BC-100-12": (densenet_bc(10), plain_densenet(), 64, 1),
        f"WRN-28-{widen_factor}": (*wide, 100, 1 / 4),  # of WRN-28-10, 20 times the work
    }


def compare(name, parts, images, labels, repeats, device, ways):
    """A row of the table, which ends with how much faster each way is than the plain loop, and
    the headline of the last way."""
    ours, plain, batch_size, share = parts
    n = max(2, int(share * len(images)))
    batch_size = min(batch_size, n)
    seconds = measure(ours, plain, images[:n], labels[:n], batch_size, repeats, device, ways)
    rates = [spread([n / time for time in times]) for times in seconds.values()]
    theirs, *own = seconds.values()
    line = headline(
        f"training {name}, {list(ways)[-1].removeprefix('ours, ')}",
        f"plain loop, float32, {named('torchvision')}",
        theirs,
        own[-1],
        wanted=WANTED.get(name),
        limit=traffic(plain, n / median(own[-1])),
        reason="passes over these inputs wait for memory",
    )
    return [name, n, batch_size, *rates, *(ratio(theirs, times) for times in own)], line


def normalised_bytes(net, edge=32):
    """Bytes of bfloat16 that the normalisations of a network read for one image."""
    sizes = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].numel()))
        for layer in net.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, edge, edge, device=next(net.parameters()).device))
    for hook in hooks:
        hook.remove()
    return 2 * sum(sizes)


def traffic(net, rate):
    """In words: how often an image's normalisations could read their inputs while it is trained.

    Args:
        net: the plain network, whose normalisations read their inputs from memory.
        rate: images a second that ours trains.
    """
    of_bytes = normalised_bytes(net)
    return (
        f"{rate:.0f} images/s; normalisations read {of_bytes / 1e6:.1f} MB an image, and in its "
        f"time the machine's memory moves that {copy_rate() / rate / of_bytes:.0f} times"
    )


def step_seconds(net, images, labels, fused):
    """Seconds of one step's forward and backward pass in bfloat16."""
    with mock.patch.dict(os.environ, MISTAKES_FUSED=str(int(fused))):
        started = perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(net(images).float(), labels)
        loss.backward()
        return perf_counter() - started


def compare_fused(edge, repeats, batch_size=64):
    """A row: DenseNet-BC-100-12 without dropout, on torch's kernels and with fused blocks."""
    net = densenet_bc(10, dropout=0.0).to(memory_format=torch.channels_last)
    images = torch.rand(batch_size, 3, edge, edge).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch_size) % 10
    seconds = {False: [], True: []}
    for repeat in range(-1, repeats):
        for fused, times in seconds.items():
            time = step_seconds(net, images, labels, fused)
            times += [time] * (repeat >= 0)  # the first round warms up
    rates = [spread([batch_size / time for time in times]) for times in seconds.values()]
    return [f"{edge} × {edge}", batch_size, *rates, ratio(*seconds.values())]


def fused_table(repeats):
    """Text: fused dense blocks against the same network on torch's kernels; CPU only."""
    if kernels() is None:
        return "Fused dense blocks: not measured, see `mistakes_lib.classifiers.fused`."
    rows = []
    for edge in EDGES:
        rows.append(compare_fused(edge, repeats))
        print(rows[-1], flush=True)
    head = ["pixels", "batch", "torch's kernels", "fused blocks", "fused / torch's"]
    return f"""DenseNet-BC-100-12 without dropout on the CPU, bfloat16, forward and backward pass,
images a second; `MISTAKES_FUSED=0` against the default, in turns.

{as_table(head, rows)}"""


def main(argv=None):
    parser = new_parser(__doc__, repeats=3)
    parser.add_argument("--images", type=int, default=256, help="images an epoch")
    parser.add_argument("--widen-factor", type=int, default=10, help="of the wide residual network")
    parser.add_argument("--compile", action="store_true", help="minutes of compiling first")
    arguments = start(parser, argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(256, size=(arguments.images, 3, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(10, size=arguments.images))
    ways = dict(list(WAYS.items())[: 3 if arguments.compile else 2])
    rows, lines = [], []
    for name, parts in networks(arguments.widen_factor).items():
        row, line = compare(name, parts, images, labels, arguments.repeats, device, ways)
        rows.append(row)
        lines.append(line)
        print(rows[-1], flush=True)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    head = ["network", "images", "batch", "plain, float32", *ways]
    head += [f"{name.removeprefix('ours, ')} / plain" for name in ways]
    text = f"""{machine("torchvision")}; on {where}. Images of 32 × 32 a second, median
(least–greatest) of {arguments.repeats} epochs, loops taking turns.{COMPILED * arguments.compile}

{as_table(head, rows)}

{fused_table(arguments.repeats)}"""
    write_section("training", "Training: images per second", text, lines)


if __name__ == "__main__":
    main()
