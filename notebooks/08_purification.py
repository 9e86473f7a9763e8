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
# # Purification
#
# *If mistakes have unlikely features, does making the features likelier mend the mistakes?*
#
# The paper (Appendix B, its Table 4) moves features to a region of higher likelihood and classifies
# them again. Some mistakes are corrected, and new ones are made. The net gain is at most 0.6
# percentage points, on the DenseNet. Song et al. ({cite}`song2017pixeldefend`) had purified *images*
# with a PixelCNN, against attacks.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to make features likelier without a learning rate, to prove that a step never raises
# the objective, and to test whether predictions improve. *You need* chapter 2. *Time:* 20 minutes to
# read, four minutes to run, 20 minutes for the exercises. *Paper:* Appendix B, its Table 4.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 100  # Gaussians in the smaller mixture
n_components_large = 1000  # Gaussians in the larger mixture
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests
tuning_images = 1000  # validation images on which the settings are compared
steps = 100  # of gradient descent, as in the paper
monotone_steps = 20  # of the step without a learning rate, which needs fewer
safe_shares = [1.0, 0.3, 0.1]  # learning rates to compare, as shares of the safe one
strengths = [0.0, 0.1, 1.0, 10.0, 100.0]  # values of ν to compare

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from mistakes_lib import (
    as_evidence,
    chosen_purification,
    claim_badges,
    load_run,
    plotting,
    published_trainings,
    purification_effect,
    purification_grid,
    purification_objective,
    purification_path,
    purify,
    safe_learning_rate,
)

source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
validation, test = source.features("validation")[:tuning_images], source.features("test")
mixtures = {f"GMM-{k}": source.density(k, seed=seed) for k in (n_components, n_components_large)}
head = source.head

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the chapter's figures"}
figures = plotting.Figures(8)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: purification along the path"}
splits = {"validation": validation, "test": test}
settings = {"strengths": strengths, "steps": monotone_steps}
paths = {name: purification_path(splits, each, head, **settings) for name, each in mixtures.items()}
accuracies = pd.concat({name: path.accuracy["validation"] for name, path in paths.items()})
name, nu = accuracies.idxmax()  # of equally good ones the first: the tightest hold
purified = purify(test.features, mixtures[name], nu=nu, steps=monotone_steps)
effect = purification_effect(test.features, purified, test.labels, head)
free = paths[name].loc[("test", min(strengths))]
changed = f"{'gains' if effect.gain > 0 else 'loses'} {abs(effect.gain):.2f} percentage points"
change = changed if round(effect.gain, 2) else "does not change"

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. We make the test features likelier and classify them again. What happens to the accuracy? (a) it grows
#    by several points, (b) it hardly changes, (c) it falls by several points
# 2. And if nothing holds the features near where they were? (a) likelihood and accuracy grow,
#    (b) likelihood grows, accuracy falls, (c) neither changes
# 3. Where does a feature go? (a) to the mean of its true class, (b) to the mean of all features, (c) to a
#    peak of the mixture nearby
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
Markdown(
    f"1. It {change}.\n"
    f"2. The features gain {free['bits gained']:.2f} bits per dimension, and accuracy changes by "
    f"{free.gain:+.1f} points.\n"
    f"3. To a peak nearby, because each step climbs from where the feature is. No label takes part."
)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the verdict"}
luck = "more than chance" if effect.p_value < 1 - confidence else "within chance"
Markdown(
    f"**Verdict.** On {source.title}, test accuracy {change} ({effect.before:.2%} → "
    f"{effect.after:.2%}): purification corrects {effect.corrected} of the predictions and breaks "
    f"{effect.broken}, which is {luck} (exact McNemar test, "
    f"p = {effect.p_value:.2g}). With the weakest hold features gain {free['bits gained']:.2f} bits "
    f"per dimension of likelihood, and test accuracy changes by {free.gain:+.1f} points. The paper "
    "reports a gain of at most 0.6 points, and new mistakes as well."
)

# %% [markdown]
# ## The objective
#
# ```{margin} What does $\nu$ hold back?
# Without the second term every feature slides to the nearest peak of the mixture. The network would
# see hardly more than $K$ different vectors, and what made this image *this* image would be gone.
# ```
#
# ```{prf:definition} Purification
# :label: def-purification
#
# Starting at the features $F_{\text{ref}}$ that the network extracted, {term}`purification` finds
# features that are likelier and still close:
#
# $$
# \min_F \; \mathrm{BPD}(F) + \nu \, \lVert F - F_{\text{ref}} \rVert^2,
# \qquad \mathrm{BPD}(F) = - \frac{\log_2 p(F)}{D}
# $$ (eq-purify)
# ```
#
# The paper takes 100 steps of gradient descent (Appendix B.1). How large may a step be? The curvature of
# the mixture's BPD is nowhere above $1 / (D \ln 2 \cdot \min \sigma^2)$. So descent is sure to descend
# only while the learning rate is at most one over that. Another step needs no learning rate at all.
#
# ```{prf:proposition} A step that never raises the objective
# :label: prop-monotone
#
# Let $r_k$ be the {term}`responsibilities <responsibility>` of the components at $F$. The step
#
# $$
# F' = \frac{\sum_k r_k \, \mu_k / \sigma_k^2 + 2 \nu D \ln 2 \, F_{\text{ref}}}
#          {\sum_k r_k / \sigma_k^2 + 2 \nu D \ln 2},
# $$ (eq-monotone)
#
# coordinate by coordinate, does not raise {eq}`eq-purify`, and moves $F$ unless its gradient is zero.
# ```
#
# ```{prf:proof}
# By Jensen's inequality
# $-\ln p(G) \le -\sum_k r_k \ln \frac{w_k \mathcal N(G; \mu_k, \sigma_k^2)}{r_k}$ for every $G$, with
# equality at $G = F$. So the objective lies below
# $Q(G) = \frac{1}{D \ln 2} \sum_k r_k \sum_j \frac{(G_j - \mu_{kj})^2}{2 \sigma_{kj}^2} +
# \nu \lVert G - F_{\text{ref}} \rVert^2 + \text{const}$ and touches it at $F$. $Q$ is a parabola in
# each coordinate, with its minimum at {eq}`eq-monotone`: the objective at $F'$ is at most $Q(F')$,
# which is at most $Q(F)$, the objective at $F$. At $F$ both have the same gradient, so that $F' = F$
# only where it is zero. (*Majorise and minimise*: EM is another case.)
# ```
#
# One step in five lines, and equal to the library's:

# %%
small = mixtures[f"GMM-{n_components}"]
few = validation.features[:200].astype(np.float64)
hold = 2 * 1.0 * few.shape[1] * np.log(2)  # at ν = 1
gaps = (few[:, None] - small.means_) ** 2 * small.precisions_  # (n, K, D)
log_joint = np.log(small.weights_) + 0.5 * (np.log(small.precisions_) - gaps).sum(axis=2)
r = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
r /= r.sum(axis=1, keepdims=True)  # (n, K)
stiffness = r @ small.precisions_  # (n, D)
moved = (r @ (small.means_ * small.precisions_) + hold * few) / (stiffness + hold)
assert np.allclose(moved, purify(few, small, nu=1.0, steps=1))

# %% [markdown]
# Gradient descent as the paper has it needs more steps. With rates above the safe one the objective may
# rise.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Mean purification objective against the number of steps: the monotone step falls fastest, gradient descent at three times the safe rate may rise"}}
safe, shown = safe_learning_rate(small), min(each for each in strengths if each > 0)
figure, ax = plotting.new_figure(width=6)
ways = {"monotone": None} | {f"{share:g} × safe rate": share * safe for share in (1, 0.1, 3)}
ends = {}
for line, (label, rate) in zip(plotting.LINES, ways.items(), strict=False):
    path = [few]
    for _ in range(10):
        path.append(purify(few, small, nu=shown, lr=rate, steps=len(path) * steps // 10))
    values = [purification_objective(point, few, small, nu=shown).mean() for point in path]
    ends[label] = values[-1]
    ax.plot(np.arange(11) * (steps // 10), values, linestyle=line, label=label)
ax.set(xlabel="steps", ylabel="mean objective (bits / dimension)", title=f"ν = {shown:g}")
ax.legend(frameon=False)
figures.show(
    figure,
    "purification: the objective",
    f"The step without a learning rate ends at {ends['monotone']:.2f} bits per dimension; gradient "
    f"descent ends at {ends['1 × safe rate']:.2f} with the safe rate and at {ends['3 × safe rate']:.2f} "
    "with three times that rate. The objective is minimised, so lower is better.",
)

# %% [markdown] tags=["appendix"]
# ## Likelihood rises, accuracy falls
#
# We follow the path from a tight hold to none. Features become likelier all the way. If mistakes were
# merely unlikely, they would be corrected on the way.

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Left: bits per dimension gained on test features, rising as the hold loosens. Right: predictions broken and corrected, both rising, the broken faster"}}
figure, axes = plotting.new_figure(columns=2, width=4.8)
plotting.purification_path_lines(axes, paths[name])
figures.show(
    figure,
    "purification: the path",
    f"Likelihood and accuracy part: with the weakest hold test features gain "
    f"{free['bits gained']:.2f} bits per dimension, while {free.broken:.0f} predictions are broken and "
    f"{free.corrected:.0f} corrected.",
)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the table"}
table = pd.concat(paths, names=["mixture"]).rename(columns={"p_value": "p"})
table = table.rename_axis(index={"nu": "ν"})
decimals = {"bits gained": 3, "gain": 2, "corrected": 0, "broken": 0, "p": 3}
plotting.with_dashes(table[list(decimals)], digits=decimals)

# %% [markdown] tags=["appendix"]
# ## Table 4 of the paper, rebuilt
#
# The paper compares learning rates, strengths and numbers of components. Here the learning rates are
# shares of the safe one, $D \ln 2 \cdot \min \sigma^2$, and one beyond it. A cell whose objective rose
# for any input is *void*: there descent did not descend. Each other cell is the change of validation
# accuracy in percentage points.

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Change of validation accuracy for every mixture, learning rate and strength; cells whose objective rose say void"}}
blocks = {}
for each, mixture in mixtures.items():
    rates = {share: share * safe_learning_rate(mixture) for share in (*safe_shares, 100.0)}
    options = {"learning_rates": list(rates.values()), "strengths": strengths, "steps": steps}
    block = purification_grid(validation, {each: mixture}, head, **options)
    names = {rate: f"{share:g} × safe" for share, rate in rates.items()}
    blocks[each] = block.rename(index=names, level="lr")
grid = pd.concat(blocks.values())
figure, ax = plotting.new_figure(width=6, height=4)
plotting.purification_heatmap(ax, grid["gain"].unstack("nu"))
ax.set(xlabel="strength ν", ylabel="mixture, learning rate")
gained = round(grid["gain"].max(), 2)
best = f"The best sound setting gains {gained:.2f}" if gained > 0 else "No sound setting gains any"
figures.show(
    figure,
    "purification: settings",
    f"{best} points of validation accuracy. The worst changes it by {grid['gain'].min():+.2f} points, and "
    f"{grid['gain'].isna().sum()} of {len(grid)} settings are void because their objective rose.",
)

# %% [markdown]
# ```{margin} Why McNemar's test?
# A prediction that stays right or stays wrong says nothing. If purification only shook the others,
# each would be corrected or broken by the toss of a coin: of $c + b$ changes, $c$ is
# $\mathrm{Binomial}(c + b, \frac12)$ ({cite}`mcnemar1947note`).
# ```
#
# The setting that is best on validation features, on the test set:

# %%
print(f"{name}, ν = {nu:g}")
print(f"test accuracy {effect.before:.2%} → {effect.after:.2%} (it {change})")
print(f"{effect.corrected} corrected, {effect.broken} broken, p = {effect.p_value:.2g}")

# %% [markdown]
# (The accuracy before may differ in the second decimal from that of other chapters: here the head
# reads the stored features, which are rounded to 16 bits.)
#
# ## Why likelier features are not better ones
#
# A component of the mixture belongs to the class of most of the validation features for which it is
# responsible. Where do mistakes lie: near components of their true class, or of the class that the
# network wrongly predicts?

# %%
known = np.log(small.weights_) + 0.5 * np.log(small.precisions_).sum(axis=1)


def nearest_component(features):
    x = features.astype(np.float64)
    squares = x**2 @ small.precisions_.T - 2 * x @ (small.means_ * small.precisions_).T
    return (known - 0.5 * (squares + (small.means_**2 * small.precisions_).sum(axis=1))).argmax(
        axis=1
    )


tuning = source.features("validation")
counts = np.zeros((small.n_components, len(source.classes)))
np.add.at(counts, (nearest_component(tuning.features), tuning.labels), 1)
class_of = counts.argmax(axis=1)
wrong = test[~test.correct]
near = class_of[nearest_component(wrong.features)]
print(f"of {len(wrong)} mistakes, the likeliest component is one of")
print(f"  the predicted class: {(near == wrong.predictions).mean():.0%}")
print(f"  the true class:      {(near == wrong.labels).mean():.0%}")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the numbers show"}
inside = (near == wrong.predictions).mean() > (near == wrong.labels).mean()
Markdown(
    "More mistakes lie inside the wrong class than inside the true one. There a higher likelihood "
    "pulls them further into the wrong class, and purification cannot correct them."
    if inside
    else "More mistakes lie inside their true class, so that a higher likelihood can correct them."
)

# %% [markdown]
# ## Classifiers side by side
#
# The paper's Table 4 has a block for each kind of classifier. Here each published one with these images
# gets the strength ν that is best on its own validation features, with the smaller mixture.


# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: every classifier"}
def purified_by_choice(each):
    size = n_components if each.has_training_features else each.nearest_mixture(n_components)
    mixture, tuning = each.density(size), each.features("validation")[:tuning_images]
    splits, options = (tuning, each.features("test")), {"steps": monotone_steps}
    strength, result = chosen_purification(
        *splits, mixture, each.head, strengths=strengths, **options
    )
    counts = {n: getattr(result, n) for n in ("gain", "corrected", "broken", "p_value")}
    return {"ν": strength} | counts


siblings = source.siblings(n_components)
sides = {each.info["title"]: purified_by_choice(each) for each in siblings}

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
compared = pd.DataFrame.from_dict(sides, orient="index")
decimals |= {"ν": 1}
plotting.with_dashes(compared.rename(columns={"p_value": "p"}), digits=decimals)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
real = ((compared.p_value < 1 - confidence) & (compared.gain > 0)).sum()
Markdown(
    f"On {real} of {len(compared)} networks accuracy gains more than chance explains; the gains lie "
    f"between {compared.gain.min():+.2f} and {compared.gain.max():+.2f} points."
)

# %% [markdown]
# ## Independent trainings
#
# One network was trained several times, with equal settings and another seed each time
# ({doc}`chapter 4 <04_mistakes>`). Each training gets the strength that is best on its own validation
# features. The last rows have the mean and the standard deviation over the trainings.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
trained = published_trainings()
rows = {f"seed {each.experiment.seed}": purified_by_choice(each) for each in trained}
by_training = pd.DataFrame.from_dict(rows, orient="index")
if trained:
    by_training = by_training.rename(columns={"p_value": "p"})
    by_training.index.name = f"{trained[0].title}, {len(trained)} trainings"
    summary = by_training[["gain", "corrected", "broken"]].agg(["mean", "std"])
    each = plotting.with_dashes(by_training, digits=decimals)
    both = plotting.with_dashes(summary.rename({"std": "standard deviation"}), digits=decimals)
    display(pd.concat([each, both]).fillna("–"))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
told = "No network of this book was trained more than once."
if trained:
    changed = (by_training.p < 1 - confidence).sum()
    told = f"Accuracy changes by {by_training.gain.mean():+.2f} ± {by_training.gain.std():.2f} percentage "
    told += f"points; in {changed} of {len(trained)} trainings by more than chance explains."
Markdown(told)

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- Features can be made likelier by {free['bits gained']:.2f} bits per dimension, but this breaks "
    f"{free.broken:.0f} predictions and corrects {free.corrected:.0f}.\n"
    f"- With the strength that validation chooses, test accuracy {change}: {effect.corrected} predictions "
    f"are corrected and {effect.broken} broken, which is {luck}.\n"
    f"- {(near == wrong.predictions).mean():.0%} of the mistakes lie inside the class that the network "
    f"names and {(near == wrong.labels).mean():.0%} inside their own."
)

# %% [markdown]
# (evidence-purification)=
# ## The paper's claims
#
# The {doc}`ledger of claims <../claims>` judges these claims by the numbers of this chapter.

# %% tags=["evidence", "hide-input", "remove-output"] mystnb={"code_prompt_show": "Code: the numbers for the ledger"}
counts = {"corrected": effect.corrected, "broken": effect.broken}
print(as_evidence({"purification": counts | {"gain": effect.gain, "p_value": effect.p_value}}))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
Markdown(claim_badges(source.name, "evidence-purification"))

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-step-by-hand
#
# A mixture has one component with the mean 0 and the variance 1, in one dimension. A feature lies at 3,
# and $2 \nu \ln 2 = 1$. Where does one step of {eq}`eq-monotone` take it?
# ```
#
# ```{solution-start} ex-step-by-hand
# :class: dropdown
# ```

# %%
answer = (0 / 1 + 1 * 3) / (1 / 1 + 1)
print(f"from 3 to {answer}")

# %% [markdown]
# The feature stops half-way, because the component and the hold pull equally hard.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-nu
#
# What happens to the features as $\nu$ grows? Start from the features `few`, take the smaller mixture and
# `monotone_steps` steps, and give the mean distance that they move at $\nu = 10$.
# ```
#
# ```{solution-start} ex-nu
# :class: dropdown
# ```

# %%
distances = {}
for strength in (0.1, 10, 1000, 1e6):
    moved = purify(few, small, nu=strength, steps=monotone_steps)
    distances[strength] = np.linalg.norm(moved - few, axis=1).mean()
    print(f"ν = {strength:<9g} mean distance {distances[strength]:.2g}")
answer = distances[10]

# %% [markdown]
# They move less and less, because each unit of distance costs more while the likelihood that it gains
# stays the same.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-purify-adversarial
#
# Does purification undo an attack? Purify the features under FGSM at $\nu = 1$ with the smaller mixture,
# and give the accuracy afterwards.
# ```
#
# ```{solution-start} ex-purify-adversarial
# :class: dropdown
# ```

# %%
attacked = source.attack("fgsm", eps)
mended = purify(attacked.features, small, nu=1.0, steps=monotone_steps)
undone = purification_effect(attacked.features, mended, attacked.labels, head)
answer = undone.after
print(f"FGSM: accuracy {undone.before:.1%} → {answer:.1%}")

# %% [markdown]
# A feature that the attack has pushed across a border stays there, because the nearest peak of the
# mixture is now one of the wrong class.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/08_purification.ipynb out.ipynb -p steps 500 -p tuning_images 5000
# ```
