"""Feature extraction: ours against a plain loop over a DataLoader, in one run.

python -m benchmarks.features [--images 128] [--batch-size 64]
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measuring import RUN, as_table, in_turns, machine, new_parser, ratio, spread, start
from benchmarks.results import headline, named, write_section
from mistakes_lib import extract_features, load_run


def plain_loop(classifier, images, batch_size):
    """Features (n, d) as most scripts compute them: float images, batch after batch."""
    found = []
    classifier.eval()
    with torch.no_grad():
        for (batch,) in DataLoader(TensorDataset(images), batch_size):
            features = classifier.features(batch)
            classifier.head(features)  # both keep the logits as well
            found.append(features)
    return torch.cat(found).numpy()


def compare(classifier, images, batch_size, repeats):
    """A row of the table and its headline; ours takes bytes, the plain loop floats."""
    floats = images.float() / 255
    actions = {
        "plain": lambda: plain_loop(classifier, floats, batch_size),
        "ours": lambda: (
            extract_features(classifier, images, batch_size=batch_size, device="cpu").features
        ),
    }
    in_turns(actions, 1)  # the first pass of a network chooses its algorithms
    seconds, results = in_turns(actions, repeats)
    np.testing.assert_allclose(results["ours"], results["plain"], atol=1e-3)
    difference = float(np.abs(results["ours"] - results["plain"]).max())
    both = seconds["plain"], seconds["ours"]
    rates = [spread([len(images) / time for time in times]) for times in both]
    line = headline(
        f"features of {len(images)} images by a DenseNet",
        f"plain loop, {named('torch')}",
        *both,
        limit="the network's own layers, the same for both",
    )
    return [len(images), batch_size, *rates, ratio(*both), difference], line


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--run", default=RUN)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = start(parser, argv)
    rng = np.random.default_rng(0)
    shape = (arguments.images, 3, 32, 32)
    images = torch.from_numpy(rng.integers(256, size=shape, dtype=np.uint8))
    classifier = load_run(arguments.run).classifier()
    row, line = compare(classifier, images, arguments.batch_size, arguments.repeats)
    head = ["images", "batch", "plain, images/s", "ours, images/s", "plain / ours, s", "difference"]
    text = f"""{machine()}. Network of {arguments.run}, images of 32 × 32 noise; medians of
{arguments.repeats} (least–greatest), in turns. *difference*: the largest, of the features.

{as_table(head, [row])}"""
    write_section("features", "Feature extraction", text, [line])


if __name__ == "__main__":
    main()
