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
# # Significant, but useful?
#
# *Do correctly and incorrectly classified inputs get the same feature likelihoods?*
#
# The paper (§3.3, eq. 6–7) tests that null hypothesis with the Mann–Whitney U-test and rejects it
# for the mixture of features with $p = 1.9 \times 10^{-13}$ (§4, CIFAR-100). It reads the small
# $p$ as strong separation. This chapter repeats the test and asks what such a $p$ is worth.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to compute $U$ by hand, to turn it into an AUROC, and to tell a significant effect
# from a useful one. *You need* chapter 2 and what a $p$-value is. *Time:* 20 minutes to read, a minute
# to run, 30 minutes for the exercises. *Paper:* §3.3, eq. 6–7, its Fig. 2.
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
import pandas as pd
from IPython.display import Markdown, display
from PIL import Image
from scipy.special import expit, logit
from scipy.stats import norm

from mistakes_lib import as_evidence, claim_badges, load_run, mann_whitney, plotting

figures = plotting.Figures(3)
source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
test = source.features("test")
scores = source.density(n_components, seed=seed).score_samples(test.features)
result = mann_whitney(scores[test.correct], scores[~test.correct], confidence=confidence)

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. Take a random correct prediction and a random mistake. How often has the correct one the higher
#    likelihood? (a) half of the time, (b) two times of three, (c) nine times of ten
# 2. How small is the $p$-value? (a) about one in twenty, (b) about one in a million, (c) far smaller
# 3. We throw away half of the test images. What happens? (a) $p$ and AUROC fall, (b) $p$ grows, the AUROC
#    hardly changes, (c) both stay
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
kept = np.random.default_rng(seed).permutation(len(test))[::2]
fewer = mann_whitney(scores[kept][test.correct[kept]], scores[kept][~test.correct[kept]])
Markdown(
    f"1. In {result.auroc:.2f} of all pairs.\n"
    f"2. $\\log_{{10}} p = {result.log10_p:.1f}$.\n"
    f"3. On half of the images $\\log_{{10}} p = {fewer.log10_p:.1f}$ and the AUROC is "
    f"{fewer.auroc:.2f}."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
low, high = result.auroc_ci
rejected = result.log10_p < np.log10(1 - confidence)
direction = "lower" if result.auroc > 0.5 else "higher"
Markdown(
    f"**Verdict.** On {source.title} the test "
    + (f"rejects equality: mistakes have {direction} likelihoods" if rejected else "finds nothing")
    + f" (log₁₀ p = {result.log10_p:.1f}). The effect is an AUROC of {result.auroc:.3f} "
    f"({confidence:.0%} interval {low:.3f} to {high:.3f}): how often a random correct input "
    "outranks a random mistake."
)

# %% [markdown]
# ## The test
#
# Let $F_c$ be features of correctly classified inputs and $F_w$ those of misclassified ones, with
# distributions $p_C$ and $p_W$. The hypotheses are
#
# $$
# H_0 : p_C = p_W \qquad H_1 : p_C \neq p_W .
# $$ (eq-hypotheses)
#
# ```{prf:definition} Mann–Whitney statistic
# :label: def-u
#
# Rank all $n + m$ inputs together by their predicted {term}`log-likelihood`. With $R_C$ and $R_W$ the
# sums of the ranks of the $n$ correct ones and of the $m$ {term}`mistakes <mistake>`,
#
# $$
# U_C = R_C - \tfrac{n(n+1)}{2}, \qquad U_W = R_W - \tfrac{m(m+1)}{2}, \qquad U = \min(U_C, U_W)
# $$ (eq-u)
# ```
#
# ```{margin} Where does the 12 come from?
# Under $H_0$ the ranks are shuffled numbers $1, \dots, N = n + m$. One of them has the variance
# $(N^2 - 1)/12$, as a die with $N$ faces; the sum of $n$ drawn without replacement has
# $nm(N + 1)/12$.
# ```
#
# The paper uses this definition of {cite}`mann1947test` (§3.3, eq. 6–7). Under $H_0$, $U_C$ has mean
# $nm/2$ and variance $nm(n+m+1)/12$, and is close to normal. The {term}`Mann–Whitney U-test` compares
# it with that. There is a simpler way to say what $U_C$ measures.
#
# ```{margin} Why is $U/(nm)$ the AUROC?
# Draw a grid, a column for each correct input and a row for each mistake: $nm$ squares. The ROC curve
# is a staircase through it, and $U_C$ counts the squares below.
# ```
#
# ```{prf:theorem} $U_C / (nm)$ is the AUROC
# :label: thm-auroc
#
# Without ties, $U_C$ is the number of pairs of a correct input and a mistake in which the correct one
# has the higher score. $U_C / (nm)$ is the chance that a random pair is in this order, and the area
# under the {term}`ROC curve` ({term}`AUROC`; {cite}`hanley1982meaning`).
# ```
#
# ```{prf:proof}
# Let $u_i$ mistakes score below the $i$-th lowest correct input. With the $i$ correct ones up to
# itself, its rank is $i + u_i$. Summed over $i$, $R_C = n(n+1)/2 + \sum_i u_i$, so
# $U_C = \sum_i u_i$, the number of such pairs. Now raise the threshold of a detector from the lowest
# score to the highest. A mistake that it passes lifts the ROC curve by $1/m$; a correct input moves it
# by $1/n$ to the right, at the height that it has then, $u_i / m$. The area is
# $\sum_i \frac1n \frac{u_i}{m} = U_C / (nm)$. A tie counts one half in both.
# ```
#
# Here is a case to check by hand. Three correct inputs have the scores 3, 5, 6 and two mistakes the
# scores 1 and 4. Five of the six pairs are in the right order, so $U_C = 5$.

# %%
toy = mann_whitney([3, 5, 6], [1, 4])
print(f"U_C = {toy.u_correct:.0f}, U_W = {toy.u_wrong:.0f}, U = {toy.u:.0f}")
print(f"AUROC = U_C / (n m) = {toy.auroc:.3f}")

# %% [markdown]
# ## The mixture of features
#
# ```{margin} Why $\log_{10} p$?
# The tail of a normal distribution falls like $e^{-z^2/2}$. For a large $z$ a computer would print
# $p = 0$; its logarithm stays a number.
# ```
#
# Now we test the log-likelihoods of all test features under the mixture {eq}`eq-gmm`, split by
# whether the prediction was right. This is the counterpart of the $p$-values beside the paper's
# Fig. 2. The interval of the AUROC is DeLong's ({cite}`delong1988comparing`).

# %%
print(f"n = {test.correct.sum()} correct, m = {(~test.correct).sum()} mistakes")
print(f"z = {result.z:.2f}, log10 p = {result.log10_p:.1f}")
print(f"AUROC = {result.auroc:.3f}, interval {low:.3f} to {high:.3f}")

# %% [markdown]
# $U_C$ and DeLong's standard error in five lines, and equal to the library's. A *placement* is the share
# of the other group that an input outranks; the error comes from the variances of the placements.

# %%
right, wrong = scores[test.correct][:, None], scores[~test.correct][None]
won = (right > wrong) + 0.5 * (right == wrong)  # (n, m)
deviations = [won.mean(axis=axis).std(ddof=1) / np.sqrt(won.shape[1 - axis]) for axis in (0, 1)]
error = np.hypot(*deviations)
assert np.isclose(won.sum(), result.u_correct) and np.isclose(won.mean(), result.auroc)
reach = norm.isf((1 - confidence) / 2) * error / (won.mean() * (1 - won.mean()))  # in log-odds
assert np.allclose(expit(logit(won.mean()) + np.array([-reach, reach])), result.auroc_ci)
print(f"AUROC {won.mean():.3f}, standard error {error:.4f}")

# %% [markdown]
# ## A density of the images
#
# ```{margin} Why should it know?
# The PixelCNN scores how typical the pixels are. It never saw the classifier, so it cannot know where
# the classifier fails.
# ```
#
# The paper repeats the test with the likelihood of the *images*, from a PixelCNN
# ({cite}`salimans2017pixelcnn`) that was trained on the same training images. There it finds correct
# and misclassified inputs "almost indistinguishable" ($p = 8.58 \times 10^{-5}$). The table has a
# second row if a run of these images has a PixelCNN.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
tests = {f"GMM-{n_components} on features": result}
if "test" in source.scored_images:
    pixels = source.image_log_likelihood("test")
    right, wrong = pixels[test.correct], pixels[~test.correct]
    tests["PixelCNN on images"] = mann_whitney(right, wrong, confidence=confidence)
rows = {
    name: {
        "z": t.z,
        "log₁₀ p": t.log10_p,
        "AUROC": t.auroc,
        f"AUROC {confidence:.0%} interval": "{:.2f} to {:.2f}".format(*t.auroc_ci),
    }
    for name, t in tests.items()
}
pd.DataFrame.from_dict(rows, orient="index").round(2)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
pixel = tests.get("PixelCNN on images")
Markdown(
    f"The density of features separates the groups with an AUROC of {result.auroc:.2f}"
    + (
        f", that of images with {pixel.auroc:.2f}."
        if pixel
        else ". No run of these images has a PixelCNN."
    )
)

# %% [markdown]
# A PixelCNN should need fewer {term}`bits per dimension` on the test images than lossless WebP files
# do, and far fewer than a model that treats every pixel as independent and knows only the training
# set's colours. If there is one, the table compares the three.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
imager = source.pixel_cnn_run
bits = imager.bits_per_dim["test"] if imager else {}
pd.DataFrame({"bits per dimension": bits}).round(3) if bits else print(
    "There is nothing to compare."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
text = "Whether a good PixelCNN separates the two groups stays open here."
if bits:
    own = imager.experiment.pixel_cnn
    layers = "layer" if own["n_resnets"] == 1 else "layers"
    beaten = "beats" if bits["PixelCNN"] < bits["WebP, lossless"] else "does not even beat"
    text = (
        f"This PixelCNN has {own['n_filters']} filters, {own['n_resnets']} residual {layers} at each "
        f"size, and {own['epochs']} epochs of training; the published ones have 160 and 5, and "
        f"hundreds of epochs on several GPUs, and reach 2.92 bits on CIFAR-10. Ours {beaten} WebP by "
        f"{abs(bits['WebP, lossless'] - bits['PixelCNN']):.2f} bits. It is under-trained, so a better "
        "PixelCNN might separate the two groups."
    )
Markdown(text)

# %% [markdown]
# Images sampled from a PixelCNN, pixel by pixel, show what it has learned.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "A row of training images above a row of images that the PixelCNN has drawn", "classes": "photograph"}}
if not bits:
    display(Markdown("Without a PixelCNN there are no samples."))
else:
    sheet = Image.open(imager.figure("drawings"))
    figure, ax = plotting.new_figure(width=8, height=1.6)
    ax.imshow(sheet)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_yticks(np.array([1, 3]) * sheet.height / 4, ["training images", "drawn"])
    ax.set_xticks([])
    figures.show(
        figure,
        "PixelCNN: samples",
        f"The PixelCNN takes {bits['PixelCNN']:.2f} bits per dimension, and its samples (below) share "
        "colours and textures with training images (above).",
    )

# %% [markdown]
# ## Is the test itself right?
#
# Under $H_0$ a $p$-value below 0.05 must turn up in 5 % of cases. We shuffle the labels *correct* and
# *incorrect* many times, so that $H_0$ holds by construction, and count.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Histogram of p-values under shuffled labels: flat"}}
rng = np.random.default_rng(seed)
nulls = []
for _ in range(400):
    shuffled = rng.permutation(test.correct)
    nulls.append(mann_whitney(scores[shuffled], scores[~shuffled]).p_value)
figure, ax = plotting.new_figure(width=6, height=2.6)
ax.hist(nulls, bins=20, range=(0, 1), color=plotting.PALETTE[0], alpha=0.7)
ax.axhline(len(nulls) / 20, color="0.3", linestyle="--", label="expected")
ax.set(xlabel="p-value with shuffled labels", ylabel="count")
ax.legend(frameon=False)
alpha = 1 - confidence
figures.show(
    figure,
    "shuffled labels",
    f"The test keeps its promise: of {len(nulls)} shuffles, {np.mean(np.array(nulls) < alpha):.1%} fall "
    f"below {alpha:.2f}.",
)

# %% [markdown]
# ## Significance is not usefulness
#
# If there is any effect at all, $p$ shrinks as the number of test images grows. The {term}`AUROC` does
# not change. Here the same likelihood is tested on growing parts of the test set, each of which
# contains the smaller ones.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Left: log10 p falls with the number of images. Right: the AUROC stays where it is while its interval narrows"}}
sizes = [*(s for s in (250, 500, 1000, 2000, 5000) if s < len(test)), len(test)]
shuffled = rng.permutation(len(test))
parts = [shuffled[:size] for size in sizes]
growing = [mann_whitney(scores[p][test.correct[p]], scores[p][~test.correct[p]]) for p in parts]
figure, (left, right) = plotting.new_figure(columns=2)
left.plot(sizes, [t.log10_p for t in growing], "o-", color=plotting.PALETTE[0])
left.set(xscale="log", xlabel="test images", ylabel="log₁₀ p")
middle = np.array([t.auroc for t in growing])
errors = np.abs(np.array([t.auroc_ci for t in growing]).T - middle)
right.errorbar(sizes, middle, errors, fmt="s-", capsize=3, color=plotting.PALETTE[1])
right.set(xscale="log", xlabel="test images", ylabel="AUROC", ylim=(0.4, 1))
figures.show(
    figure,
    "p and the number of images",
    f"More images make p smaller and leave the AUROC where it is: from {sizes[0]:,} to {sizes[-1]:,} "
    f"images log₁₀ p falls from {growing[0].log10_p:.1f} to {growing[-1].log10_p:.1f}, while the AUROC "
    f"goes from {growing[0].auroc:.2f} to {growing[-1].auroc:.2f}.",
)

# %% [markdown]
# So what do the printed $p$-values say? The paper's DenseNet has an accuracy of 72.76 % on
# CIFAR-100 and 10,000 test images, hence $n = 7276$ and $m = 2724$. A two-sided $p$ fixes $|z|$,
# and $z = (U_C - nm/2) / \sqrt{nm(n+m+1)/12}$ fixes the AUROC, $U_C / (nm)$.

# %%
n, m = 7276, 2724  # 72.76 % of 10,000
for name, p in (("GMM-100 on features", 1.9e-13), ("PixelCNN on images", 8.58e-5)):
    z = norm.isf(p / 2)
    implied = 0.5 + z * np.sqrt((n + m + 1) / (12 * n * m))
    print(
        f"{name:<20} p = {p:.3g}: |z| = {z:.1f}, AUROC at least this far from chance: {implied:.3f}"
    )

# %% [markdown]
# If the printed $p$ were for all 10,000 images, the separation would be only slightly better than
# a coin toss. The paper does not say how many images entered the test; a test on a few hundred
# images would turn the same $p$ into a large effect. A $p$-value alone cannot tell.

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- The U-test {'rejects' if rejected else 'does not reject'} that correct predictions and mistakes "
    f"have the same feature likelihoods (log₁₀ p = {result.log10_p:.0f}).\n"
    f"- The effect is an AUROC of {result.auroc:.2f}, so in {1 - result.auroc:.0%} of all pairs the "
    f"mistake is the likelier one.\n"
    f"- With {sizes[0]:,} images the same effect has log₁₀ p = {growing[0].log10_p:.1f}, so p alone says "
    "nothing of the size of an effect."
)

# %% [markdown]
# (evidence-u-test)=
# ## The paper's claims
#
# The {doc}`ledger of claims <../claims>` judges these claims by the numbers of this chapter.

# %% tags=["evidence", "hide-input", "remove-output"] mystnb={"code_prompt_show": "Code: the numbers for the ledger"}
topics = dict(
    zip(("u_test", "u_test_pixelcnn"), tests.values(), strict=False)
)  # the second, if it is there
evidence = {
    topic: {"log10_p": t.log10_p, "auroc": t.auroc, "low": t.auroc_ci[0], "high": t.auroc_ci[1]}
    for topic, t in topics.items()
}
print(as_evidence(evidence))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
Markdown(claim_badges(source.name, "evidence-u-test"))

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-staircase
#
# Four correct predictions have the scores 2, 4, 5 and 9, and three mistakes the scores 1, 3 and 7. Draw
# a column for each correct prediction, as high as the number of mistakes below it. How many squares
# does this staircase cover? That is $U_C$.
# ```
#
# ```{solution-start} ex-staircase
# :class: dropdown
# ```

# %%
heights = [sum(mistake < score for mistake in (1, 3, 7)) for score in (2, 4, 5, 9)]
answer = sum(heights)
print(f"columns {heights}: U_C = {answer}, AUROC = {answer / 12:.3f}")

# %% [markdown]
# The staircase is the ROC curve with its axes counted in inputs, because each column is one correct
# prediction and its height the number of mistakes that were passed before it.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-u-auroc
#
# Count, without ranks, how often a correct input outranks a mistake among the first 200 of each. Is
# this share $U_C / (nm)$?
# ```
#
# ```{solution-start} ex-u-auroc
# :class: dropdown
# ```

# %%
good, bad = scores[test.correct][:200], scores[~test.correct][:200]
counted = (good[:, None] > bad[None, :]).mean() + 0.5 * (good[:, None] == bad[None, :]).mean()
answer = counted
print(f"{counted:.6f} and {mann_whitney(good, bad).auroc:.6f}")

# %% [markdown]
# The two agree because $U_C$ counts these pairs, a tie as one half ({prf:ref}`thm-auroc`).
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-monotone
#
# Replace each log-likelihood by its exponential, or by its rank. Which $z$ has the test then?
# ```
#
# ```{solution-start} ex-monotone
# :class: dropdown
# ```

# %%
ranks = scores.argsort().argsort()
again = mann_whitney(ranks[test.correct], ranks[~test.correct])
answer = again.z
print(f"z = {answer:.4f}, before {result.z:.4f}")

# %% [markdown]
# Nothing changes, because the test uses the order of the scores alone, and an increasing function
# keeps it.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/03_hypothesis_tests.ipynb out.ipynb -p n_components 1000 -p confidence 0.99
# ```
