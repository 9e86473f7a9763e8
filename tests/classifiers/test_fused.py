"""A fused dense block gives what the plain layers give, and its gradients."""

import copy
import logging
import subprocess
from unittest import mock

import pytest
import torch
from torch import nn

from mistakes_lib import densenet_bc
from mistakes_lib.classifiers import fused
from mistakes_lib.classifiers.fused import block, loader

needs_kernels = pytest.mark.skipif(
    fused.kernels() is None, reason="no compiler, or a processor without bfloat16"
)
CASES = {  # (n, channels, growth rate, layers, h, w, channels behind a transition)
    "one layer": (2, 8, 4, 1, 8, 8, 0),
    "of the paper": (3, 24, 12, 3, 16, 16, 30),
    "odd in all": (5, 7, 3, 4, 5, 9, 7),
    "more rows than a chunk": (2, 20, 5, 2, 33, 31, 0),
    "transition of more than a chunk": (2, 10, 4, 1, 34, 40, 17),
    "one pixel": (9, 6, 2, 2, 1, 1, 0),
}


def bottlenecks(channels, growth_rate, count, compressed=0):
    """A network that is one dense block, with random normalisations; and a transition."""
    net = densenet_bc(2, depth=6 * count + 4, growth_rate=growth_rate, dropout=0.0)
    parts = [copy.deepcopy(part) for part in net.body[1 : 1 + count]]
    for index, part in enumerate(parts):
        c = channels + index * growth_rate
        part.layers[0] = nn.BatchNorm2d(c)
        part.layers[2] = nn.Conv2d(c, 4 * growth_rate, 1, bias=False)
    if compressed:
        parts.append(copy.deepcopy(net.body[1 + count]))
        parts[-1][0] = nn.BatchNorm2d(c + growth_rate)
        parts[-1][2] = nn.Conv2d(c + growth_rate, compressed, 1, bias=False)
    body = type(net.body)(*parts)
    for norm in (part for part in body.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return body.to(memory_format=torch.channels_last)


def trained_once(body, x, gradient, *, way, monkeypatch):
    """Output, the gradients of input and parameters, and running statistics; and who was asked."""
    monkeypatch.setenv("MISTAKES_FUSED", "1" if way == "fused" else "0")
    body, x = copy.deepcopy(body), x.clone(memory_format=torch.channels_last)
    if way == "float64":
        body, x = body.double(), x.double()
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=way != "float64"):
        y = body(x)
    assert ("_DenseBlock" in type(y.grad_fn).__name__) == (way == "fused")
    y.backward(gradient.to(y.dtype))
    found = {"y": y.detach(), "x.grad": x.grad} | dict(body.named_buffers())
    return found | {f"{name}.grad": p.grad for name, p in body.named_parameters()}


def error(found, wanted):
    wanted = wanted.double()
    return ((found.double() - wanted).norm() / wanted.norm().clamp_min(1e-6)).item()


@needs_kernels
@pytest.mark.parametrize("case", CASES)
def test_block_is_as_exact_as_torch_in_bfloat16(case, monkeypatch):
    n, channels, growth_rate, count, h, w, compressed = CASES[case]
    torch.manual_seed(0)
    body = bottlenecks(channels, growth_rate, count, compressed)
    x = (torch.randn(n, channels, h, w) + 1).bfloat16()
    shape = (n, channels + count * growth_rate, h, w)
    gradient = torch.randn((n, compressed, h // 2, w // 2) if compressed else shape).bfloat16()
    found = {
        way: trained_once(body, x, gradient, way=way, monkeypatch=monkeypatch)
        for way in ("float64", "plain", "fused")
    }
    ours, theirs = (
        {name: error(found[way][name], wanted) for name, wanted in found["float64"].items()}
        for way in ("fused", "plain")
    )
    assert ours["y"] <= 1.1 * theirs["y"] + 1e-3
    assert ours["x.grad"] <= 1.1 * theirs["x.grad"] + 1e-3
    assert sum(ours.values()) <= 1.1 * sum(theirs.values())
    for name, wanted in found["float64"].items():
        assert ours[name] <= 2 * theirs[name] + 0.02, name
        if "num_batches" in name:
            assert found["fused"][name] == wanted == 1


@needs_kernels
def test_running_statistics_are_those_of_torch(monkeypatch):
    torch.manual_seed(1)
    body = bottlenecks(10, 3, 1)
    x = (3 * torch.randn(4, 10, 6, 5) + 40).bfloat16()  # a mean far from zero
    gradient = torch.zeros(4, 13, 6, 5)
    found = trained_once(body, x, gradient, way="fused", monkeypatch=monkeypatch)
    rows = x.double().permute(1, 0, 2, 3).flatten(1)
    name = "0.layers.0.running_"
    torch.testing.assert_close(found[name + "mean"].double(), 0.1 * rows.mean(1), rtol=1e-6, atol=0)
    variance = 0.9 + 0.1 * rows.var(1)
    torch.testing.assert_close(found[name + "var"].double(), variance, rtol=1e-5, atol=0)


@needs_kernels
def test_threads_do_not_change_a_bit(monkeypatch):
    torch.manual_seed(2)
    body = bottlenecks(12, 4, 2, 9)
    x, gradient = torch.randn(7, 12, 20, 20).bfloat16(), torch.randn(7, 9, 10, 10)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(trained_once(body, x, gradient, way="fused", monkeypatch=monkeypatch))
    finally:
        torch.set_num_threads(before)
    for name, one in found[0].items():
        assert torch.equal(one, found[1][name]) and torch.equal(one, found[2][name]), name


def step(net, images, labels, mixed=True):
    """One step of SGD; returns the loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = nn.functional.cross_entropy(net(images).float(), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def tiny_networks(seed):
    """Three equal networks in training, images and labels."""
    torch.manual_seed(seed)
    net = densenet_bc(5, depth=10, growth_rate=4, dropout=0.0)
    net.to(memory_format=torch.channels_last).train()
    return net, copy.deepcopy(net), copy.deepcopy(net), torch.rand(16, 3, 12, 12)


@needs_kernels
def test_a_step_is_as_exact_as_torch_in_bfloat16(monkeypatch):
    labels, errors = torch.arange(16) % 5, []
    for seed in range(6):  # of one step alone, the errors differ by half
        exact, plain, ours, images = tiny_networks(seed)
        loss = step(exact, images, labels, mixed=False)
        monkeypatch.setenv("MISTAKES_FUSED", "0")
        assert step(plain, images, labels) == pytest.approx(loss, rel=5e-3)
        monkeypatch.delenv("MISTAKES_FUSED")
        assert step(ours, images, labels) == pytest.approx(loss, rel=5e-3)
        wanted, *found = (
            torch.cat([p.detach().flatten() for p in net.parameters()])
            for net in (exact, plain, ours)
        )
        errors.append([(weights - wanted).norm().item() for weights in found])
    theirs, mine = map(sum, zip(*errors, strict=True))
    assert 0 < mine < 1.2 * theirs


@needs_kernels
def test_eval_mode_is_torch_to_the_bit(monkeypatch):
    plain, ours, _, images = tiny_networks(0)
    monkeypatch.delenv("MISTAKES_FUSED", raising=False)
    step(ours, images, torch.arange(16) % 5)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(ours.state_dict())
    found = []
    for net, way in ((ours, "1"), (plain, "0")):
        monkeypatch.setenv("MISTAKES_FUSED", way)
        x = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net.eval()(x)
        found.append((logits, *torch.autograd.grad(logits.float().logsumexp(1).sum(), x)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer[0].eval(),
        lambda layer: layer.__setitem__(3, type(layer[3])(0.5)),
        lambda layer: setattr(layer[4], "momentum", None),
        lambda layer: setattr(layer[4], "momentum", 0.3),
        lambda layer: layer.__setitem__(0, nn.SyncBatchNorm(6)),
        lambda layer: layer[2].register_forward_hook(lambda *_: None),
        lambda layer: layer[2].double(),
    ],
)
def test_what_is_not_as_built_runs_on_torch(change):
    layer = bottlenecks(6, 2, 1)[0].layers
    x = torch.zeros(2, 6, 4, 4)
    with torch.autocast("cpu", torch.bfloat16), mock.patch.object(block, "kernels", object):
        assert fused.is_fusible([layer], x)
        change(layer)
        assert not fused.is_fusible([layer], x)
    assert not fused.is_fusible([bottlenecks(6, 2, 1)[0].layers], x)  # float32


def test_without_a_compiler_torch_computes_and_a_line_says_so(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MISTAKES_FUSED", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    loader._loaded.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            net = densenet_bc(3, depth=10, growth_rate=4, dropout=0.0)
            for _ in range(2):
                assert step(net, torch.rand(4, 3, 8, 8), torch.arange(4) % 3) > 0
    finally:
        loader._loaded.cache_clear()
    assert sum("torch's own kernels" in line for line in caplog.messages) == 1


def test_what_the_compiler_says_is_told(monkeypatch, tmp_path, caplog):
    failed = subprocess.CalledProcessError(1, "g++", stderr="fatal error: no such header")
    monkeypatch.setattr(loader, "compiled", mock.Mock(side_effect=failed))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    with caplog.at_level(logging.INFO):
        assert loader._loaded.__wrapped__() is None
    assert "no such header" in caplog.text
