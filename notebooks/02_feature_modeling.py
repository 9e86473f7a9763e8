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
# # A density for features
#
# *Which features are usual for this network, and which are not?*
#
# The paper (§3.2) answers with the simplest generative model that can: a Gaussian mixture with
# diagonal covariances, fitted to the training features without looking at a single label.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to fit a mixture by EM, to watch EM at work in a plane, and to choose the number of
# Gaussians. *You need* chapter 1 and the normal distribution. *Time:* 20 minutes to read, a minute to
# run, 30 minutes for the exercises. *Paper:* §3.2, eq. 5.
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
from IPython.display import Markdown
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.mixture import GaussianMixture

from mistakes_lib import DiagonalGMM, load_run, mixture_explorer, plotting

figures = plotting.Figures(2)
source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
train, validation, test = (source.features(s) for s in ("train", "validation", "test"))
dimension = train.features.shape[1]
gmm = source.density(n_components, seed=seed)
single = source.density(1, seed=seed)

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. Which features are likelier under the mixture? (a) those of training images, (b) those of test
#    images, (c) both alike
# 2. Can a log-likelihood be above 0? (a) no, because a probability is at most 1, (b) yes
# 3. The mixture sees no label. How many of ten validation features lie in a component most of whose
#    features have their class? (a) one, (b) five, (c) eight or more
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
heights = {name: gmm.score(batch.features) for name, batch in (("train", train), ("test", test))}
homes, shares = gmm.predict(validation.features), 0
for k in np.unique(homes):
    shares += np.bincount(validation.labels[homes == k]).max() / len(validation)
Markdown(
    f"1. Training features have {heights['train'] / dimension:.2f} nats per dimension on average, "
    f"test features {heights['test'] / dimension:.2f}.\n"
    f"2. Yes, because a density is no probability. The largest here is "
    f"{gmm.score_samples(test.features).max() / dimension:.2f} nats per dimension.\n"
    f"3. {10 * shares:.1f} of ten."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
gain = (gmm.score(test.features) - single.score(test.features)) / dimension
gap = (gmm.score(train.features) - gmm.score(test.features)) / dimension
Markdown(
    f"**Verdict.** On {source.title}, {n_components} Gaussians describe unseen test features "
    f"better than one Gaussian by {gain:.2f} nats per dimension; training features are likelier "
    f"than test features by {gap:.2f} nats per dimension, so the mixture "
    f"{'overfits more than it gains' if gap > gain else 'gains more than it overfits'}."
)

# %% [markdown]
# ## The model
#
# ```{margin} Can a diagonal covariance do?
# One diagonal Gaussian cannot be tilted. A mixture can still follow a tilted cloud by covering it
# with several small ones, and with enough of them it comes as close to any density as we like. A
# component costs $2D + 1$ numbers instead of $D(D+3)/2 + 1$, so the same data afford many more.
# ```
#
# The distribution of the {term}`features <feature>` $F = f_\theta(X)$, $X \sim p_{\text{data}}$, is
# modelled as follows (§3.2, eq. 5).
#
# ```{prf:definition} Diagonal Gaussian mixture
# :label: def-gmm
#
# A {term}`Gaussian mixture` with $K$ components has weights $\pi_k$ that sum to one, means $\mu_k$
# and diagonal covariances $\Sigma_k$:
#
# $$
# p(F) = \sum_{k=1}^{K} \pi_k \, \mathcal N(F; \mu_k, \Sigma_k), \qquad \Sigma_k \text{ diagonal.}
# $$ (eq-gmm)
# ```
#
# No label appears: the model is {term}`class-agnostic`, which is why it can serve where labels are
# rare.
#
# ```{margin} Why does EM climb?
# Jensen's inequality bounds the log-likelihood from below by
# $\sum_k r_{ik} \log \frac{\pi_k \mathcal N(F_i; \mu_k, \Sigma_k)}{r_{ik}}$. Step 1 makes the bound
# touch, and step 2 raises it, so the likelihood cannot fall. EM finds a local maximum, not
# necessarily the best one.
# ```
#
# ```{prf:algorithm} Expectation–maximisation
# :label: alg-em
#
# From a first guess, repeat until the mean {term}`log-likelihood` of $F_1, \dots, F_N$ hardly grows
# ({term}`EM`; {cite}`dempster1977maximum`):
#
# 1. Share each feature among the components: $r_{ik} = \pi_k \mathcal N(F_i; \mu_k, \Sigma_k) /
#    p(F_i)$, its *responsibilities*.
# 2. Fit each component to its share: $N_k = \sum_i r_{ik}$, $\pi_k = N_k / N$,
#    $\mu_k = \sum_i r_{ik} F_i / N_k$, and on the diagonal of $\Sigma_k$ the variances
#    $\sum_i r_{ik} (F_i - \mu_k)^2 / N_k$.
# ```
#
# ```{margin} Negative bits?
# A density is no probability: only its *integral* is one. A Gaussian narrower than
# $\sigma = 1/\sqrt{2\pi}$ exceeds 1 at its mean; there $\log p > 0$ and BPD $< 0$. What counts is the
# difference of two BPDs in one unit ({ref}`ex-bpd` changes the unit). Pixels are whole numbers: their
# $p$ is a probability, and BPD the length of a code.
# ```
#
# ```{prf:definition} Bits per dimension
# :label: def-bpd
#
# $\mathrm{BPD}(F) = -\log_2 p(F) / D$ ({term}`bits per dimension`), the paper's unit. Smaller is more
# usual.
# ```

# %%
mixture = DiagonalGMM(n_components=10, random_state=seed).fit(train.features[:5000])
print(f"log-likelihood {mixture.score(test.features):.1f} nats")
print(f"that is {mixture.bits_per_dim(test.features).mean():.4f} bits per dimension")

# %% [markdown]
# The density {eq}`eq-gmm` in five lines, and equal to the library's:

# %%
F = test.features[:100, None].astype(np.float64)  # (n, 1, D)
variances = mixture.covariances_  # (K, D)
squares = ((F - mixture.means_) ** 2 / variances).sum(axis=2)  # (n, K)
joint = np.log(mixture.weights_) - 0.5 * (squares + np.log(2 * np.pi * variances).sum(axis=1))
assert np.allclose(logsumexp(joint, axis=1), mixture.score_samples(test.features[:100]))

# %% [markdown]
# ## EM in a plane
#
# In hundreds of dimensions we cannot watch {prf:ref}`alg-em` work. In two we can. We take test
# features of the first three classes, project them on the two directions in which they vary most, and start with
# a Gaussian at each of three features.

# %%
three = np.random.default_rng(seed).permutation(np.flatnonzero(test.labels < 3))[:300]
pca = PCA(2)
plane = pca.fit_transform(test.features[three].astype(np.float64))  # (300, 2)
guess = {
    "weights_init": np.full(3, 1 / 3),
    "means_init": plane[:3],
    "precisions_init": np.tile(1 / plane.var(axis=0), (3, 1)),
}
flat = DiagonalGMM(3, **guess).fit(plane)
print(f"the plane keeps {pca.explained_variance_ratio_.sum():.0%} of the variance")
print(f"{flat.n_iter_} steps lead to a log-likelihood of {flat.score(plane):.3f} nats per point")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Projected test features of three classes, with the ellipses of the three Gaussians that EM has found"}}
figure, ax = plotting.new_figure(width=6)
groups = {source.classes[c]: plane[test.labels[three] == c] for c in range(3)}
plotting.mixture_in_plane(ax, groups, flat.means_, flat.covariances_)
ax.set(xlabel="first principal component", ylabel="second principal component")
owner = flat.predict(plane)
purest = sum(np.bincount(test.labels[three][owner == k], minlength=3).max() for k in range(3))
figures.show(
    figure,
    "EM in a plane",
    f"Three Gaussians find the three classes in part: {purest / len(three):.0%} of the points lie in a "
    "Gaussian where their class is the most frequent. Colours are the classes, which EM never saw; an "
    "ellipse spans two standard deviations.",
)

# %% [markdown]
# Now do it yourself, without the classes. Here a
# point has the colour of its most responsible component, and is pale where it is shared. Take one
# step after the other: the likelihood never falls. Press *Run EM*. Then press *Bad start*, which puts
# all centres into one corner (or drag them there, or move them with the arrow keys), and *Run EM* again.
# The dashed line is the best log-likelihood so far with as many Gaussians. Does EM reach it from
# everywhere? Then add Gaussians. Do the new ones match classes, or do they only split one?

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: EM by hand"}
mixture_explorer(
    plane,
    plane[:6],
    n_components=3,
    names=("first principal component", "second principal component"),
)

# %% [markdown]
# ## The same optimum as scikit-learn's
#
# `DiagonalGMM` is this project's own and was written to be fast, so we check that it is also right.
# From the same start it takes the same steps as scikit-learn's mixture.

# %%
few = train.features[:2000].astype(np.float64)
start = {
    "weights_init": np.full(5, 0.2),
    "means_init": few[:5],
    "precisions_init": np.ones((5, dimension)),
}
ours = DiagonalGMM(5, max_iter=200, **start).fit(few)
theirs = GaussianMixture(5, covariance_type="diag", max_iter=200, **start).fit(few)
print(f"iterations {ours.n_iter_} and {theirs.n_iter_}")
print(f"means agree to 1e-6: {np.allclose(ours.means_, theirs.means_, atol=1e-6)}")

# %% [markdown]
# ## How many Gaussians?
#
# More components always fit the *training* features better. Held-out features show when the mixture
# begins to overfit.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
sizes = sorted({1, 10, max(2, n_components // 2), n_components, 2 * n_components})
rows = []
for size in sizes:
    fitted = source.density(size, seed=seed)
    for name, split in (("train", train), ("validation", validation), ("test", test)):
        rows.append((size, name, fitted.score(split.features) / dimension))
likelihood = pd.DataFrame(rows, columns=["K", "split", "nats per dimension"])
held = likelihood.pivot(index="K", columns="split", values="nats per dimension")
held[["train", "validation", "test"]].round(3)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Mean log-likelihood per dimension against the number of components, for train, validation and test features"}}
figure, ax = plotting.new_figure(width=6)
splits = likelihood.groupby("split", sort=False)
for line, (split, part) in zip(("o-", "s--", "^:"), splits, strict=True):
    ax.plot(part["K"], part["nats per dimension"], line, label=split)
ax.set(xscale="log", xlabel="mixture components K", ylabel="mean log-likelihood (nats / dimension)")
ax.legend(frameon=False)
best = held["validation"].idxmax()
figures.show(
    figure,
    "number of Gaussians",
    f"Validation features are likeliest with {best} Gaussians"
    + (
        ", the most that were tried, so the mixture does not overfit yet."
        if best == max(sizes)
        else f", and with {max(sizes)} the mixture overfits."
    ),
)

# %% [markdown]
# ## The mixture finds the classes without labels
#
# We give each training feature to its most responsible component, and each component to the class
# that holds most of it. The features were made by training on labels, so classes may well form
# clusters; the mixture itself never saw a label.

# %%
components = gmm.predict(train.features)
counts = np.zeros((n_components, len(source.classes)), dtype=int)
np.add.at(counts, (components, train.labels), 1)  # (K, c)
purity = counts.max(axis=1).sum() / counts.sum()
information = adjusted_mutual_info_score(train.labels, components)
chance = np.bincount(train.labels).max() / len(train)
print(f"{purity:.1%} lie in a component of their own class (one component alone: {chance:.1%})")
print(f"adjusted mutual information {information:.2f} (0 is chance, 1 is perfect)")

# %% [markdown]
# Responsibilities ({prf:ref}`alg-em`) are close to one-hot: in many dimensions, Gaussians hardly
# overlap.

# %%
responsibility = gmm.predict_proba(test.features).max(axis=1)
print(f"the largest responsibility is above 0.99 for {(responsibility > 0.99).mean():.1%} of tests")

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- {n_components} Gaussians describe unseen features better than one Gaussian by {gain:.2f} nats "
    f"per dimension.\n"
    f"- Validation features are likeliest with {best} of the numbers of Gaussians that were tried.\n"
    f"- Without labels the mixture puts {purity:.0%} of the training features into a component of their "
    f"own class."
)

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-em-step
#
# Three points lie at 0, 1 and 2 on a line. Two components have the weight ½ and the variance 1 each, and
# their means are 0 and 2. Take one step of {prf:ref}`alg-em`. Where is the mean of the first component
# now?
# ```
#
# ```{solution-start} ex-em-step
# :class: dropdown
# ```

# %%
points, means = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0])
shared = np.exp(-((points[:, None] - means) ** 2) / 2)  # (n, K), equal weights and variances
shared /= shared.sum(axis=1, keepdims=True)
answer = (shared[:, 0] * points).sum() / shared[:, 0].sum()
print(f"responsibilities {shared[:, 0].round(3)}, mean {answer:.3f}")

# %% [markdown]
# The mean leaves its own point and moves towards the others, because the component is responsible for
# half of the point in the middle and for a little of the far one.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-bpd
#
# Scale all features by 10. By how much do the bits per dimension of a refitted mixture grow, and does
# the ranking of inputs change?
# ```
#
# ```{solution-start} ex-bpd
# :class: dropdown
# ```

# %%
scaled = DiagonalGMM(1, reg_covar=0).fit(10 * few)
plain = DiagonalGMM(1, reg_covar=0).fit(few)
shift = scaled.bits_per_dim(10 * few) - plain.bits_per_dim(few)
answer = shift.mean()
print(f"each grows by {answer:.4f} = log2(10) = {np.log2(10):.4f} bits; no ranking changes")

# %% [markdown]
# No ranking changes, because every density is divided by the same $10^D$, the volume of a unit cube
# after scaling.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-usual
#
# Is a feature vector that the mixture itself draws usual or unusual, compared with test features? Take
# the median log-likelihood of each, in nats per dimension, and subtract the test features' from the
# drawn ones'.
# ```
#
# ```{solution-start} ex-usual
# :class: dropdown
# ```

# %%
drawn, _ = gmm.sample(len(test))
medians = [np.median(gmm.score_samples(x)) / dimension for x in (drawn, test.features)]
answer = medians[0] - medians[1]
print("drawn {:.3f}, test {:.3f} nats per dimension".format(*medians))
print(
    "Drawn features are likelier, because test features deviate from the mixture"
    if answer > 0
    else "Drawn features are less likely, because test features keep closer to narrow components"
)

# %% [markdown]
# The mixture is no perfect description of the features, because its own draws get another likelihood
# than they do.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/02_feature_modeling.ipynb out.ipynb -p n_components 500
# ```
