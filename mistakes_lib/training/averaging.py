"""Averages of the weights along a training, which often generalise better than the last ones."""

from contextlib import contextmanager

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of a network's weights and batch-normalisation statistics.

    After each step every floating-point value v updates its average a ← α a + (1 − α) v, from the
    values at the start (Polyak & Juditsky 1992; Izmailov et al. 2018,
    https://arxiv.org/abs/1803.05407).

    Args:
        network: a module on its final device.
        decay: α in (0, 1); 1 / (1 − α) is about the number of steps averaged over.

    Example:
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(0.0)
        >>> average = WeightAverage(layer, decay=0.75)
        >>> _ = layer.weight.data.fill_(1.0)
        >>> average.update()
        >>> average.values["weight"].item()
        0.25
    """

    def __init__(self, network, decay):
        self.network = network
        self.values = {name: value.clone() for name, value in self._current().items()}
        self._update = get_ema_multi_avg_fn(decay)

    def _current(self):
        """Name → the network's own value, not a copy."""
        state = self.network.state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point()}

    @torch.no_grad()
    def update(self):
        """Take in the values that the network has now."""
        self._update(list(self.values.values()), list(self._current().values()), None)

    def apply(self):
        """Let the network have the average from now on."""
        self.network.load_state_dict(self.values, strict=False)

    @contextmanager
    def applied(self):
        """Let the network have the average for a while."""
        before = {name: value.clone() for name, value in self._current().items()}
        self.apply()
        try:
            yield
        finally:
            self.network.load_state_dict(before, strict=False)
