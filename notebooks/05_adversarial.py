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
# # Adversarial inputs
#
# *Do the features of adversarial images give them away?*
#
# The paper (§4, Fig. 4 and 5) finds that a mixture of 1,000 Gaussians gives adversarial features a
# lower likelihood, with AUROCs between 0.76 and 1.00, and that it beats raw and calibrated
# confidence.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to attack a network with FGSM and BIM, to compare detectors over the radius, and to
# test a detector against an attacker who knows it. *You need* chapters 2 and 4 and gradients. *Time:*
# 25 minutes to read, a minute to run, 30 minutes for the exercises. *Paper:* §4, Fig. 4 and 5.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar10"  # in-distribution images
classifier = "densenet_bc_40_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 1000  # Gaussians in the mixture of the features
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests

# %% tags=["hide-input", "nbval-ignore-output", "appendix"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from mistakes_lib import (
    as_evidence,
    auroc_table,
    compare_scores,
    detection_table,
    load_run,
    load_sweep,
    mann_whitney,
    mark_class_agnostic,
    plotting,
    score_many,
    score_pairs,
    tally_verdicts,
)

source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
clean = source.features("test")[source.attacked]
attacks = [(name, level) for name in ("fgsm", "bim") for level in source.eps_levels]
adversarial = {key: source.attack(key[0], key[1] / 255) for key in attacks}
scorers = source.scorers(n_components, seed=seed)
ours, chosen = f"GMM-{n_components}", source.eps_level(eps)
pairs = score_many(scorers, clean, adversarial)

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. An iterated attack (BIM) fools the network. Which AUROC has confidence as a detector of it? (a) near 1,
#    (b) near one half, (c) below one half
# 2. And the density of the features? (a) near 1, (b) near one half, (c) below one half
# 3. Which FGSM attack is harder to detect by density? (a) the one with the smallest radius, (b) the one
#    with the largest
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
levels = source.eps_levels
asked = [("bim", chosen), ("fgsm", levels[0]), ("fgsm", levels[-1])]
density, weak, strong = (mann_whitney(*pairs[key][ours]).auroc for key in asked)
trust = mann_whitney(*pairs["bim", chosen]["Calibrated"]).auroc
Markdown(
    f"1. {trust:.2f} at ε = {chosen}/255.\n"
    f"2. {density:.2f}.\n"
    f"3. The AUROC is {weak:.2f} at the smallest radius and {strong:.2f} at the largest."
)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the verdict"}
tables = {
    (name.upper(), f"{level}/255"): auroc_table(pairs[name, level], confidence=confidence)
    for name, level in attacks
}
aurocs = pd.DataFrame({key: table.AUROC for key, table in tables.items()})
lowest, highest = aurocs.loc[ours].min(), aurocs.loc[ours].max()
# Clean and attacked versions of the same images: drawn together.
settings = {f"{name}-{level}": pairs[name, level] for name, level in attacks}
papers = ["Calibrated", "Max softmax", "Mahalanobis", "Zheng & Hong"]
versus = compare_scores(settings, ours, others=papers, linked=True, confidence=confidence)
tally = tally_verdicts(versus)
wins, losses = tally.loc["Calibrated", ["beats", "loses"]]
Markdown(
    f"**Verdict.** On {source.title}, the likelihood under {n_components:,} Gaussians "
    f"detects adversarial inputs with AUROCs from {lowest:.2f} to {highest:.2f} (the paper: 0.76 to "
    f"1.00; of its radii it prints one, 0.1 in Fig. 1). It beats calibrated confidence in {wins} and "
    f"loses to it in {losses} of {len(tables)} combinations of attack and radius, by the "
    f"{confidence:.0%} interval of the paired difference, corrected by Holm."
)

# %% [markdown]
# ## Two attacks
#
# Both make {term}`adversarial inputs <adversarial input>`: they move an image $X$ in the direction that
# increases the loss $J$, no pixel by more than the {term}`attack radius` $\varepsilon$.
#
# ```{prf:definition} FGSM and BIM
# :label: def-attacks
#
# The Fast Gradient Sign Method takes one step ({term}`FGSM`; {cite}`goodfellow2014explaining`), the
# Basic Iterative Method several small ones, each clipped to the ball ({term}`BIM`;
# {cite}`kurakin2016adversarial`):
#
# $$
# \begin{aligned}
# X_{\text{FGSM}} &= X + \varepsilon \operatorname{sign} \nabla_X J(X, y), \\
# X_{\text{BIM}}^{(t+1)} &= \operatorname{clip}_{X, \varepsilon}\bigl(X_{\text{BIM}}^{(t)} +
# \alpha \operatorname{sign} \nabla_X J(X_{\text{BIM}}^{(t)}, y)\bigr)
# \end{aligned}
# $$ (eq-attacks)
# ```
#
# ```{margin} Why only the sign?
# To first order a change $\delta$ raises the loss by $g^\top \delta$, $g = \nabla_X J$. If every
# $|\delta_i| \le \varepsilon$, that is at most $\varepsilon \sum_i |g_i|$, and
# $\delta = \varepsilon \operatorname{sign} g$ reaches it: every pixel pays the same, so every pixel
# moves all the way.
# ```
#
# The gradient passes through the network's own standardisation, so $\varepsilon$ is in pixels: 8/255
# means at most 8 of 256 grey levels.

# %% [markdown] tags=["appendix"]
# An attack that does not fool the network needs no detection. How often do these attacks fool it?

# %% tags=["appendix"]
fooled = pd.DataFrame(
    {
        (name.upper(), f"{level}/255"): {"accuracy under attack": batch.accuracy}
        for (name, level), batch in adversarial.items()
    }
)
print(f"accuracy on the same {len(clean):,} clean images: {clean.accuracy:.1%}")
fooled.map("{:.1%}".format)

# %% [markdown] tags=["appendix"]
# ## Where adversarial features lie
#
# We compare the {term}`log-likelihoods <log-likelihood>` of clean and adversarial features under the
# same mixture {eq}`eq-gmm` (the paper's Fig. 4, top; for CIFAR-10 its Fig. 6, middle).

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Log-likelihood histograms of clean, FGSM and BIM features at the chosen radius"}}
dimension = clean.features.shape[1]
groups = {"clean": pairs["fgsm", chosen][ours][0] / dimension}
for name in ("fgsm", "bim"):
    groups[f"{name.upper()}, ε = {chosen}/255"] = pairs[name, chosen][ours][1] / dimension
figure, ax = plotting.new_figure(width=6.5)
_ = plotting.likelihood_histograms(ax, groups)

# %% [markdown]
# The ROC curves of the likelihood alone, one for each radius (the paper's Fig. 4, bottom):

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "ROC curves of the feature likelihood for FGSM and BIM at each radius"}}
figure, axes = plotting.new_figure(columns=2, width=5.2, height=4.4)
for ax, name in zip(axes, ("fgsm", "bim"), strict=True):
    curves = {f"ε = {level}/255": pairs[name, level][ours] for level in source.eps_levels}
    plotting.roc_curves(ax, curves).set_title(name.upper())

# %% [markdown] tags=["appendix"]
# ## Method by method
#
# All detectors at the radius of the parameter `eps` (the paper's Fig. 5; for CIFAR-10 its Fig. 7):

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "ROC curves of all methods for FGSM and BIM at the chosen radius"}}
figure, axes = plotting.new_figure(rows=2, width=7.5, height=4.4)
for ax, name in zip(axes, ("fgsm", "bim"), strict=True):
    plotting.roc_curves(ax, pairs[name, chosen]).set_title(f"{name.upper()}, ε = {chosen}/255")

# %% [markdown] tags=["appendix"]
# AUROC of every method, attack and radius († class-agnostic: looks at no class):

# %% tags=["appendix"]
mark_class_agnostic(aurocs, scorers).round(3)

# %% [markdown]
# ```{margin} Confident and strange
# Confidence depends on $F$ only through $WF + b$. An attack may push $F$ far along the rows of $W$. The
# lead of one logit then grows, and so does the softmax, however far $F$ is from all training features.
# A density measures that distance.
# ```
#
# An {term}`AUROC` *below* one half means that the method trusts adversarial inputs *more* than clean
# ones: an iterated attack pushes features deep into a wrong class, where confidence is highest.

# %%
bim = detection_table(pairs["bim", chosen], confidence=confidence, random_state=seed)
mark_class_agnostic(bim, scorers).round(3)

# %% [markdown]
# ## Independent fits
#
# The paper reports means and deviations over five runs, and does not say what varied. Two things can
# vary here: the fit and the images. First, the {doc}`sweep of chapter 4 <04_mistakes>` has fitted the
# mixture five times, each time from another start. Second, we keep one fit and split the images into
# five random parts, with one AUROC each. (On all images together the spread is $\sqrt 5$ times
# smaller.) The classifier stays the same.

# %%
own, wanted = source.experiment, {"n_components": n_components}
wanted |= {"data_set": own.data_set, "classifier": own.classifier}
swept = load_sweep("components", **wanted)
swept = swept[swept.metric.str.startswith("attack.")]
setting = swept.metric.str.extract(r"attack\.(?P<attack>.+)_(?P<radius>.+)_255")
names = setting.attack.str.upper() + ", ε = " + setting.radius + "/255"
fits = swept.groupby(names).value.agg(["count", "mean", "std"])
if fits.empty:
    print(f"No sweep of {source.title}, K = {n_components}, is published.")

# %%
rng, by_images = np.random.default_rng(seed), {}
for (name, level), each in pairs.items():
    parts = zip(*(np.array_split(rng.permutation(s), 5) for s in each[ours]), strict=True)
    by_images[f"{name.upper()}, ε = {level}/255"] = [mann_whitney(*part).auroc for part in parts]
images = pd.DataFrame(by_images).agg(["mean", "std"]).T
spread = pd.concat({"fits": fits, "fifths of the images": images}, axis=1)
spread.dropna(axis=1, how="all").round(4)

# %% [markdown]
# ## Natural and adversarial mistakes
#
# Among inputs that the network gets wrong, are the adversarial ones stranger than the natural
# ones?

# %%
natural = clean[~clean.correct]
forced = source.attack("bim", eps)[clean.correct]
forced = forced[~forced.correct]
if len(forced) and len(natural):
    result = score_pairs({ours: scorers[ours]}, natural, forced)
    print(f"{len(natural)} natural against {len(forced)} adversarial mistakes (BIM)")
    print(f"AUROC {detection_table(result, random_state=seed).AUROC.iloc[0]:.3f}")

# %% [markdown]
# ## An attacker who knows the detector
#
# The attacks above do not use the detector. A fair test of a defence uses an attacker who knows it
# ({cite}`carlini2017adversarial`, {cite}`tramer2020adaptive`). The paper does not do this.
#
# ```{prf:definition} Adaptive attack
# :label: def-adaptive
#
# The attacker climbs the loss and the feature log-likelihood at once, in nats per dimension with a
# weight $w$:
#
# $$
# \max_X \; J(X, y) + w \, \frac{\log p(f(X))}{D}
# \quad \text{within} \quad \lVert X - X_0 \rVert_\infty \le \varepsilon .
# $$ (eq-adaptive)
# ```
#
# First the share of images that fool the network, and that do so *unnoticed*, when the detector is
# set to flag 5 % of clean images; then the AUROC of every method. $w = 0$ is BIM.

# %% tags=["hide-input"]
adaptive, knowing = source.experiment.adaptive, {}
limit = np.quantile(scorers[ours].score_samples(clean), 0.05)
batches = {w: source.adaptive_attack(w) for w in (adaptive.weights if adaptive else ())}
for weight, side in score_many(scorers, clean, batches).items():
    fooled = ~batches[weight].correct
    shares = {
        "fooled": fooled.mean(),
        "fooled, unnoticed": (fooled & (side[ours][1] >= limit)).mean(),
    }
    knowing[weight] = shares | auroc_table(side, confidence=confidence).AUROC.to_dict()
knowing = pd.DataFrame(knowing).rename_axis(columns="w")
mark_class_agnostic(knowing, scorers).round(3) if adaptive else None

# %% tags=["hide-input"]
text = "No such attack has been computed yet for this network."
if adaptive:
    blind, *_ = unnoticed = knowing.loc["fooled, unnoticed"]
    text = (
        f"On {adaptive.images} images at ε = {adaptive.eps_level}/255, BIM fools the network "
        f"unnoticed on {blind:.0%}. The attacker who knows the detector does so on "
        f"{unnoticed.iloc[1:].max():.0%} at best ($w$ = {unnoticed.iloc[1:].idxmax():g}). The "
        f"largest $w$ takes the likelihood's AUROC to {knowing.loc[ours].iloc[-1]:.2f}, at the price "
        f"of fooling the network on {knowing.loc['fooled'].iloc[-1]:.0%} instead of "
        f"{knowing.loc['fooled'].iloc[0]:.0%}."
    )
Markdown(text)

# %% [markdown] tags=["appendix"]
# ## Classifiers side by side
#
# The paper's Fig. 5 has a panel for each kind of classifier. Here are all published ones with these
# images, under the iterated attack at the same radius.

# %% tags=["hide-input", "appendix"]
siblings = [each for each in source.siblings(n_components) if chosen in each.eps_levels]
kinds = {each.info["title"]: each for each in siblings}
sides = {(source.info["title"], *key): pair for key, pair in pairs.items()}
right = {(source.info["title"], *key): batch.accuracy for key, batch in adversarial.items()}
for title, each in list(kinds.items())[1:]:
    inputs, own = each.features("test")[each.attacked], each.scorers(n_components, seed=seed)
    batches = {(n, r): each.attack(n, r / 255) for n, r in attacks if r in each.eps_levels}
    sides |= {(title, *key): p for key, p in score_many(own, inputs, batches).items()}
    right |= {(title, *key): batch.accuracy for key, batch in batches.items()}

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "ROC curves of all methods for BIM at the chosen radius, one panel a classifier"}}
figure, axes = plotting.new_figure(rows=len(kinds), width=6.5, height=4, squeeze=False)
for ax, title in zip(axes[:, 0], kinds, strict=True):
    plotting.roc_curves(ax, sides[title, "bim", chosen], order=scorers).set_title(title)

# %% [markdown] tags=["appendix"]
# With 100 labels per class the paper finds the mixture ahead of every other method, most of all
# where the attack is weakest (Fig. 5c):

# %% tags=["appendix"]
weakest = f"{min(source.eps_levels)}/255"
side_tables = {(source.info["title"], *key): table for key, table in tables.items()}
side_tables |= {
    (title, name.upper(), f"{radius}/255"): auroc_table(side, confidence=confidence)
    for (title, name, radius), side in sides.items()
    if title != source.info["title"]
}
by_kind = pd.DataFrame({key: each.AUROC for key, each in side_tables.items()})
by_kind = mark_class_agnostic(by_kind.loc[list(scorers)], scorers)
by_kind = by_kind.map("{:.3f}".format).replace("nan", "–")
by_kind.xs(weakest, axis=1, level=2)

# %% [markdown] tags=["appendix"]
# And all radii, network by network, below how often each is right under attack:

# %% tags=["hide-input", "hide-output", "appendix"]
accuracy = pd.Series(right).map("{:.3f}".format).to_frame("accuracy under attack").T
accuracy.columns = by_kind.columns
for title in kinds:
    display(Markdown(f"**{title}**"), pd.concat([accuracy[title], by_kind[title]]))

# %% [markdown]
# (evidence-adversarial)=
# ## Evidence for the ledger
#
# The next cell prints the numbers by which the {doc}`ledger of claims <../claims>` judges this
# chapter's claims. The page does not show them; the notebook does.

# %% tags=["evidence", "hide-input", "remove-output"] mystnb={"code_prompt_show": "Code: evidence"}
ordered = sorted((table.loc[ours] for table in tables.values()), key=lambda row: row.AUROC)
evidence = {"lowest": ordered[0].to_dict(), "highest": ordered[-1].to_dict()}
evidence |= {"settings": len(tables)} | tally.to_dict()
print(as_evidence({"adversarial": evidence}))

# %% [markdown]
# ```{exercise} By hand
# :label: ex-fgsm-by-hand
#
# An image has four pixels, and the gradient of its loss is $(3, -1, 0, 2)$. How much can an attack with
# $\varepsilon = 0.1$ raise the loss, to first order?
# ```
#
# ```{solution-start} ex-fgsm-by-hand
# :class: dropdown
# ```

# %%
gradient = np.array([3, -1, 0, 2])
step = 0.1 * np.sign(gradient)
answer = gradient @ step
print(f"step {step}, the loss grows by {answer:.2f}")

# %% [markdown]
# The direction of the gradient itself would raise the loss less, because only the largest change of a
# pixel is bounded, so that every pixel may move all the way.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-successful
#
# Count only those adversarial inputs that fool the network. Does detection become easier? Give the
# AUROC for BIM.
# ```
#
# ```{solution-start} ex-successful
# :class: dropdown
# ```

# %%
for name in ("fgsm", "bim"):
    batch = source.attack(name, eps)
    both = score_pairs({"all": scorers[ours]}, clean, batch)
    both |= score_pairs({"successful": scorers[ours]}, clean, batch[~batch.correct])
    values = detection_table(both, random_state=seed).AUROC
    answer = values["successful"]
    print(f"{name}: all {values['all']:.3f}, successful {answer:.3f}")

# %% [markdown]
# Where detection becomes easier, this is because an attack that fools the network has moved the feature
# across a border between classes, and one that fails may have left it where it was.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-fewer-components
#
# Does it take a large mixture? Compare with a tenth of the components, and give the AUROC for BIM.
# ```
#
# ```{solution-start} ex-fewer-components
# :class: dropdown
# ```

# %%
small = source.density(max(1, n_components // 10), seed=seed)
for name in ("fgsm", "bim"):
    both = [small.score_samples(b.features) for b in (clean, source.attack(name, eps))]
    answer = mann_whitney(*both).auroc
    print(f"{name}: K = {small.n_components}: {answer:.3f}")

# %% [markdown]
# A small mixture does nearly as well where attacked features lie far from all training features,
# because every mixture is low there.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/05_adversarial.ipynb out.ipynb -p eps 0.0078431 -p n_components 100
# ```
#
# The run holds features at the radii of the table above; other radii need the images and a new run
# with other `eps_levels` in its parameters file.
