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
# # One detector
#
# *Is one mixture at one threshold "a single tool" against every kind of failure?*
#
# The paper's third contribution (§1) is a single tool that reliably detects mistakes on the test set,
# adversarial and out-of-distribution inputs. Its experiments judge each failure alone, by an AUROC,
# which needs no threshold. Whoever uses a detector has to choose one, before any failure is seen.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to choose one threshold with a promise on false alarms, to read what it catches of
# each failure, and to join two scores without breaking the promise. *You need* chapter 4. *Time:* 10
# minutes to read, a minute to run, 10 minutes for the exercises. *Paper:* §1, §3.3.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 1000  # Gaussians in the one mixture
false_alarms = 0.05  # promised share of correct predictions that are flagged

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
import pandas as pd
from IPython.display import Markdown

from mistakes_lib import (
    LogLikelihood,
    TemperatureScaling,
    claim_badges,
    conformal_p_values,
    corruption_sentence,
    corruption_table,
    failures_of,
    joint_conformal_p_values,
    load_run,
    plotting,
    published_runs,
    score_many,
    shares_caught,
)

figures = plotting.Figures(7)
source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
validation, test = source.features("validation"), source.features("test")
density, confidence, both = "density", "confidence", "smaller of both p-values"
usual_ones = source.scorers(n_components, seed=seed)
scorers = {density: usual_ones[f"GMM-{n_components}"], confidence: usual_ones["Calibrated"]}

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: shares caught"}
# An attack counts where it fools the network.
failures = {plotting.set_name(name): batch for name, batch in failures_of(source).items()}
groups = {"correct": test[test.correct], **failures}
scores = score_many(scorers, validation[validation.correct], groups)
calibration = {name: pair[0] for name, pair in scores["correct"].items()}
found = {key: {name: pair[1] for name, pair in each.items()} for key, each in scores.items()}
usual = found.pop("correct")
options = {"joint": (density, confidence, both), "false_alarms": false_alarms}
table = shares_caught(calibration, usual, found, **options)

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. One threshold on the density flags one correct prediction of twenty. Of how many kinds of failure does
#    it catch more than half? (a) all, (b) some, (c) none
# 2. Which kind does it catch least? (a) own mistakes, (b) weak attacks, (c) strange images
# 3. We flag what density *or* confidence flags, each with its own threshold. What happens to the false
#    alarms? (a) they stay, (b) they grow, (c) they are halved
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
kinds = table.drop(columns="false alarms").loc[density]
limits = {name: np.quantile(calibration[name], false_alarms) for name in (density, confidence)}
either = np.logical_or(*(usual[name] < limit for name, limit in limits.items())).mean()
Markdown(
    f"1. Of {(kinds > 0.5).sum()} of {len(kinds)}.\n"
    f"2. {kinds.idxmin()}, of which it catches {kinds.min():.0%}.\n"
    f"3. They grow, because each has alarms of its own: {either:.1%} instead of {false_alarms:.0%}."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
caught = table.drop(columns="false alarms")
worst = {name: (row.idxmin(), row.min()) for name, row in caught.iterrows()}
half = {name: int((row > 0.5).sum()) for name, row in caught.iterrows()}
Markdown(
    f"**Verdict.** On {source.title}, with one threshold at {false_alarms:.0%} false alarms density "
    f"catches more than half of {half[density]} of {caught.shape[1]} kinds of failure, and at worst "
    f"{worst[density][1]:.0%} ({worst[density][0]}). Confidence catches more than half of "
    f"{half[confidence]} kinds, at worst {worst[confidence][1]:.0%} ({worst[confidence][0]}). The "
    f"smaller of both p-values does so for {half[both]} kinds, at worst {worst[both][1]:.0%} "
    f"({worst[both][0]})."
)

# %% [markdown]
# ## One threshold
#
# The threshold is the conformal one of {prf:ref}`thm-conformal`, on correct validation predictions: a
# further correct prediction is flagged with a probability of at most 5 %. No failure is used to choose
# it. Each cell below is the share of a kind of failure that is flagged. Only attacks that fool the
# network count. "False alarms" checks the promise on correct test predictions.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Share flagged of each kind of failure, one column a detector: density, confidence, and the smaller of both conformal p-values"}}
figure, ax = plotting.new_figure(width=6, height=0.32 * table.shape[1] + 1.2)
plotting.shares_heatmap(ax, table.T)
ax.set_xticks(ax.get_xticks(), [name.replace(" of ", " of\n") for name in table.index], rotation=0)
figures.show(
    figure,
    "shares caught",
    f"No detector catches half of everything: density catches half of {half[density]} kinds, confidence "
    f"of {half[confidence]}, the smaller of both p-values of {half[both]}, out of {caught.shape[1]}."
    if max(half.values()) < caught.shape[1]
    else f"At least one detector catches half of all {caught.shape[1]} kinds of failure.",
)

# %% [markdown]
# ## Corrupted images
#
# Between a test image and a strange one there are images of the right kind in a bad state: noisy,
# blurred, too bright, compressed. We corrupt test images by eleven of the usual families
# ({cite}`hendrycks2019benchmarking`), each at five strengths. An answer can still be right there. A good
# detector flags the wrong answers and lets the right ones pass.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
holder = next((each for each in (source, *published_runs()) if len(each.corrupted)), source)
mixture = holder.density(max(holder.experiment.mixtures))
watchers = {density: LogLikelihood(mixture), confidence: TemperatureScaling()}
watchers = {name: each.fit(holder.features("validation")) for name, each in watchers.items()}
corrupted = corruption_table(holder, watchers, false_alarms=false_alarms)
corrupted.groupby(level="strength").mean().map("{:.1%}".format)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
told = corruption_sentence(corrupted, watchers) if len(corrupted) else ""
lacks = "" if holder is source else f"The run of {source.title} holds no corrupted images. "
Markdown(f"{lacks}These are {len(holder.corrupted)} test images of {holder.title}. {told}")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Share of wrong predictions that density and confidence flag, for each family of corruption at strength 5"}}
if len(corrupted):
    strongest = corrupted.xs(5, level="strength")
    noticed = strongest[[f"{name}, wrong" for name in (density, confidence)]]
    noticed = noticed.set_axis([density, confidence], axis=1).rename(plotting.set_name)
    figure, ax = plotting.new_figure(width=5, height=0.32 * len(noticed) + 1.2)
    plotting.shares_heatmap(ax, noticed)
    ahead = (noticed[density] > noticed[confidence]).sum()
    figures.show(
        figure,
        "corrupted images",
        f"Of wrong predictions on the most corrupted images density flags more than confidence in {ahead} "
        f"of {len(noticed)} families.",
    )

# %% [markdown]
# ## Two scores, one promise
#
# A *conformal p-value* says how unusual a score is among the $n$ of correct validation predictions:
#
# $$
# p(X) = \frac{1 + \#\{i : s_i \le s(X)\}}{n + 1}
# $$ (eq-conformal-p)
#
# Flag where $p \le \alpha$, and at most a share $\alpha$ of correct predictions is flagged. In one line:

# %%
score, known = usual[density], calibration[density]
by_hand = (1 + (known[None] <= score[:100, None]).sum(axis=1)) / (len(known) + 1)
assert np.allclose(by_hand, conformal_p_values(known, score[:100]))

# %% [markdown]
# Density and confidence fail on different inputs, so why not take the smaller of their p-values? Because
# two chances to be flagged are more than one: the smaller falls below $\alpha$ too often.
#
# ```{prf:theorem} The smaller of two, calibrated again
# :label: thm-joint
#
# Put the new input among the $n$ calibration inputs. Rank all $n + 1$ by each of two scores, and let
# $T_i$ be the smaller of the two ranks of input $i$. If the new input is exchangeable with the others,
# $p = \#\{i : T_i \le T_{n+1}\} / (n + 1)$ satisfies $P(p \le \alpha) \le \alpha$, however the two
# scores depend on each other.
# ```
#
# ```{prf:proof}
# Ranks among all $n + 1$ do not depend on the inputs' order. So the $T_i$ are exchangeable as the
# inputs are, and that of the new one is among the $k$ smallest with a probability of at most
# $k / (n + 1)$. Take $k = \lfloor \alpha (n + 1) \rfloor$.
# ```

# %%
two = [np.stack([each[density], each[confidence]], axis=1) for each in (calibration, usual)]
single = [conformal_p_values(two[0][:, j], two[1][:, j]) for j in (0, 1)]
rates = {"density": single[0], "confidence": single[1], "smaller, as it is": np.minimum(*single)}
rates["smaller, calibrated again"] = joint_conformal_p_values(*two)
alarms = {name: (p <= false_alarms).mean() for name, p in rates.items()}
pd.Series(alarms, name="false alarms").map("{:.1%}".format).to_frame()

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
Markdown(
    f"Without a second calibration the smaller p-value raises {alarms['smaller, as it is']:.1%} false "
    f"alarms instead of {false_alarms:.0%}; with it {alarms['smaller, calibrated again']:.1%}."
)

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
better = (caught.loc[both] > caught.loc[density]).sum()
Markdown(
    f"- One density with one threshold catches more than half of {half[density]} of {caught.shape[1]} kinds "
    f"of failure; at worst it catches {worst[density][1]:.0%} ({worst[density][0]}).\n"
    f"- The smaller of both p-values catches more than density of {better} kinds, with "
    f"{alarms['smaller, calibrated again']:.1%} false alarms ({false_alarms:.0%} were promised).\n"
    f"- Without the second calibration it would raise {alarms['smaller, as it is']:.1%}."
)

# %% [markdown]
# ## The paper's claims
#
# The {doc}`ledger of claims <../claims>` judges this claim on each published run.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
Markdown(claim_badges(source.name, "single-tool"))

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-p-by-hand
#
# Nine correct predictions have the scores 1 to 9, and a new input has the score `2.5`. Compute its
# conformal p-value {eq}`eq-conformal-p`. Is it flagged at $\alpha = 1/10$?
# ```
#
# ```{solution-start} ex-p-by-hand
# :class: dropdown
# ```

# %%
answer = (1 + sum(score <= 2.5 for score in range(1, 10))) / 10
print(f"p = {answer}: {'flagged' if answer <= 0.1 else 'not flagged'}")

# %% [markdown]
# With nine scores no p-value is below one in ten, because the new input counts itself.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-one-threshold
#
# Does a more generous promise make density a single tool? Find the share of false alarms at which it
# catches half of every kind of failure.
# ```
#
# ```{solution-start} ex-one-threshold
# :class: dropdown
# ```

# %%
medians = {name: np.median(each[density]) for name, each in found.items()}
hardest = max(medians, key=medians.get)
answer = (usual[density] < medians[hardest]).mean()
print(f"half of every kind, {hardest} included: {answer:.0%} false alarms")

# %% [markdown]
# No threshold does it for less, because one that catches half of a kind lies at that kind's median, and
# every correct prediction below this median is flagged as well.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/07_one_detector.ipynb out.ipynb -p n_components 100 -p false_alarms 0.1
# ```
