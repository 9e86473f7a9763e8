"""What a GPU saves: the same work on it and on this machine's CPU, in one run.

python -m benchmarks.gpu [--device cuda] [--rows 45000]

EM, scoring, features, BIM and training; both devices' results are compared. torchgmm's EM on the
same GPU stands beside ours where it can be imported. On a machine without a GPU nothing is
measured, and the section on the page stays as it is.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.gmm import OURS, PEERS, iteration_seconds, torchgmms
from benchmarks.kinds import random_start, synthetic_features
from benchmarks.measuring import as_table, host, in_turns, machine, new_parser, ratio, spread, start
from benchmarks.results import headline, named, write_section
from mistakes_lib import bim, extract_features
from mistakes_lib.classifiers import build_classifier
from mistakes_lib.training import train
from mistakes_lib.training.recipe import Recipe

NETWORK = {"name": "densenet_bc", "depth": 100, "growth_rate": 12, "num_classes": 100}
CPU = torch.device("cpu")
LIKE = {"rtol": 1e-2, "atol": 1e-2}  # a GPU rounds a convolution's factors to 10 bits
AGREE = 0.9  # of the pixels of BIM: a gradient that is nearly 0 has either sign


def ours_on(device):
    """Our mixture on a device, as benchmarks.gmm makes it."""
    return replace(OURS, make=lambda *given: OURS.make(*given).set_params(device=str(device)))


def torchgmm_on(device):
    """torchgmm's mixture with its trainer on a device."""
    accelerator = "gpu" if device.type == "cuda" else device.type
    return replace(PEERS["torchgmm"], make=partial(torchgmms, accelerator=accelerator))


def mixtures(device, n, d, k, repeats):
    """Seconds of EM and of scoring, by what was done: CPU's and GPU's, torchgmm's and ours on the
    GPU (none where it was not compared), and a remark on torchgmm."""
    X = synthetic_features(n, d, np.random.default_rng(0))
    mixture = random_start(X, k)
    here, mine = iteration_seconds(ours_on(CPU), mixture, X)
    iteration_seconds(ours_on(device), mixture, X)  # the first fit of a process sets the GPU up
    there, other = iteration_seconds(ours_on(device), mixture, X)
    np.testing.assert_allclose(other.lower_bound_, mine.lower_bound_, rtol=1e-6)
    seconds, scores = in_turns(
        {"here": lambda: mine.score_samples(X), "there": lambda: other.score_samples(X)}, repeats
    )
    np.testing.assert_allclose(scores["there"], scores["here"], rtol=1e-4)
    what = f"{n} × {d}, K = {k}"
    step = f"EM iteration, {what}"
    rows = {
        step: (here, there),
        f"scoring, {what}": (seconds["here"], seconds["there"]),
    }
    peer = PEERS["torchgmm"].rows_as(X)
    try:
        theirs, _ = iteration_seconds(torchgmm_on(device), mixture, peer)
    except Exception as error:  # whatever it raises is what there is to say of it
        return rows, {}, f"torchgmm was not compared: {type(error).__name__}: {error}."
    return rows, {step: (theirs, there)}, f"torchgmm: {PEERS['torchgmm'].note}."


def compare(on, device, check, repeats):
    """Seconds of ``on(device)()`` on the CPU and on the GPU; the warm-up's results are checked."""
    actions = {"here": on("cpu"), "there": on(device)}
    _, results = in_turns(actions, 1)
    check(results["there"], results["here"])
    seconds, _ = in_turns(actions, repeats)
    return seconds["here"], seconds["there"]


def check_features(there, here):
    np.testing.assert_allclose(there, here, **LIKE)


def check_attacked(there, here):
    if np.isclose(there, here, atol=1e-6).mean() < AGREE:
        raise AssertionError("BIM finds other images on the GPU")


def networks(device, n, attacked, iterations, repeats):
    """Seconds of features, BIM and an epoch of training, by what was done: CPU's and GPU's."""
    torch.manual_seed(0)
    classifier = build_classifier(NETWORK).eval()
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(n, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(NETWORK["num_classes"], size=n)
    few = images[:attacked], labels[:attacked]

    def features(on):
        return lambda: extract_features(classifier, images, device=on).features

    def attack(on):
        return lambda: bim(classifier, *few, 8 / 255, iterations=iterations, device=on)

    rows = {
        f"features of {n} images by a DenseNet-BC-100-12": compare(
            features, device, check_features, repeats
        ),
        f"BIM, {iterations} steps, {attacked} images": compare(
            attack, device, check_attacked, repeats
        ),
    }
    recipe = Recipe(epochs=1, batch_size=min(125, n), lr=0.1, precision="bfloat16")

    def epoch(on):
        return lambda: train(classifier, images, labels, recipe, device=on, progress=False)

    epoch(device)()  # warms up
    seconds, _ = in_turns({"here": epoch("cpu"), "there": epoch(device)}, 1)
    rows[f"an epoch of training, {n} images, bfloat16"] = seconds["here"], seconds["there"]
    return rows


def main(argv=None):
    parser = new_parser(__doc__, repeats=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=45000)
    parser.add_argument("--dimensions", type=int, default=342)
    parser.add_argument("--components", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--attacked", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=10, help="of BIM")
    arguments = start(parser, argv)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No GPU that torch can use: the section gpu stays as it is.")
        return
    rows, peers, remarks = {}, {}, []
    for k in arguments.components:
        more, beside, remark = mixtures(
            device, arguments.rows, arguments.dimensions, k, arguments.repeats
        )
        rows |= more
        peers |= beside
        remarks.append(remark)
    rows |= networks(
        device, arguments.images, arguments.attacked, arguments.iterations, arguments.repeats
    )
    write(device, arguments, rows, peers, remarks)


def write(device, arguments, rows, peers, remarks):
    """The section of the page, and its headlines."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    lines = [
        headline(f"{what}, on {gpu}", f"ours on {host()}", here, there)
        for what, (here, there) in rows.items()
    ]
    lines += [
        headline(f"{what}, both on {gpu}", named("torchgmm"), theirs, own)
        for what, (theirs, own) in peers.items()
    ]
    table = [[what, *map(spread, both), ratio(*both)] for what, both in rows.items()]
    beside = [[what, *map(spread, both), ratio(*both)] for what, both in peers.items()]
    text = f"""{machine()}; {gpu}. Synthetic features and images of noise; medians of
{arguments.repeats} (least–greatest).

{as_table(["what", "CPU, s", "GPU, s", "CPU / GPU"], table)}

{as_table(["what", "torchgmm, s", "ours, s", "torchgmm / ours"], beside)}

{" ".join(dict.fromkeys(remarks))}"""
    write_section("gpu", "A GPU beside the CPU", text, lines)


if __name__ == "__main__":
    main()
