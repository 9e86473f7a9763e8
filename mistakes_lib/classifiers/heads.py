"""The last linear layer of anybody's network: which it is, what enters it, what follows it."""

from collections.abc import Mapping

import torch
from torch import nn

from mistakes_lib.classifiers.weights import unwrap

__all__ = ["HeadInput", "as_linear", "find_head", "input_channels", "logits_of"]

HALVES = (torch.float16, torch.bfloat16)


def input_channels(net):
    """Channels of the images that a network takes: those of its first convolution.

    Args:
        net: ``nn.Module``.

    Returns:
        int, or None for a network without convolutions.

    Example:
        >>> input_channels(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)))
        1
    """
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def find_head(net, name=None):
    """The last linear layer of a network.

    Args:
        net: ``nn.Module``.
        name: its name, if it is not the last one in the network's own order.

    Returns:
        (name, candidates): its name, and dict of name → layer of all that could be it.

    Raises:
        ValueError: no linear layer, or none of that name, or TorchScript.

    Example:
        >>> find_head(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)))[0]
        '2'
    """
    if isinstance(net, torch.jit.ScriptModule):
        raise ValueError(
            f"{type(net).__name__} is TorchScript, which does not show what enters its last layer: "
            "pass the Python network and load the weights with load_state_dict"
        )
    linear = {n: m for n, m in net.named_modules() if isinstance(m, nn.Linear)}
    pointwise = {n: m for n, m in net.named_modules() if _is_pointwise(m)}
    candidates = linear or pointwise
    if name is not None and name in pointwise:
        candidates = pointwise
    if not candidates:
        raise ValueError(
            f"{type(net).__name__} has no nn.Linear layer and no 1×1 convolution, so it has no "
            "features to model: wrap it in FeatureClassifier(body, head) yourself"
        )
    name = name if name is not None else list(candidates)[-1]
    if name not in candidates:
        raise ValueError(f"no linear layer {name!r}; candidates: {', '.join(candidates)}")
    return name, candidates


def as_linear(layer):
    """A layer as an ``nn.Linear`` with two or more outputs.

    Args:
        layer: ``nn.Linear``, or ``nn.Conv2d`` with a kernel of 1×1.

    Returns:
        ``nn.Linear`` with the same parameters; of a convolution, and of a layer with one output z,
        whose logits are (0, z), with a copy of them.

    Example:
        >>> as_linear(nn.Linear(3, 1))(torch.zeros(1, 3)).shape
        torch.Size([1, 2])
    """
    if isinstance(layer, nn.Linear) and layer.out_features > 1:
        if not isinstance(layer.weight, nn.Parameter):  # computed, as by weight_norm
            return layer
        linear = nn.Linear(layer.in_features, layer.out_features, device="meta")
        linear.weight, linear.bias = layer.weight, layer.bias
        return linear
    weight = layer.weight.detach().flatten(1)  # (c, d)
    bias = torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias.detach()
    if len(weight) == 1:
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = torch.cat([torch.zeros_like(bias), bias])
    linear = nn.Linear(weight.shape[1], len(weight), device=weight.device, dtype=weight.dtype)
    linear.load_state_dict({"weight": weight, "bias": bias})
    return linear


def logits_of(net, images):
    """The logits (n, c) in what a network returns, be it a tensor, a tuple, a dict or an object.

    One logit z for each image counts as the two logits (0, z). Of probabilities, as a softmax gives
    them, the logarithms are logits. Of several matrices, such as features and logits, the one is
    taken that is called logits or that is as wide as the last linear layer.

    Args:
        net: ``nn.Module``.
        images: tensor (n, 3, h, w), float; the network gets it in its own precision.

    Raises:
        ValueError: it returns no matrix of numbers, or several of which none can be told to be the
            logits; or the images have another number of channels than the network takes.

    Example:
        >>> logits_of(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), torch.rand(5, 3, 1, 1)).shape
        torch.Size([5, 2])
    """
    try:
        output = net(images.to(_precision(net)))
    except RuntimeError as error:
        channels = input_channels(net)
        if channels in (None, images.shape[1]):
            raise
        raise ValueError(
            f"images have {images.shape[1]} channels, but {type(net).__name__} takes {channels}: "
            f"pass images of shape (n, {channels}, h, w)"
        ) from error
    found = [tensor for tensor in _tensors(output) if tensor.shape[:1] == images.shape[:1]]
    found = [tensor for tensor in found if tensor.ndim == 2 and tensor.is_floating_point()]
    if not found:
        raise ValueError(
            f"{type(net).__name__} must return logits (n, c), but returns {type(output).__name__}"
        )
    alike = len({each.shape[1] for each in found}) == 1
    logits = found[0] if alike else _as_wide(net, found)
    if _are_probabilities(logits.detach()):
        return logits.clamp(min=torch.finfo(logits.dtype).tiny).log()
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _precision(net):
    """The dtype in which a network takes images: of what standardises them, or of its weights."""
    own = [*net.buffers(recurse=False), *net.parameters()]
    return next((each.dtype for each in own if each.is_floating_point()), torch.float32)


def _are_probabilities(logits):
    """Whether every row (n, c) is one of a softmax."""
    close = 1e-2 if logits.dtype in HALVES else 1e-5
    sums = logits.double().sum(dim=1)
    return logits.shape[1] > 1 and bool((logits >= 0).all() and ((sums - 1).abs() < close).all())


def _as_wide(net, found):
    """Of several matrices the one as wide as the network's last linear layer."""
    try:
        name, candidates = find_head(unwrap(net))
    except ValueError:
        name = None
    if name is not None:
        width = as_linear(candidates[name]).out_features
        fitting = [each for each in found if each.shape[1] in (width, 1 if width == 2 else width)]
        if fitting:
            return fitting[0]
    shapes = ", ".join(str(tuple(each.shape)) for each in found)
    raise ValueError(
        f"{type(net).__name__} returns several matrices, {shapes}: wrap it in "
        "FeatureClassifier.from_module(net, head=…) with the name of its last linear layer"
    )


class HeadInput(nn.Module):
    """Run a whole network and return what entered its last layer.

    Args:
        net: ``nn.Module``.
        layer: name of its last layer.
        candidates: names of all layers that could be it, for the message.
    """

    def __init__(self, net, layer, candidates):
        super().__init__()
        self.net, self.layer, self.candidates = net, layer, candidates
        self._verified = False

    def watch(self, layer, linear):
        """Say which layer is observed, and which linear layer stands for it."""
        self._layers = (layer, linear)  # a tuple: the layer is already a part of net

    def forward(self, images):
        """Features (n, d) of standardised images (n, 3, h, w)."""
        layer, linear = self._layers
        seen = []
        # A copy, and before the layer runs: ReLU(inplace=True) may change its input afterwards.
        hook = layer.register_forward_pre_hook(
            lambda _, inputs, named: seen.append((*inputs, *named.values())[0].clone()),
            with_kwargs=True,
        )
        try:
            output = self.net(images)
        finally:
            hook.remove()
        features = seen[0] if len(seen) == 1 else None
        if features is not None and features.ndim == 4:
            features = features.mean(dim=(2, 3))  # a 1×1 convolution before global pooling
        if not self._verified:
            self._verify(features, output, linear)
        return features

    def _verify(self, features, output, linear):
        outputs = [value for value in _tensors(output) if value.ndim == 2]
        if features is None or features.ndim != 2:
            self._refuse("is not called once for each batch of images", linear)
        if not outputs:
            kinds = type(output).__name__
            self._refuse(f"does not give the network's output, which is no (n, c) but {kinds}",
                         linear)  # fmt: skip
        with torch.no_grad():
            logits = linear(features)
        for found in outputs:
            scale = _scale(logits, found)
            if scale is not None:
                _multiply(linear, scale)
                self._verified = True
                return
        shape = tuple(outputs[0].shape)
        self._refuse(
            f"does not give the network's output {shape}: neither its values, a multiple of them, "
            "nor their softmax",
            linear,
        )

    def _refuse(self, why, linear):
        others = [name for name in self.candidates if name != self.layer]
        advice = (
            f"pass head=… with the name of the last linear layer (other candidates: "
            f"{', '.join(others)})"
            if others
            else "it is the only linear layer: wrap the network in FeatureClassifier(body, head) "
            "with what comes before its logits as body"
        )
        raise ValueError(f"layer {self.layer!r}, {tuple(linear.weight.shape)}, {why}; {advice}")


def _multiply(linear, scale):
    """Give a linear layer parameters of its own, times the factor of a temperature behind it."""
    if scale == 1:
        return
    with torch.inference_mode(False), torch.no_grad():  # later gradients need usual tensors
        linear.weight = nn.Parameter(linear.weight * scale)
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias * scale)


def _is_pointwise(module):
    return isinstance(module, nn.Conv2d) and set(module.kernel_size) == {1} and module.groups == 1


def _tensors(output):
    """The tensors in what a network returns, the likeliest first; (n, c, 1, 1) as (n, c)."""
    if torch.is_tensor(output):
        flat = output.flatten(1) if output.ndim == 4 and output.shape[2:] == (1, 1) else output
        return [flat[:, None] if flat.ndim == 1 else flat]
    if hasattr(output, "logits") and torch.is_tensor(output.logits):
        return _tensors(output.logits)
    if isinstance(output, Mapping):
        named = [output[key] for key in ("logits",) if key in output]
        others = [value for key, value in output.items() if key != "logits"]
        return [tensor for value in [*named, *others] for tensor in _tensors(value)]
    if isinstance(output, list | tuple):
        return [tensor for value in output for tensor in _tensors(value)]
    return []


def _scale(logits, found):
    """The factor by which logits were multiplied on the way out; None if it is not only that.

    A softmax, a log-softmax or, for the logits (0, z), a sigmoid count as the factor 1: logits are
    what they were made of.
    """
    close = 1e-2 if found.dtype in HALVES else 1e-4
    found, logits = found.double(), logits.double()
    tolerance = {"rtol": close, "atol": close * float(logits.abs().max().clamp(max=1))}
    probabilities = logits.softmax(dim=1)
    if found.shape[1] == 1 and logits.shape[1] == 2:
        own, probability = logits[:, 1:], probabilities[:, 1:]
        same = [own, probability]
    elif found.shape == logits.shape:
        same = [logits, probabilities, logits.log_softmax(dim=1)]
    else:
        return None
    if any(torch.allclose(found, each, **tolerance) for each in same):
        return 1.0
    factor = float((found * same[0]).sum() / same[0].square().sum().clamp(min=1e-30))
    return factor if factor > 0 and torch.allclose(found, factor * same[0], **tolerance) else None
