"""The loop that all trainings share, against torch alone: resume, averages, what is refused."""

import json
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mistakes_lib.support.storage import load_arrays
from mistakes_lib.training.loop import Checkpoint, adopt_average, averaged, run_epochs

CPU = torch.device("cpu")
SIGNATURE = json.dumps({"seed": 0, "recipe": "adam"})
OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True),
}


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def step(network, optimizer):
    """One step on random rows: all its draws come from torch's global state."""
    rows = torch.randn(8, 3)
    loss = (network.train()(rows) - rows.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def run(checkpoint, epochs, **options):
    """Epochs of two steps each, after what the checkpoint has; the history of all."""
    history = checkpoint.load()

    def one_epoch(epoch, bar):
        losses = [step(checkpoint.network, checkpoint.optimizer) for _ in range(2)]
        return {"loss": sum(losses)}

    bars = lambda epoch: nullcontext()  # noqa: E731
    options = {"epochs": epochs, "bars": bars, "device": CPU} | options
    run_epochs(one_epoch, checkpoint, history, **options)
    return history


def assert_same(ours, expected):
    for name, value in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_after_each_epoch_it_ends_as_torch_alone(tmp_path, optimizer):
    """A new process each time: other initial weights, another random state."""
    peer = small_network()
    peers = OPTIMIZERS[optimizer](peer.parameters())
    losses = [step(peer, peers) + step(peer, peers) for _ in range(4)]
    for epochs in (1, 2, 3, 4):
        network = small_network(seed=0 if epochs == 1 else 10 + epochs)
        own = OPTIMIZERS[optimizer](network.parameters())
        checkpoint = Checkpoint(tmp_path / "file", SIGNATURE, network, own, random_state=True)
        history = run(checkpoint, epochs)
        assert len(history) == epochs
    assert_same(network, peer)
    assert [record["loss"] for record in history] == losses
    kept = {name.partition(".")[0] for name in load_arrays(tmp_path / "file")[0]}
    entries = {"adam": {"exp_avg", "exp_avg_sq", "step"}, "sgd": {"momentum"}}[optimizer]
    assert kept == {"weights", "random_state", *entries}


def test_the_average_is_the_closed_form_and_goes_on_after_a_kill(tmp_path):
    """a_n = α^n w_0 + (1 − α) Σ α^(n − k) w_k, from the weights at the start."""
    decay, seen = 0.75, []

    def trained(epochs, seed):
        network = small_network(seed)
        own = torch.optim.SGD(network.parameters(), lr=0.05)
        average = averaged(network, own, get_ema_multi_avg_fn(decay))
        seen.append([network[0].weight.detach().clone()])
        own.register_step_post_hook(lambda *_: seen[-1].append(network[0].weight.detach().clone()))
        options = {"average": average, "random_state": True}
        run(Checkpoint(tmp_path / "file", SIGNATURE, network, own, **options), epochs)
        return network, average

    trained(1, seed=0)
    network, average = trained(3, seed=5)
    weights = [*seen[0], *seen[1][1:]]  # w_0, two steps, then four more
    expected = decay**6 * weights[0]
    for k, value in enumerate(weights[1:], start=1):
        expected = expected + (1 - decay) * decay ** (6 - k) * value
    torch.testing.assert_close(average.module[0].weight.detach(), expected)
    counter = network[1].num_batches_tracked.clone()
    adopt_average(network, average)
    torch.testing.assert_close(network[0].weight.detach(), expected)
    assert torch.equal(network[1].running_mean, average.module[1].running_mean)
    assert torch.equal(network[1].num_batches_tracked, counter), "a counter has no average"


def test_other_tensors_are_restored_in_place(tmp_path):
    network = small_network()
    own = OPTIMIZERS["sgd"](network.parameters())
    for value in (1.0, 2.0):
        state = {"targets": torch.full((2, 3), value)}
        checkpoint = Checkpoint(tmp_path / "file", SIGNATURE, network, own, state=state)
        if value == 1.0:
            checkpoint.save([{"loss": 0.0}])
    assert checkpoint.load() == [{"loss": 0.0}]
    assert torch.equal(state["targets"], torch.ones(2, 3))


def test_stop_is_asked_before_each_epoch_and_the_main_process_told_after_it():
    network = small_network()
    own = OPTIMIZERS["sgd"](network.parameters())
    told = []
    history = run(
        Checkpoint(None, None, network, own),
        epochs=9,
        stop=lambda history: len(history) == 3,
        tell=lambda epoch, record: told.append((epoch, record["loss"])),
    )
    assert [loss for _, loss in told] == [record["loss"] for record in history]
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    assert all(record["seconds"] >= 0 for record in history)


@pytest.mark.parametrize("name", ["loss", "validation_loss"])
def test_a_loss_that_is_no_number_is_said_and_not_kept(tmp_path, name):
    network = small_network()
    own = OPTIMIZERS["sgd"](network.parameters())
    checkpoint = Checkpoint(tmp_path / "file", SIGNATURE, network, own)
    with pytest.raises(ValueError, match="became nan in epoch 1: lower the learning rate"):
        run_epochs(
            lambda epoch, bar: {"loss": 1.0, name: float("nan")},
            checkpoint,
            [],
            epochs=2,
            bars=lambda epoch: nullcontext(),
            device=CPU,
        )
    assert not checkpoint.path.exists()


def test_the_checkpoint_of_another_training_is_refused(tmp_path):
    network = small_network()
    own = OPTIMIZERS["sgd"](network.parameters())
    Checkpoint(tmp_path / "file", SIGNATURE, network, own).save([])
    other = Checkpoint(tmp_path / "file", SIGNATURE.replace("0", "1"), network, own)
    with pytest.raises(ValueError, match=r"of another training \(recipe or seed differ\): delete"):
        other.load()
