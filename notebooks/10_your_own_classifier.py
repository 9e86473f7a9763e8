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
# fails. First we let it report on a network that somebody else trained, on images worth it. Then we
# go the whole way with a small network that is trained here: from a folder of images to a detector
# in ten lines of Python.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to make and read a report on any network, to see why a promised rate of false
# alarms may fail, and to fit a detector that keeps it. *You need* some PyTorch. *Time:* 20 minutes to
# read, two minutes to run, 30 minutes for the exercises. *Paper:* §3.
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
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from IPython.display import Markdown
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mistakes_lib import (
    DiagonalGMM,
    FeatureClassifier,
    LogLikelihood,
    conformal_threshold,
    extract_features,
    failures_table,
    fgsm,
    load_dataset,
    load_run,
    plotting,
    promises_table,
    published_report,
)

figures = plotting.Figures(10)
seen, held_out = (published_report(f"resnet20/{case}") for case in ("seen", "held_out"))
promises = promises_table({"training": seen, "test": held_out}, confidence=confidence)
failures = failures_table(held_out).rename(plotting.set_name)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
better = {word: ", ".join(names) for word, names in failures.groupby("better").groups.items()}
own = promises.loc["test"]
Markdown(
    f"**Verdict.** Somebody else's ResNet-20 is right on {own['test accuracy']:.1%} of the test images. "
    f"A report promises to flag at most {own['promised']:.0%} of its correct predictions. It flags "
    f"{own['flagged']:.1%} if the promise is made on images that the network has not seen, and "
    f"{promises.loc['training', 'flagged']:.1%} if it is made on training images. Density is clearly "
    f"better than confidence against {better.get('density', 'nothing')}. Confidence is clearly better "
    f"against {better.get('confidence', 'nothing')}."
)

# %% [markdown]
# ## A network that nobody here trained
#
# Yerlan Idelbayev trained the ResNet-20 of He et al. for CIFAR-10 and published its weights. We know
# its architecture (a file `network.py`), its weights (a file), and with which mean and standard
# deviation its inputs were normalised. That is all the command needs.
#
# ````{admonition} network.py
# :class: dropdown
#
# ```{literalinclude} ../reports/resnet20/network.py
# :language: python
# ```
# ````
#
# In the same folder lie the images: `cifar10/train` and `cifar10/test` with a subfolder a class each,
# and four folders of images that the network should not trust. `SVHN` has house numbers,
# `Fashion-MNIST` clothes, `noise` noise. In `FGSM` are test images that an attacker has changed by at
# most 8 grey levels. Copy the command, and put your names in the place of ours:

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the command that was run"}
as_lines = seen["made"]["command"].replace(" --", " \\\n  --")
Markdown(f"```bash\n{as_lines}\n```")

# %% [markdown]
# It writes one page of HTML, the numbers as `report.json`, and a detector ready for use. It reads
# weights as tensors only: a file that would run code is refused.
#
# ## Read the alarms first
#
# Nobody divided the training images, so the command takes a tenth of them as validation images. It
# says at once that this is no good here:

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the report's alarms"}
told = "> **Alarm:** {alarm}. *Likeliest cause:* {cause}. *What to do:* {cure}."
alarms = "\n\n".join(told.format_map(alarm) for alarm in seen["alarms"])
Markdown(re.sub(r"(--[a-z-]+)", r"`\1`", alarms))  # options as code

# %% [markdown]
# Whoever trains on all images leaves none for a promise. The cure needs no new images: with
# `--validation-from-test` half of the test images become validation images. We ran the same command
# again with that option. The second report has no such alarm:

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: promised and delivered"}
shown = promises.drop(columns=["low", "high", "n"]).map("{:.1%}".format)
ends = promises[["low", "high"]].map("{:.1%}".format)
shown.insert(4, f"{100 * confidence:g} % interval", ends["low"] + " to " + ends["high"])
shown.columns = shown.columns.str.replace("flagged", "correct ones flagged")
shown.index = "validation images from " + shown.index
shown.rename(columns={"caught": "mistakes caught"})

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
kept = promises["promised"].between(promises["low"], promises["high"])
words = {True: "The interval holds the promise", False: "The interval does not hold the promise"}
first, second = seen["calibration"], held_out["calibration"]
Markdown(
    f"- *Validation images from training:* the network is right on "
    f"{promises.loc['training', 'validation accuracy']:.1%} of them, but on "
    f"{promises.loc['training', 'test accuracy']:.1%} of the test images. "
    f"{words[kept['training']]}: it flags {promises.loc['training', 'flagged']:.1%}.\n"
    f"- *Validation images from test:* {words[kept['test']].lower()}: it flags {own['flagged']:.1%}.\n"
    f"- *Confidence depends on it, too.* On the seen images the temperature is "
    f"{first['temperature']:.2f}, and the calibration error on test images goes from "
    f"{first['ece_before']:.3f} to {first['ece_after']:.3f}. On unseen images it is "
    f"{second['temperature']:.2f}, and the error goes from {second['ece_before']:.3f} to "
    f"{second['ece_after']:.3f}."
)

# %% [markdown]
# *Why is there a gap?* The threshold is the score that few correct validation predictions fall below.
# The network knows these images by heart, so their features are more usual than those of new images.
# New images fall below the threshold more often. {prf:ref}`thm-conformal` promises nothing here,
# because it needs validation and test images of one kind. In the second report they are of one kind.
#
# ## Where the tool helps, and where it does not
#
# The second report compares all usual detectors on each kind of failure. "Refused" is the price: the
# share of ordinary test images that a method refuses when it catches 95 % of the failures.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: density, confidence, and the best method"}
priced = [name for name in failures if name.startswith("refused")]
table = failures.drop(columns="better")
table["best"] = table["best"].map(plotting.method_name)
table[priced] = table[priced].map("{:.0%}".format)
plotting.call_by_name(table).round(2)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "AUROC of density and confidence on the mistakes, the attack and the strange images of ResNet-20, on one axis"}}
kinds = {"own mistakes": ("own mistakes", "test images"), "FGSM": ("an attack", "FGSM, 8/255")}
kinds |= {name: ("strange images", name) for name in failures.index if name not in kinds}
ordered = failures.loc[list(kinds)]
ordered.index = pd.MultiIndex.from_tuples(kinds.values(), names=["failure", "test"])
lowest = failures[["density", "confidence"]].min()
figures.show(
    plotting.rivals(ordered),
    "failures of ResNet-20",
    f"Density (filled) is clearly above confidence (open) on {(failures['better'] == 'density').sum()} of "
    f"{len(failures)} kinds of failure, and clearly below it on "
    f"{(failures['better'] == 'confidence').sum()}. The lowest AUROC of density is {lowest['density']:.2f}, that of confidence {lowest['confidence']:.2f}.",
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: which method for which failure"}
mistakes, helped = failures.loc["own mistakes"], failures[failures["better"] == "density"]
Markdown(
    f"- *Ordinary mistakes.* To catch 95 % of them, confidence refuses "
    f"{mistakes['refused by confidence']:.0%} of the correct predictions, density "
    f"{mistakes['refused by density']:.0%}.\n"
    + "".join(
        f"- *Against {name}* density ({row['density']:.2f}) is clearly better than confidence "
        f"({row['confidence']:.2f}).\n"
        for name, row in helped.iterrows()
    )
    + f"- *Too near to call:* {better.get('neither', 'nothing')}.\n- *The best of all methods* is "
    + ", ".join(f"{plotting.method_name(m)} against {name}" for name, m in failures["best"].items())
    + "."
)

# %% [markdown]
# ## The page itself
#
# This is the page that the second command wrote. It begins with verdicts and has a slider over the
# thresholds; the images with the least and the most likely features stand below.
#
# ```{raw} html
# <iframe class="report" src="../reports/resnet20/held_out/report.html" loading="lazy"
#   title="The report on ResNet-20 with validation images from the test images"></iframe>
# <p><a href="../reports/resnet20/held_out/report.html">Open this report</a>, or
#   <a href="../reports/resnet20/seen/report.html">the first one, with its alarm</a>.</p>
# ```
#
# ```{admonition} Made once, shown here
# :class: note
#
# Both reports were made by `python book/build.py reports resnet20-12fca82f.th`. This chapter reads
# their numbers and needs neither the network nor the images. The folder `book/reports` keeps the
# command and the versions of the libraries beside them.
# ```

# %% [markdown]
# ## The whole way, with your own images
#
# From here on everything is computed now, on scikit-learn's digits or a folder of yours: one subfolder
# a class, in `train`, `validation` and `test` or not yet divided, as torchvision's `ImageFolder` reads
# it. We write the images in the size that the network will see.
#
# Three epochs on a thousand digits make a toy. What its detector flags differs from machine to machine.
# Look at the steps here, and at the results above.

# %%
kept = tempfile.TemporaryDirectory()  # until this notebook ends
workshop = Path(kept.name)
folder = workshop / "images"
for split in ("train", "validation", "test"):
    given = load_dataset(data_set, split, size=size)
    for i, (image, label) in enumerate(zip(given.images, given.labels, strict=True)):
        path = folder / split / given.classes[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)

# %%
source = {"name": f"imagefolder:{folder}", "size": size} if run is None else {"name": data_set}
images = {split: load_dataset(split=split, **source) for split in ("train", "validation", "test")}
classes = images["test"].classes
for split, some in images.items():
    print(f"{split:<10} {len(some):>5} images of {len(classes)} classes")

# %% [markdown]
# ### Somebody's network
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
# ### The command
#
# The same command as above, for a network of torchvision.

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
# ### Ten lines
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
# What they deliver on the test images:

# %% tags=["nbval-ignore-output"]
counts = f"{flags[~test.correct].sum()} of the {(~test.correct).sum()}"
alarms = flags[test.correct].mean()
print(f"accuracy: {test.accuracy:.1%} of {len(test)} test images")
print(
    f"correct predictions flagged: {alarms:.1%}, promised at most {1 - confidence:.0%} on average"
)
print(f"mistakes flagged: {counts}")

# %% [markdown]
# ### Does it flag what it should?
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
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- *Promise on unseen images.* With validation images that the network was trained on, the "
    f"detector flags {promises.loc['training', 'flagged']:.1%} of the correct predictions; with "
    f"others {own['flagged']:.1%}. {own['promised']:.0%} were promised.\n"
    f"- *Ordinary mistakes.* Confidence has an AUROC of {mistakes['confidence']:.2f}, density of "
    f"{mistakes['density']:.2f}. Clearly better: {mistakes['better']}.\n"
    f"- *Inputs of another kind: look at the features, too.* Density is clearly better than confidence "
    f"on {len(helped.drop('own mistakes', errors='ignore'))} of {len(failures) - 1} kinds; the best of "
    f"all methods is {plotting.method_name(failures['best'].drop('own mistakes').mode()[0])} most often."
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
# Promise to flag at most 1 % of correct predictions. How many of the attacked images are still caught?
# ```
#
# ```{solution-start} ex-alpha
# :class: dropdown
# ```

# %% tags=["nbval-ignore-output"]
strict = conformal_threshold(usual, 0.01)
again = detector.score_samples(trouble[f"FGSM, ε = {eps * 255:.4g}/255"])
print(f"{(again < strict).mean():.1%} of the attacked images, not {(again < threshold).mean():.1%}")

# %% [markdown]
# No more attacks are caught than before, because a stricter promise lowers the threshold.
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
