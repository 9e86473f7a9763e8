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
# Ten lines: wrap the network, extract features, fit a mixture, choose a threshold, flag inputs. The
# network here is a stranger to this book: plain PyTorch, ReLU features, trained in a few lines on
# scikit-learn's digits.

# %% tags=["parameters", "hide-input"]
run = None  # folder or name of a run whose network to watch; None: train the one below
data_set = "digits"  # named data set or imagefolder:PATH
seed = 0  # of training and of every fit
n_components = 20  # Gaussians in the mixture of the features
eps = 32 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals, and of not flagging a correct prediction
epochs = 15  # of training the network, if no run is given

# %% tags=["hide-input"]
import numpy as np
import torch
from IPython.display import Markdown
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
    plotting,
    score_pairs,
)

images = {split: load_dataset(data_set, split) for split in ("train", "validation", "test")}

# %% [markdown]
# ## Somebody's network

# %%
torch.manual_seed(seed)
classes = len(images["train"].classes)
net = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1, stride=2),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 64),
    nn.ReLU(),
    nn.Linear(64, classes),
)
if run is not None:
    net, epochs = load_run(run).classifier(), 0  # trained already

# %%
pixels = torch.from_numpy(images["train"].images).float() / 255
targets = torch.from_numpy(images["train"].labels)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for _ in range(epochs):
    for rows in torch.randperm(len(pixels)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(pixels[rows]), targets[rows]).backward()
        optimizer.step()

# %% [markdown]
# ## Ten lines
#
# `from_module` finds the last linear layer; what enters it are the features.
# `conformal_threshold` promises that a *correct* prediction is flagged at most in the given share
# of cases, whatever the distribution of scores.

# %%
watched = FeatureClassifier.from_module(net)
train, validation, test = (
    extract_features(watched, images[s].images, labels=images[s].labels)
    for s in ("train", "validation", "test")
)
detector = LogLikelihood(DiagonalGMM(n_components, random_state=seed)).fit(train)
usual = detector.score(validation[validation.correct])
threshold = conformal_threshold(usual, 1 - confidence)
flags = detector.score(test) < threshold

# %% tags=["hide-input"]
Markdown(
    f"**Verdict.** The network is right on {test.accuracy:.1%} of {len(test)} test images "
    f"({images['test'].description}). The detector flags {flags[test.correct].mean():.1%} of the "
    f"correct predictions (at most {1 - confidence:.0%} were promised on average) and "
    f"{flags[~test.correct].sum()} of the {(~test.correct).sum()} mistakes."
)

# %% [markdown]
# ## Does it flag what it should?
#
# Three kinds of trouble: an attack, noise, and natural mistakes if there are any.

# %%
attacked = fgsm(watched, images["test"].images, images["test"].labels, eps)
edge = images["test"].images.shape[-1]
noise = load_dataset("gaussian_noise", "test", size=edge)[:500]
trouble = {
    f"FGSM, ε = {eps * 255:.4g}/255": extract_features(watched, attacked),
    "Gaussian noise": extract_features(watched, noise.images),
    "own mistakes": test[~test.correct],
}
for name, batch in trouble.items():
    share = (detector.score(batch) < threshold).mean() if len(batch) else np.nan
    print(f"{name:<20} {len(batch):>4} inputs, flagged: {share:.1%}")

# %% mystnb={"image": {"alt": "Histograms of feature log-likelihood for correct test images, attacked images and noise, with the threshold"}}
figure, ax = plotting.new_figure(width=6.5)
dimension = train.features.shape[1]
groups = {"test, correct": test[test.correct]} | trouble
values = {n: detector.score(b) / dimension for n, b in groups.items() if len(b) > 20}
plotting.likelihood_histograms(ax, values)
_ = ax.axvline(threshold / dimension, color="0.2", linewidth=1)

# %% [markdown]
# How the paper's detector compares with others on the attack:

# %%
scorers = fit_scorers(train, validation, detector.density_)
pairs = score_pairs(scorers, test, trouble[f"FGSM, ε = {eps * 255:.4g}/255"])
detection_table(pairs, confidence=confidence, random_state=seed).round(3)

# %% [markdown]
# ```{exercise}
# :label: ex-layer
#
# Watch an earlier layer: treat the network's first linear layer as its head. What does the library
# say?
# ```
#
# ```{solution-start} ex-layer
# :class: dropdown
# ```

# %%
try:
    extract_features(FeatureClassifier.from_module(net, head="6"), images["test"].images)
except ValueError as error:
    print(error)

# %% [markdown]
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

# %%
strict = conformal_threshold(usual, 0.01)
print(f"{(detector.score(trouble['Gaussian noise']) < strict).mean():.1%} of the noise")

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/09_your_own_classifier.ipynb out.ipynb -p data_set imagefolder:/path/to/images
# ```
