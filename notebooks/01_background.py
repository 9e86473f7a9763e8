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
# # Three ways to fail
#
# *Can we see, from the image alone, that a classifier is about to fail?*
#
# The paper ({cite}`shao2020understanding`, §3 and its Fig. 1) says no: training images, adversarial
# images and misclassified test images look alike to the human eye. So we look inside the network, at
# the numbers that it computes from an image: its *features*. This chapter introduces the network,
# shows its mistakes, and measures how confident it was in them.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to split a classifier into features and logits, to recognise its three kinds of
# failure, and to read its confidence. *You need* the softmax. *Time:* 15 minutes to read, a minute to
# run, 20 minutes for the exercises. *Paper:* §1, §3.1, its Fig. 1.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 100  # Gaussians in the mixture of the features
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
from IPython.display import Markdown, display

from mistakes_lib import (
    MaxSoftmax,
    expected_calibration_error,
    extract_features,
    fgsm,
    load_run,
    plotting,
)

figures = plotting.Figures(1)
source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
test = source.features("test")
wrong = test[~test.correct]
sure = (MaxSoftmax().fit(test).score_samples(wrong) > 0.9).mean()

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. How many of ten mistakes have a confidence above `0.9`? (a) none, (b) one or two, (c) more than half
# 2. How many of a hundred predictions above `0.9` are wrong? (a) fewer than five, (b) ten to twenty,
#    (c) half
# 3. How many numbers does this network compute from an image before its last layer? (a) as many as there
#    are classes, (b) tens to hundreds, (c) as many as the image has pixels
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
bold = MaxSoftmax().fit(test).score_samples(test) > 0.9
Markdown(
    f"1. {10 * sure:.1f} of ten.\n"
    f"2. {100 * (~test.correct[bold]).mean():.1f} of a hundred.\n"
    f"3. {test.features.shape[1]}, for {len(source.classes)} classes."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
Markdown(
    f"**Verdict.** The {source.title} classifies {test.accuracy:.1%} of {len(test):,} test images "
    f"correctly and makes {len(wrong):,} mistakes. The images do not show which ones, and confidence "
    f"does so only in part: {sure:.0%} of the mistakes have a softmax confidence above 0.9."
)

# %% [markdown]
# ## The classifier, in the paper's words
#
# ```{margin} Why the last layer?
# Logistic regression only draws hyperplanes. So $f_\theta$ has to separate the classes, and an image
# on which it fails to do so should have an unusual $F$.
# ```
#
# A network trained for classification is two things: a feature extractor
# $f_\theta : \mathcal X \to \mathbb R^D$ and, on top of it, multivariate logistic regression (§3.1,
# eq. 1):
#
# $$
# p(y \mid X, \theta, W, b) = \operatorname{softmax}\bigl(W f_\theta(X) + b\bigr)
# $$ (eq-softmax)
#
# ```{prf:definition} Feature, prediction, mistake
# :label: def-feature
#
# The {term}`feature` of an image $X$ is $F = f_\theta(X)$, its {term}`logits` are $WF + b$, and its
# prediction is $\hat y(X) = \arg\max_y p(y \mid X, \theta, W, b)$. A test image with a label
# $y \neq \hat y(X)$ is a {term}`mistake`.
# ```
#
# This book models the vector $F$ that passes between the two parts. It has a few hundred numbers, so
# it is much easier to model than an image of $3 \times 32 \times 32$ pixels, and, unlike the image,
# it shows what *this* network extracted.
#
# In the library, a network that is split in this way is a `FeatureClassifier`.

# %%
network = source.classifier()
parameters = sum(parameter.numel() for parameter in network.parameters())
print(f"{source.title}: {parameters:,} parameters, {network.num_features} features")

# %% [markdown]
# The published {term}`run` keeps the features $F$, the logits $WF + b$ and the labels of every split.
# So the book can be computed again without images and without training. The images are those of
# CIFAR-100 ({cite}`krizhevsky2009learning`), as in the paper, unless the parameters say otherwise.

# %%
for split in ("train", "validation", "test"):
    batch = source.features(split)
    print(f"{split:<11} features {batch.features.shape}  accuracy {batch.accuracy:.2%}")

# %% [markdown]
# ## Look for yourself
#
# The run keeps some test images, and the network itself. The first row shows images that the network
# classifies correctly, one image a class of at most seven classes. The second row shows the same images after an attack with the fast gradient
# sign method ({cite}`goodfellow2014explaining`): no pixel moves by more than 2 of 256 grey levels. (The
# paper's Fig. 1 has $\varepsilon = 0.1$, which is 25 grey levels and can be seen.) The third row shows
# images that the network gets wrong. Above each image stand its class, what the network takes it for,
# and the network's confidence.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Three rows of small images with class and confidence: correctly classified test images, the same images attacked, and misclassified test images", "classes": "photograph"}}
rows, radius = source.pictured, 2 / 255
if len(rows):
    images, seen = plotting.sheet_images(source.figure("pictures")), test[rows]
    _, first = np.unique(np.where(seen.correct, seen.labels, -1), return_index=True)
    kept = [i for i in first if seen.correct[i]][:7]  # one image a class
    mistaken = np.flatnonzero(~seen.correct)[:: max(1, (~seen.correct).sum() // 7)][:7]
    attacked = fgsm(network, images[kept], seen.labels[kept], radius)
    fooled = extract_features(network, attacked, labels=seen.labels[kept])
    panels = {
        "correct": (images[kept], seen[kept]),
        "attacked": (attacked, fooled),
        "mistakes": (images[mistaken], seen[mistaken]),
    }
    panels = {n: plotting.judged_images(*each, source.classes) for n, each in panels.items()}
    figures.show(
        plotting.gallery(panels),
        "three kinds of images",
        f"The images do not show which ones fool the network. It is wrong on "
        f"{(~fooled.correct).sum()} of the {len(kept)} attacked images, which look like the originals "
        "above them, and on all images of the last row.",
    )
else:
    display(Markdown(f"The run of {source.title} keeps no images, so none can be shown."))

# %% [markdown]
# ## Does the network warn?
#
# ```{margin} Why so sure?
# The softmax depends only on how far one logit leads: $p_{\hat y} = 1 / (1 + \sum_{j \ne \hat y}
# e^{z_j - z_{\hat y}})$. Training keeps raising the winning logit even when the answer is already
# right. Test images that look similar get the same high confidence, right or wrong.
# ```
#
# The network's own warning is its {term}`confidence`: the largest probability in {eq}`eq-softmax`.
# How many predictions are wrong at each confidence?

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Histogram of the softmax confidence of all test images; incorrect predictions are stacked on correct ones"}}
confidences = MaxSoftmax().fit(test).score_samples(test)
figure, ax = plotting.new_figure(width=6)
counts = [confidences[test.correct], confidences[~test.correct]]
ax.hist(counts, bins=20, range=(0, 1), stacked=True, label=["correct", "incorrect"])
ax.set(xlabel="confidence (largest softmax probability)", ylabel="test images")
ax.legend(frameon=False)
high = confidences > 0.9
figures.show(
    figure,
    "confidence of all predictions",
    f"Confidence warns of some mistakes only: {(~test.correct[high]).sum():,} of {len(wrong):,} come "
    f"with a confidence above 0.9. Of the {high.sum():,} predictions above 0.9, "
    f"{(~test.correct[high]).mean():.1%} are wrong; of the {(~high).sum():,} others, "
    f"{(~test.correct[~high]).mean():.1%} are.",
)

# %% [markdown]
# {term}`Calibration <calibration>` asks how far confidence and accuracy disagree.
#
# ```{prf:definition} Expected calibration error
# :label: def-ece
#
# Sort $N$ predictions by confidence into $B$ bins $I_1, \dots, I_B$ of equal width. With
# $\operatorname{acc}$ the share of right ones in a bin and $\operatorname{conf}$ its mean confidence,
#
# $$
# \mathrm{ECE} = \sum_{b=1}^{B} \frac{|I_b|}{N} \,
# \bigl| \operatorname{acc}(I_b) - \operatorname{conf}(I_b) \bigr|
# $$ (eq-ece)
# ```
#
# The {term}`ECE` comes from {cite}`guo2017calibration`; Appendix C uses 10 bins. Zero is perfect. In
# five lines, and equal to the library's:

# %%
error = expected_calibration_error(test.logits, test.labels, n_bins=10)
bins = np.ceil(confidences * 10).astype(
    int
)  # bin b holds the confidences in ((b - 1) / 10, b / 10]
gaps = [abs(test.correct[bins == b].sum() - confidences[bins == b].sum()) for b in range(1, 11)]
assert np.isclose(sum(gaps) / len(test), error)
print(f"mean confidence {confidences.mean():.3f}, accuracy {test.accuracy:.3f}, ECE {error:.3f}")

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- A classifier is a feature extractor and a linear layer. This one turns an image into "
    f"{network.num_features} features.\n"
    f"- It makes {len(wrong):,} mistakes on {len(test):,} test images, and nothing in the images tells "
    f"which.\n"
    f"- Its confidence is above 0.9 on {sure:.0%} of the mistakes. Its calibration error is {error:.3f}."
)

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-softmax-by-hand
#
# Three logits are 2, 1 and 0. What is the {term}`confidence` of the prediction?
# ```
#
# ```{solution-start} ex-softmax-by-hand
# :class: dropdown
# ```

# %%
from scipy.special import softmax

answer = softmax([2, 1, 0]).max()
print(f"{answer:.3f}")

# %% [markdown]
# The confidence is far from 1 although the prediction leads by a whole logit, because a lead of one
# logit multiplies the odds by $e$ only.
#
# ```{solution-end}
# ```
#
# ```{exercise} By hand
# :label: ex-ece-by-hand
#
# A network makes ten predictions. Five have a confidence of `0.9`, and four of them are right. Five have
# a confidence of `0.6`, and two of them are right. Compute the {term}`ECE` with {eq}`eq-ece`.
# ```
#
# ```{solution-start} ex-ece-by-hand
# :class: dropdown
# ```

# %%
sizes, right, stated = np.array([5, 5]), np.array([4, 2]) / 5, np.array([0.9, 0.6])
answer = (sizes / 10 * abs(right - stated)).sum()
print(f"{answer:.3f}")

# %% [markdown]
# Each bin counts by its share of the predictions, because the ECE is the mean gap over predictions and
# not over bins.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-confusions
#
# Which two classes does the network confuse most often, and how often?
# ```
#
# ```{solution-start} ex-confusions
# :class: dropdown
# ```

# %%
from sklearn.metrics import confusion_matrix

confusion = confusion_matrix(test.labels, test.predictions)
confusion[range(len(confusion)), range(len(confusion))] = 0  # keep the mistakes
truth, predicted = divmod(confusion.argmax(), len(confusion))
answer = confusion.max()
print(f"{source.classes[truth]} → {source.classes[predicted]}: {answer} times")

# %% [markdown]
# One direction is counted, and not the other, because a row of the matrix is the true class and a
# column the predicted one.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-threshold
#
# Reject every prediction with confidence below 0.9. How many mistakes remain among those kept?
# ```
#
# ```{solution-start} ex-threshold
# :class: dropdown
# ```

# %%
kept = confidences >= 0.9
answer = (~test.correct[kept]).sum()
print(f"{kept.mean():.1%} are kept; {answer} of {len(wrong)} mistakes remain")

# %% [markdown]
# These mistakes remain because the network is confident in them: no threshold on confidence removes
# them without refusing all predictions that are less sure.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# Rerun this chapter on another run:
#
# ```bash
# mistakes run notebooks/parameters/quick.yml
# papermill notebooks/01_background.ipynb out.ipynb -p data_set digits -p classifier densenet_bc_16_8
# ```
