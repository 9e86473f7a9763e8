"""Purification: ours against torch.distributions' mixture, in one run, and against the roofline.

    python -m benchmarks.purification [--rows 10000] [--components 1000] [--steps 10]

The peer takes the same steps down the gradient that autograd finds through torch's
MixtureSameFamily. It holds rows × K × d numbers, so that it is compared on a few rows, ours on the
same ones.
"""

import math
from statistics import median

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from benchmarks.measuring import (
    RUN,
    as_table,
    gemm_rate,
    in_turns,
    machine,
    new_parser,
    ratio,
    spread,
    start,
)
from benchmarks.results import headline, named, write_section
from mistakes_lib import load_run, purify

NU = 1.0
FEW, FEW_STEPS = 128, 2  # rows and steps of the comparison
BATCH = 2048  # rows that purify takes at a time


def torch_mixture(density):
    """The same mixture of torch.distributions, in float32."""
    weights, means, variances = (
        torch.tensor(values, dtype=torch.float32)
        for values in (density.weights_, density.means_, density.covariances_)
    )
    components = Independent(Normal(means, variances.sqrt()), 1)
    return MixtureSameFamily(Categorical(weights), components)


def plain_purify(features, mixture, lr, steps):
    """The steps of :func:`mistakes_lib.purify` as one writes them down, 64 rows at a time."""
    purified = []
    for origin in torch.tensor(features).split(64):  # (b, d)
        moved = origin
        for _ in range(steps):
            moved = moved.detach().requires_grad_()
            bpd = -mixture.log_prob(moved) / (moved.shape[1] * math.log(2))  # (b,)
            (gradient,) = torch.autograd.grad(bpd.sum(), moved)
            moved = origin + (moved - lr * gradient - origin) / (1 + 2 * lr * NU)
        purified.append(moved.detach())
    return torch.cat(purified).numpy()


def compare(features, density, lr, repeats):
    """A row of the table against the peer, and the seconds of both."""
    mixture, some = torch_mixture(density), features[:FEW]
    actions = {
        "peer": lambda: plain_purify(some, mixture, lr, FEW_STEPS),
        "ours": lambda: purify(some, density, nu=NU, lr=lr, steps=FEW_STEPS, device="cpu"),
    }
    seconds, results = in_turns(actions, repeats)
    np.testing.assert_allclose(results["ours"], results["peer"], atol=1e-3)
    difference = float(np.abs(results["ours"] - results["peer"]).max())
    both = seconds["peer"], seconds["ours"]
    row = [len(some), FEW_STEPS, *(spread(times) for times in both), ratio(*both), difference]
    return row, both


def roofline(features, density, lr, steps, repeats):
    """A row of the table against the product alone: 4 n d K operations a step."""
    options = {"nu": NU, "lr": lr, "steps": steps, "device": "cpu"}
    action = {"ours": lambda: purify(features, density, **options)}
    seconds = in_turns(action, repeats)[0]["ours"]
    (n, d), k = features.shape, len(density.weights_)
    floating = 4 * n * d * k * steps
    bound = floating / gemm_rate(min(n, BATCH), 2 * d, k)
    share = f"{bound / median(seconds):.0%}"
    return [n, d, k, steps, spread(seconds), floating / 1e9, bound, share]


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--run", default=RUN)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10)
    arguments = start(parser, argv)
    run = load_run(arguments.run)
    features = run.features("test").features[: arguments.rows]
    density = run.density(arguments.components)
    # The largest step for which the objective cannot rise.
    lr = float(features.shape[1] * math.log(2) * density.covariances_.min())
    peer, both = compare(features, density, lr, arguments.repeats)
    bound = roofline(features, density, lr, arguments.steps, arguments.repeats)
    line = headline(
        f"purification, {FEW_STEPS} steps of {peer[0]} features, K = {arguments.components}",
        f"torch.distributions, {named('torch')}",
        *both,
        limit=f"on {bound[0]:,} rows its matrix product alone takes {bound[-1]} of our time",
    )
    head = ["rows", "steps", "torch.distributions, s", "ours, s", "ratio", "difference"]
    bound_head = ["rows", "d", "K", "steps", "ours, s", "10⁹ operations", "product alone, s"]
    text = f"""{machine()}. Test features and mixture of {arguments.run}; float32; medians of
{arguments.repeats} (least–greatest), in turns. *difference*: the largest, of the purified features.

{as_table(head, [peer])}

The roofline: each step has the product [x, x²] W, 4 n d K operations; the sums over the few
components that share a row are not counted. The book takes 100 steps.

{as_table([*bound_head, "share"], [bound])}"""
    write_section("purification", "Purification", text, [line])


if __name__ == "__main__":
    main()
