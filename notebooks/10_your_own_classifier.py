# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own classifier
#
# *What does it take to watch a network of your own?*
#
# One command takes a network, its weights and a folder of images, and reports where the network
# fails. Ten lines of Python give a detector that watches it in use. To show the whole way, we train a
# torchvision network in the usual way and then pretend not to know it.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to make a report on any network, to fit a detector with a guaranteed rate of false
# alarms, and to check what it promises. *You need* some PyTorch. *Time:* 15 minutes to read, two
# minutes to run, 30 minutes for the exercises. *Paper:* §3.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run whose network to watch; None: train the one below
data_set = "digits"  # imagefolder:PATH for your own images, or a named data set
network = "resnet18"  # of torchvision's classifiers, the one to train
size = 32  # edge in pixels that images are resized to
epochs = 3  # of training it
seed = 0  # of training and of every fit
n_components = 20  # Gaussians in the mixture of the features
eps = 32 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals, and of not flagging a correct prediction

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Imports and data"}
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from IPython.display import Markdown, display
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mistakes_lib import (
    DiagonalGMM,
    FeatureClassifier,
    LogLikelihood,
    conformal_threshold,
    detection_table,
    extract_features,
    fgsm,
    fit_scorers,
    load_dataset,
    load_run,
    mark_class_agnostic,
    plotting,
    readable,
    score_pairs,
)

figures = plotting.Figures(10)

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Code: a place for the verdict"}
verdict = display(Markdown("*The verdict appears when the cells below have run.*"), display_id="v")

# %% [markdown]
# ## A folder of images
#
# One subfolder a class, in `train`, `validation` and `test` or not yet divided, as torchvision's
# `ImageFolder` reads it. Without a folder of yours, scikit-learn's digits become one.

# %%
kept = tempfile.TemporaryDirectory()  # until this notebook ends
workshop = Path(kept.name)
folder = Path(data_set.removeprefix("imagefolder:"))
if not data_set.startswith("imagefolder:"):
    folder = workshop / "images"
    for split in ("train", "validation", "test"):
        named = load_dataset(data_set, split)
        for i, (image, label) in enumerate(zip(named.images, named.labels, strict=True)):
            path = folder / split / named.classes[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)

# %%
source = {"name": f"imagefolder:{folder}", "size": size} if run is None else {"name": data_set}
images = {split: load_dataset(split=split, **source) for split in ("train", "validation", "test")}
classes = images["test"].classes
for split, some in images.items():
    print(f"{split:<10} {len(some):>5} images of {len(classes)} classes")

# %% [markdown]
# ## Somebody's network
#
# This is plain PyTorch, as in any tutorial. You need the mean and standard deviation with which the
# network's inputs were normalised.

# %%
torch.manual_seed(seed)
standard = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
net = torchvision.models.get_model(network, num_classes=len(classes))
if run is not None:  # trained already; standardises itself
    net, standard, epochs = load_run(run).classifier(), {}, 0

# %%
pixels = (torch.from_numpy(images["train"].images).float() / 255 - 0.5) / 0.5
targets = torch.from_numpy(images["train"].labels)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(epochs):
    for rows in torch.randperm(len(pixels)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(pixels[rows]), targets[rows]).backward()
        optimizer.step()

# %% [markdown]
# ## One command
#
# `mistakes report` takes the network by its name, its weights and the folder. It divides the images
# if nobody has, fits every usual detector, and writes one HTML page that needs no network, the
# numbers as `report.json`, and a detector ready for use. It reads weights as tensors only: a file
# that would run code is refused.

# %% tags=["nbval-ignore-output"]
weights, out = workshop / "weights.safetensors", workshop / "report"
command = [sys.executable, "-m", "mistakes_lib", "report"]
command += ["--model", f"torchvision:{network}", "--weights", weights]
command += ["--images", folder, "--size", size, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
command += ["--components", n_components, "--seed", seed, "--out", out]
if run is None:
    save_file(net.state_dict(), weights)
    said = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    print(said.stdout.replace(f"{workshop}/", ""))
else:
    print("The network of a run has no name that the command knows: read on.")

# %% [markdown]
# The page begins with verdicts and has a slider over the thresholds. Its table of methods, best
# first, is this one, and the images with the least and the most likely features are these.

# %% tags=["nbval-ignore-output"]
if run is None:
    report = json.loads((out / "report.json").read_text())
    methods = pd.DataFrame(report["methods"]["mistakes"]).set_index("method")
    methods = readable(methods.sort_values("AUROC", ascending=False), confidence=confidence)
    display(plotting.call_by_name(methods).round(2))

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Code: the figure", "image": {"classes": "photograph", "alt": "The six test images with the least likely features and the six with the most likely ones, with true and predicted class"}}
if run is None:
    figure, axes = plotting.new_figure(columns=6, rows=2, width=1.2, height=1.4)
    for row, kind in zip(axes, ("least", "most"), strict=True):
        for ax, shown in zip(row, report["extremes"][kind], strict=False):
            _ = ax.imshow(Image.open(shown["file"]))
            wrong = "" if shown["class"] == shown["predicted"] else f", not {shown['predicted']}"
            _ = ax.set_title(f"{shown['class']}{wrong}", fontsize=9)
            ax.set_axis_off()
    wrongly = {
        kind: sum(each["class"] != each["predicted"] for each in report["extremes"][kind][:6])
        for kind in ("least", "most")
    }
    figures.show(
        figure,
        "extremes",
        f"Of the six least likely images (above) the network gets {wrongly['least']} wrong, of the six "
        f"likeliest (below) {wrongly['most']}.",
    )

# %% [markdown]
# ## Ten lines
#
# ```{margin} More flags than promised?
# The promise holds on average over validation sets of this size ({prf:ref}`thm-conformal`). With few
# validation images, one of them may well be off by a percent or two.
# ```
#
# The same in Python. `from_module` finds the last linear layer; what enters it are the
# {term}`features <feature>`. `conformal_threshold` promises that a *correct* prediction is flagged at
# most in the given share of cases, whatever the distribution of {term}`scores <score>`.

# %%
watched = FeatureClassifier.from_module(net, **standard)
train, validation, test = (
    extract_features(watched, images[s].images, labels=images[s].labels)
    for s in ("train", "validation", "test")
)
detector = LogLikelihood(DiagonalGMM(n_components, random_state=seed)).fit(train)
usual = detector.score_samples(validation[validation.correct])
threshold = conformal_threshold(usual, 1 - confidence)
flags = detector.score_samples(test) < threshold

# %% [markdown]
# The verdict at the top of the page, in numbers:

# %% tags=["nbval-ignore-output"] mystnb={"code_prompt_show": "Code: the verdict"}
counts = f"{flags[~test.correct].sum()} of the {(~test.correct).sum()}"
alarms = flags[test.correct].mean()
print(f"correct predictions flagged: {alarms:.1%}; mistakes flagged: {counts}")
verdict.update(
    Markdown(
        f"**Verdict.** The network is right on {test.accuracy:.1%} of {len(test)} test images. "
        f"The detector flags {alarms:.1%} of the correct predictions (at most "
        f"{1 - confidence:.0%} were promised on average) and {counts} mistakes."
    )
)

# %% [markdown]
# ## Does it flag what it should?
#
# We try three kinds of trouble: an attack ({term}`FGSM`, as in the paper's Fig. 4), noise (as in its
# Table 3), and natural {term}`mistakes <mistake>` if there are any (as in its Fig. 2).

# %% tags=["nbval-ignore-output"]
attacked = fgsm(watched, images["test"].images, images["test"].labels, eps)
edge = images["test"].images.shape[-1]
noise = load_dataset("gaussian_noise", "test", size=edge)[:500]
trouble = {
    f"FGSM, ε = {eps * 255:.4g}/255": extract_features(watched, attacked),
    "Gaussian noise": extract_features(watched, noise.images),
    "own mistakes": test[~test.correct],
}
for name, batch in trouble.items():
    share = (detector.score_samples(batch) < threshold).mean() if len(batch) else np.nan
    print(f"{name:<20} {len(batch):>4} inputs, flagged: {share:.1%}")

# %% [markdown]
# By how much? The axis is linear near 0 and logarithmic far from it: a unit that was always 0 in
# training costs thousands of nats when it is not.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Histograms of feature log-likelihood for correct test images, attacked images and noise, with the threshold"}}
figure, ax = plotting.new_figure(width=6.5)
dimension = train.features.shape[1]
groups = {"test, correct": test[test.correct]} | trouble
values = {n: detector.score_samples(b) / dimension for n, b in groups.items() if len(b) > 20}
plotting.likelihood_histograms(ax, values, scale="asinh")
ax.axvline(threshold / dimension, color="0.2", linewidth=1)
left = {n: (v < threshold / dimension).mean() for n, v in values.items() if n in trouble}
figures.show(
    figure,
    "threshold",
    "Left of the threshold (the vertical line) lie "
    + ", ".join(f"{share:.0%} of {name}" for name, share in left.items())
    + f", and {alarms:.0%} of the correct predictions.",
)

# %% [markdown]
# How the paper's detector compares with others on the attack († looks at no class, neither in labels
# nor in logits):

# %% tags=["nbval-ignore-output"]
scorers = fit_scorers(train, validation, detector.density_)
pairs = score_pairs(scorers, test, trouble[f"FGSM, ε = {eps * 255:.4g}/255"])
compared = detection_table(pairs, confidence=confidence, random_state=seed)
plotting.call_by_name(
    mark_class_agnostic(readable(compared, confidence=confidence), scorers)
).round(2)

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Code: what the table shows"}
Markdown(
    f"On the attack {plotting.method_name(compared.AUROC.idxmax())} is best "
    f"({compared.AUROC.max():.2f}); density reaches {compared.AUROC.iloc[0]:.2f}."
)

# %% [markdown]
# ## In short

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- One command or ten lines give a detector for a network of your own.\n"
    f"- It flags {alarms:.1%} of the correct predictions; at most {1 - confidence:.0%} were promised on "
    f"average.\n"
    f"- Of what should not be trusted it flags "
    + ", ".join(f"{share:.0%} of {name}" for name, share in left.items())
    + "."
)

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-how-many
#
# How many correct predictions must be held out, at least, so that a threshold can promise at most 1 % of
# false alarms?
# ```
#
# ```{solution-start} ex-how-many
# :class: dropdown
# ```

# %%
answer = next(n for n in range(1, 1000) if 0.01 * (n + 1) >= 1)
print(answer)

# %% [markdown]
# Fewer do not suffice, because $k = \lfloor \alpha (n + 1) \rfloor$ must be at least 1
# ({prf:ref}`thm-conformal`).
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-layer
#
# Most networks have several linear layers. Wrap one that ends in two heads, of which the library
# takes the wrong one. What does it say?
# ```
#
# ```{solution-start} ex-layer
# :class: dropdown
# ```


# %%
class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.coarse, self.fine = nn.Linear(3 * edge * edge, 2), nn.Linear(3 * edge * edge, 5)

    def forward(self, batch):
        return self.coarse(batch.flatten(1))


try:
    extract_features(FeatureClassifier.from_module(TwoHeads()), images["test"].images)
except ValueError as error:
    print(error)

# %% [markdown]
# The library can tell, because it compares what the head makes of the features with what the network
# returns.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-alpha
#
# Promise to flag at most 1 % of correct predictions. How many of the noise images are still caught?
# ```
#
# ```{solution-start} ex-alpha
# :class: dropdown
# ```

# %% tags=["nbval-ignore-output"]
strict = conformal_threshold(usual, 0.01)
print(f"{(detector.score_samples(trouble['Gaussian noise']) < strict).mean():.1%} of the noise")

# %% [markdown]
# No more noise is caught than before, because a stricter promise lowers the threshold.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# Your own folder, and another network:
#
# ```bash
# mistakes chapter 10_your_own_classifier -p data_set=imagefolder:/path/to/images -p size=64
# mistakes report --model timm:mobilenetv3_small_100 --weights pretrained --images /path/to/images
# ```
