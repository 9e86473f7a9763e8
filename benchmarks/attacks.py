"""FGSM and BIM: ours against torchattacks, in one run.

python -m benchmarks.attacks [--images 16] [--iterations 5]
"""

import numpy as np
import torch
import torchattacks

from benchmarks.measuring import RUN, as_table, in_turns, machine, new_parser, ratio, spread, start
from benchmarks.results import headline, named, write_section
from mistakes_lib import bim, fgsm, load_run

EPS, STEP = 8 / 255, 2 / 255
SAME = 1e-6  # pixels that differ by less are the same, up to rounding
AGREE = 0.95  # of the pixels: a gradient that is nearly 0 has either sign


def compare(name, actions, n_images, repeats):
    """A row of the table and its headline; the warm-up checks that both give the same images."""
    _, results = in_turns(actions, 1)
    same = float(((results["ours"] - results["peer"]).abs() < SAME).double().mean())
    if same < AGREE:
        raise AssertionError(f"{name}: only {same:.1%} of the pixels are those of torchattacks")
    seconds, _ = in_turns(actions, repeats)
    both = seconds["peer"], seconds["ours"]
    limit = "a pass forward and one back through the network a step, for both"
    line = headline(f"{name}, {n_images} images", named("torchattacks"), *both, limit=limit)
    return [name, n_images, *(spread(times) for times in both), ratio(*both), f"{same:.2%}"], line


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--run", default=RUN)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=5, help="of BIM")
    arguments = start(parser, argv)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((arguments.images, 3, 32, 32), dtype=np.float32))
    classifier = load_run(arguments.run).classifier().eval()
    with torch.no_grad():
        labels = classifier(images).argmax(dim=1)
    iterations = arguments.iterations
    peers = {
        "FGSM": torchattacks.FGSM(classifier, eps=EPS),
        f"BIM, {iterations} steps": torchattacks.BIM(
            classifier, eps=EPS, alpha=STEP, steps=iterations
        ),
    }
    ours = (
        lambda: fgsm(classifier, images, labels, EPS, device="cpu"),
        lambda: bim(
            classifier, images, labels, EPS, step=STEP, iterations=iterations, device="cpu"
        ),
    )
    rows, lines = [], []
    for (name, peer), own in zip(peers.items(), ours, strict=True):
        actions = {"peer": lambda peer=peer: peer(images, labels), "ours": own}
        row, line = compare(name, actions, len(images), arguments.repeats)
        rows.append(row)
        lines.append(line)
    head = ["attack", "images", "torchattacks, s", "ours, s", "ratio", "same pixels"]
    text = f"""{machine("torchattacks")}. Network of {arguments.run}, images of 32 × 32 noise, ε =
8/255; medians of {arguments.repeats} (least–greatest), in turns. *same pixels*: those that both
attacks move alike; where a gradient is 0 up to rounding, its sign is not.

{as_table(head, rows)}"""
    write_section("attacks", "FGSM and BIM", text, lines)


if __name__ == "__main__":
    main()
