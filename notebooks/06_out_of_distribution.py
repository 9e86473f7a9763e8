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
# # Out-of-distribution inputs
#
# *Does the network notice that an image is of no kind that it was trained on?*
#
# The paper (§4, Tables 1–3) finds that calibrated confidence cannot be relied on for
# out-of-distribution (OOD) detection, that the mixture beats the class-conditional Mahalanobis
# distance in some cases, and that calibrated confidence alone fails even on Gaussian noise.

# %% tags=["parameters", "hide-input"]
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar10"  # in-distribution images
classifier = "densenet_bc_40_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 1000  # Gaussians in the mixture of the features
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests

# %% tags=["hide-input", "nbval-ignore-output", "appendix"]
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from mistakes_lib import (
    as_evidence,
    compare_scores,
    detection_table,
    known_classes,
    load_run,
    load_sweep,
    mann_whitney,
    mark_class_agnostic,
    plotting,
    score_many,
    score_pairs,
    share_of_zeros,
    tally_verdicts,
)

source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
test = source.features("test")
scorers = source.scorers(n_components, seed=seed)
ours = f"GMM-{n_components}"
pairs = score_many(scorers, test, {name: source.ood(name) for name in source.ood_sets})
if source.bits_per_dim:  # a PixelCNN scores the images themselves
    pixels = {name: source.image_log_likelihood(name) for name in ("test", *pairs)}
    for name, each in pairs.items():
        each["PixelCNN"] = pixels["test"], pixels[name]
tables = {
    name: detection_table(each, confidence=confidence, random_state=seed)
    for name, each in pairs.items()
}
auroc = pd.DataFrame({name: table.AUROC for name, table in tables.items()})

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. The network sees Gaussian noise. How many of ten predictions have a calibrated confidence above `0.9`?
#    (a) none, (b) some, (c) most
# 2. Which tells noise from test images better? (a) confidence, (b) the density of features
# 3. A density of *images* (a PixelCNN) sees a strange set with smooth images. It finds them (a) less likely
#    than its own training images, (b) likelier
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
noisy = scorers["Calibrated"].score_samples(source.ood("gaussian_noise"))
smooth = "This run has no PixelCNN."
if "PixelCNN" in auroc.index:
    smooth = f"Its lowest AUROC here is {auroc.loc['PixelCNN'].min():.2f}"
    smooth += (
        f", for {auroc.loc['PixelCNN'].idxmin().replace('_', ' ')}; below one half means likelier."
    )
Markdown(
    f"1. {10 * (noisy > 0.9).mean():.1f} of ten.\n"
    f"2. Confidence has an AUROC of {auroc.loc['Calibrated', 'gaussian_noise']:.2f}, the density "
    f"{auroc.loc[ours, 'gaussian_noise']:.2f}.\n"
    f"3. {smooth}"
)

# %% tags=["hide-input", "appendix"]
papers = ["Calibrated", "Max softmax", "Mahalanobis", "Zheng & Hong"]
versus = compare_scores(pairs, ours, others=papers, confidence=confidence)
beaten = versus[versus.verdict == "beats"].reset_index()
beats_calibrated = beaten.setting[beaten.method == "Calibrated"].tolist()
beats_mahalanobis = beaten.setting[beaten.method == "Mahalanobis"].tolist()
noise = auroc["gaussian_noise"]
Markdown(
    f"**Verdict.** On {source.title}, the likelihood under {n_components:,} Gaussians "
    f"beats calibrated confidence on {len(beats_calibrated)} of {len(tables)} OOD sets "
    f"({', '.join(beats_calibrated) or 'none'}) and the Mahalanobis distance on "
    f"{len(beats_mahalanobis)} ({', '.join(beats_mahalanobis) or 'none'}). On Gaussian noise "
    f"calibrated confidence has an AUROC of {noise['Calibrated']:.3f}, the mixture "
    f"{noise[ours]:.3f}. *Beats* means that the {confidence:.0%} interval of the paired difference "
    "lies above 0, corrected by Holm over all comparisons here."
)

# %% [markdown]
# ## The sets
#
# Every set is shown to the same network, at the size of its own images. Noise and Fashion-MNIST have no
# right answer. Tiny ImageNet has some: a tabby is a cat. The paper has Gaussian noise, Tiny ImageNet ({cite}`russakovsky2015imagenet`), Fashion-MNIST
# ({cite}`xiao2017fashion`) and SVHN ({cite}`netzer2011reading`).

# %% tags=["appendix"]
sizes = {name: len(source.ood(name)) for name in source.ood_sets}
pd.DataFrame({"set": source.ood_sets, "images": sizes}).rename_axis("name")

# %% tags=["hide-input"]
try:
    shared = pd.DataFrame(known_classes(source.experiment.data_set).values())
    kinds = shared.groupby(1)[0].agg(", ".join)
    text = f"Of Tiny ImageNet's 200 classes the network knows {len(shared)} by another name: "
    text += "; ".join(f"{names} ({own})" for own, names in kinds.items()) + ". "
    text += "On their images a confident prediction can be right."
except ValueError:
    text = f"Which classes of {source.title} are among the strange ones, nobody has listed."
Markdown(text)

# %% [markdown] tags=["appendix"]
# ## What the network makes of them

# %% tags=["appendix"]
sets = {"test": test} | {name: source.ood(name) for name in source.ood_sets}
for name, batch in sets.items():
    sure = (scorers["Calibrated"].score_samples(batch) > 0.9).mean()
    share = pd.Series(batch.predictions).value_counts(normalize=True)
    favourite = source.classes[share.index[0]]
    print(
        f"{name:<16} calibrated confidence > 0.9: {sure:5.1%}; {share.iloc[0]:.0%} are {favourite!r}"
    )

# %% [markdown]
# ## Likelihood of their features
#
# ```{margin} Why not the likelihood of *images*?
# The paper's PixelCNN finds Fashion-MNIST and SVHN *likelier* than its own training set, as other deep
# densities do ({cite}`nalisnick2018deep`). Nearly all bits of an image go into texture and noise,
# hardly any into what it shows: a smooth image is cheap, whatever is on it.
# ```
#
# Each feature's {term}`log-likelihood` under the mixture {eq}`eq-gmm`. A set is easily told apart where
# its histogram lies to the left of the test images'.
#
# ```{margin} Too likely to be true
# A standard Gaussian is highest at 0, and yet none of its points is there: $\lVert z \rVert^2$ has
# mean $D$ and standard deviation $\sqrt{2D}$. In many dimensions the *usual* and the *most likely*
# part, so that a strange input may well get a high likelihood.
# ```

# %% tags=["hide-input", "appendix"] mystnb={"image": {"alt": "Histograms of feature log-likelihood for test images and each out-of-distribution set"}}
dimension = test.features.shape[1]
figure, ax = plotting.new_figure(width=7)
groups = {name: scorers[ours].score_samples(batch) / dimension for name, batch in sets.items()}
_ = plotting.likelihood_histograms(ax, groups)

# %% [markdown]
# And the images themselves: {term}`bits per dimension` under the run's PixelCNN, if it has one
# ({doc}`chapter 3 <03_hypothesis_tests>`), as lossless WebP files, and with every pixel drawn by
# itself. What takes few bits is likely; a detector that trusts likely images trusts simple ones.

# %%
bits = pd.DataFrame(source.bits_per_dim).T.drop(index="validation", errors="ignore")
bits.round(2) if len(bits) else print(f"The run of {source.title} has no PixelCNN.")

# %% [markdown] tags=["appendix"]
# ## Table 1, rebuilt
#
# {term}`AUROC` of every method for telling each set from the test images (Table 2 of the paper has
# CIFAR-10, Table 3 the Gaussian noise; † class-agnostic: looks at no class):

# %% tags=["appendix"]
mark_class_agnostic(auroc, scorers, others=["PixelCNN"]).round(3)

# %% [markdown]
# The same with intervals, one panel a set.

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of every method with confidence intervals, one panel an out-of-distribution set"}}
figure, axes = plotting.new_figure(columns=len(tables), width=4, height=2.9, squeeze=False)
for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
    plotting.bars_with_intervals(ax, table).set_title(name, pad=14)

# %% [markdown]
# The method that the paper compares with most looks at the classes:
#
# ```{prf:definition} Mahalanobis score
# :label: def-mahalanobis
#
# With the class means $\mu_c$ of the training features and one covariance $\Sigma$ around them all,
#
# $$
# s(F) = - \min_c \; (F - \mu_c)^\top \Sigma^{-1} (F - \mu_c)
# $$ (eq-mahalanobis)
# ```
#
# It is minus the squared {term}`Mahalanobis distance` ({cite}`lee2018simple`), and close to a mixture
# with a component for each class, one full covariance instead of many diagonal ones, and a look at
# the labels.
#
# False positive rate at 95 % detection ({term}`FPR95`), the number that an operator feels: how many
# ordinary inputs are refused while nearly all strange ones are caught.

# %%
fpr95 = pd.DataFrame({name: table.FPR95 for name, table in tables.items()})
mark_class_agnostic(fpr95, scorers, others=["PixelCNN"]).round(3)

# %% [markdown]
# ## Independent fits
#
# The paper reports means and deviations over five runs, and does not say what varied. Two things can:
# the fit and the images. The {doc}`sweep of chapter 4 <04_mistakes>` has fitted the mixture five times,
# each time from another start. And with the fit as it is, the images fall into five random parts,
# each with its own AUROC (all of them together vary $\sqrt 5$ times less). The classifier stays the
# same.

# %%
own, wanted = source.experiment, {"n_components": n_components}
wanted |= {"data_set": own.data_set, "classifier": own.classifier}
swept = load_sweep("components", **wanted)
swept = swept[swept.metric.isin([f"auroc.{name}" for name in pairs])]
names = swept.metric.str.removeprefix("auroc.").str.replace("_", " ")
fits = swept.groupby(names).value.agg(["count", "mean", "std"])
if fits.empty:
    print(f"No sweep of {source.title}, K = {n_components}, is published.")

# %%
rng, by_images = np.random.default_rng(seed), {}
for name, each in pairs.items():
    parts = zip(*(np.array_split(rng.permutation(s), 5) for s in each[ours]), strict=True)
    by_images[name.replace("_", " ")] = [mann_whitney(*part).auroc for part in parts]
images = pd.DataFrame(by_images).agg(["mean", "std"]).T
spread = pd.concat({"fits": fits, "fifths of the images": images}, axis=1)
spread.dropna(axis=1, how="all").round(4)

# %% [markdown] tags=["appendix"]
# ## Classifiers side by side
#
# Tables 1 and 2 have a block for each kind of classifier. Here are all published ones with these
# images.

# %% tags=["appendix"]
blocks = {(source.info["title"], name): table for name, table in tables.items()}
for each in source.siblings(n_components)[1:]:
    own, inputs = each.scorers(n_components, seed=seed), each.features("test")
    strange = {name: each.ood(name) for name in each.ood_sets}
    for name, side in score_many(own, inputs, strange).items():
        block = detection_table(side, confidence=confidence, random_state=seed)
        blocks[each.info["title"], name] = block
by_kind = pd.DataFrame({key: block.AUROC for key, block in blocks.items()}).loc[auroc.index]
by_kind = mark_class_agnostic(by_kind, scorers, others=["PixelCNN"])
by_kind.map("{:.3f}".format).replace("nan", "–").rename(columns=lambda n: n.replace("_", " "))

# %% [markdown] tags=["appendix"]
# The same in full, with intervals, {term}`AUPR` and {term}`FPR95`:

# %% tags=["hide-input", "hide-output", "appendix"]
for (title, name), block in blocks.items():
    shown = mark_class_agnostic(block, scorers, others=["PixelCNN"]).round(3)
    display(Markdown(f"**{title}**, {source.ood_sets.get(name, name)}"), shown)

# %% tags=["hide-input"]
missing = [] if "svhn" in source.ood_sets else ["the images of SVHN"]
missing += [] if source.bits_per_dim else ["a PixelCNN"]
Markdown(f"In the paper's tables, but not in this run: {' and '.join(missing) or 'nothing'}.")

# %% [markdown]
# ## Zeros
#
# A ReLU network's features are never negative, and many are exactly 0. Where test features are often 0
# the mixture has narrow, high components there. An input on which still more features are 0 is then
# *likely*, however strange it is. How many are 0 on each set?

# %% tags=["hide-input"]
zeros = share_of_zeros({name: batch.features for name, batch in sets.items()})
zeros["AUROC of the mixture"] = auroc.loc[ours]
zeros.round(2)

# %% tags=["hide-input"]
more = zeros["zeros"]["gaussian_noise"] > zeros["zeros"]["test"]
below = auroc.loc[ours, "gaussian_noise"] < 0.5
Markdown(
    f"On noise {zeros['zeros']['gaussian_noise']:.0%} of the features are 0, on test images "
    f"{zeros['zeros']['test']:.0%}. "
    + (
        "The mixture finds noise likelier than test images, because those zeros are likely."
        if more and below
        else "Here the mixture still finds noise less likely than test images."
        if not below
        else "The mixture finds noise likelier than test images, though zeros do not explain it."
    )
)

# %% [markdown]
# (evidence-ood)=
# ## Evidence for the ledger
#
# The numbers by which the {doc}`ledger of claims <../claims>` judges this chapter's claims.

# %% tags=["evidence"]
evidence = tally_verdicts(versus).to_dict()
evidence |= {"settings": len(tables), "noise": noise.rename({ours: "ours"}).to_dict()}
topics = {"ood": evidence}
if "PixelCNN" in auroc.index:
    told = auroc.loc["PixelCNN"].reindex(["fashion_mnist", "svhn"]).dropna()  # the paper's two
    topics["pixelcnn_ood"] = {"below_half": int((told < 0.5).sum()), "tested": len(told)}
    topics["pixelcnn_ood"] |= auroc.loc["PixelCNN"].to_dict()
print(as_evidence(topics))

# %% [markdown]
# ```{exercise} By hand
# :label: ex-mahalanobis-by-hand
#
# Two classes have the means $(0, 0)$ and $(4, 0)$, and both the covariance $\Sigma$ with the variances 4
# and 1 on its diagonal. Which score has $F = (1, 1)$ by {eq}`eq-mahalanobis`?
# ```
#
# ```{solution-start} ex-mahalanobis-by-hand
# :class: dropdown
# ```

# %%
distances = [((np.array([1, 1]) - mean) ** 2 / [4, 1]).sum() for mean in ([0, 0], [4, 0])]
answer = -min(distances)
print(f"squared distances {distances}: the score is {answer}")

# %% [markdown]
# The second coordinate costs more than the first, though both are 1 from the nearest mean, because its
# variance is smaller.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-mean
#
# Score an input by how close its features' *length* is to the usual one, the mean over the validation
# set. Which sets does so crude a detector find? Give the AUROC for Gaussian noise.
# ```
#
# ```{solution-start} ex-mean
# :class: dropdown
# ```

# %%
from sklearn.metrics import roc_auc_score

usual = np.linalg.norm(source.features("validation").features, axis=1).mean()
scores = {n: -np.abs(np.linalg.norm(b.features, axis=1) - usual) for n, b in sets.items()}
values = {}
for name in source.ood_sets:
    labels = np.r_[np.ones(len(test)), np.zeros(len(scores[name]))]
    values[name] = roc_auc_score(labels, np.r_[scores["test"], scores[name]])
    print(f"{name:<16} {values[name]:.3f}")
answer = values["gaussian_noise"]

# %% [markdown]
# It finds the sets whose features are longer or shorter than usual, and no others, because the length
# is all that it sees.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-components-ood
#
# Does a mixture with a tenth of the components do as well? Give its AUROC for Gaussian noise.
# ```
#
# ```{solution-start} ex-components-ood
# :class: dropdown
# ```

# %%
from mistakes_lib import LogLikelihood

small = LogLikelihood(source.density(max(1, n_components // 10), seed=seed))
for name in source.ood_sets:
    pair = score_pairs({"small": small}, test, source.ood(name))
    values[name] = detection_table(pair, random_state=seed).AUROC["small"]
    print(f"{name:<16} {values[name]:.3f} against {auroc.loc[ours, name]:.3f}")
answer = values["gaussian_noise"]

# %% [markdown]
# Where the number of components matters, this is because the set lies *near* the training features. Far
# from them every mixture is low.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/06_out_of_distribution.ipynb out.ipynb -p n_components 100
# ```
