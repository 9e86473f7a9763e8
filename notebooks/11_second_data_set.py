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
# # Appendix: a second data set
#
# *Does the story hold on other images?*
#
# The paper reports on CIFAR-100 and again, in its Appendix A, on CIFAR-10 (its Fig. 6 and 7, its Table 2).
# So does this book. The other chapters report on CIFAR-100, and this chapter repeats some of their cells
# on CIFAR-10, whose images are of the same kind but show ten classes instead of a hundred.
#
# Nothing below is new: these are cells of chapters 4 to 6 and 8, run with other parameters. Those chapters
# say what each cell does and why.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* which results hold on other images, and which change. *You need* chapters 4 to 6 and
# 8. *Time:* 10 minutes to read, four minutes to run, 5 minutes for the exercise. *Paper:* Appendix A.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar10"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
first = "cifar100/densenet_bc_100_12/seed0"  # folder or name of a run on the first data set
n_components = 100  # Gaussians in the mixture for mistakes and purification
n_components_large = 1000  # Gaussians in the mixture for attacks and strange images
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests
tuning_images = 500  # validation images on which purification's settings are compared
steps = 50  # of gradient descent
monotone_steps = 20  # of the step without a learning rate
safe_shares = [1.0]  # learning rates to compare, as shares of the safe one
strengths = [0.0, 1.0, 100.0]  # values of ν to compare

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Imports and data"}
import pandas as pd
from IPython.display import Markdown

from mistakes_lib import (
    LogLikelihood,
    TemperatureScaling,
    auroc_table,
    claim_badges,
    load_run,
    plotting,
    score_pairs,
)

figures = plotting.Figures(11)
runs, rows = [load_run(first), load_run(run or f"{data_set}/{classifier}/seed{seed}")], {}
for each in runs:
    test, density = each.features("test"), each.density
    mixtures = [LogLikelihood(density(k, seed=seed)) for k in (n_components, n_components_large)]
    pairs = {"mistakes": (mixtures[0], test[test.correct], test[~test.correct])}
    for name in each.experiment.attacks:
        pairs[name.upper()] = (mixtures[1], test[each.attacked], each.attack(name, eps))
    pairs |= {name: (mixtures[1], test, each.ood(name)) for name in each.ood_sets}
    calibrated = TemperatureScaling().fit(each.features("validation"))
    for failure, (mixture, *groups) in pairs.items():
        both = score_pairs({"density": mixture, "confidence": calibrated}, *groups)
        rows[failure, each.title] = auroc_table(both).AUROC
both_sets = pd.DataFrame(rows).T.rename_axis(["failure", "run"]).rename(plotting.set_name, level=0)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
lead = (both_sets.density - both_sets.confidence).unstack(sort=False)
lead = lead[[each.title for each in runs]].dropna()  # the first, then the second
same = (lead > 0).nunique(axis=1) == 1
one, other = (f"{each.title}, {each.info['accuracy']['test']:.1%} accurate" for each in runs)
differs = f" (not: {', '.join(same.index[~same])})" if not same.all() else ""
Markdown(
    f"**Verdict.** Two networks are compared: {one}; and {other}. For {same.sum()} of the {len(same)} "
    f"kinds of failure the same method wins on both, density or confidence{differs}. Density detects "
    f"mistakes with an AUROC of {both_sets.density['own mistakes'].iloc[0]:.3f} on the first and "
    f"{both_sets.density['own mistakes'].iloc[-1]:.3f} on the second."
)

# %% [markdown]
# The table gives the AUROC of density and of confidence for every kind of failure. A dash marks a set
# that only one of the networks should find strange.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
plotting.with_dashes(both_sets.unstack("run", sort=False))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
ahead = both_sets.density > both_sets.confidence
Markdown(
    "Density is above confidence in "
    + " and in ".join(
        f"{part.sum()} of {len(part)} rows of {t}" for t, part in ahead.groupby("run", sort=False)
    )
    + "."
)

# %% [markdown] tags=["repeat:04_mistakes"]
# ## Mistakes
#
# The cells of {doc}`04_mistakes` on the second data set.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the larger mixture"}
smaller, n_components = n_components, n_components_large  # as chapters 5 and 6 have it

# %% [markdown] tags=["repeat:05_adversarial"]
# ## Adversarial inputs
#
# The cells of {doc}`05_adversarial`.

# %% [markdown] tags=["repeat:06_out_of_distribution"]
# ## Out-of-distribution inputs
#
# The cells of {doc}`06_out_of_distribution`.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the smaller mixture"}
n_components = smaller

# %% [markdown] tags=["repeat:08_purification"]
# ## Purification
#
# The cells of {doc}`08_purification`.

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
won = ahead.groupby("run").agg(["sum", "size"])
Markdown(
    f"- For {same.sum()} of {len(same)} kinds of failure the same method wins on both data sets.\n"
    f"- On the second one density is above confidence in {won.loc[runs[1].title, 'sum']} of "
    f"{won.loc[runs[1].title, 'size']} kinds of failure.\n"
    f"- Density detects its mistakes with an AUROC of {both_sets.density['own mistakes'].iloc[-1]:.2f}, against "
    f"{both_sets.density['own mistakes'].iloc[0]:.2f} on the first."
)

# %% [markdown]
# ## The paper's claims
#
# These are the claims of the paper's abstract, judged on the second network.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
central = ("mistakes-have-unlikely-features", "single-tool")
central += ("mixture-beats-confidence-on-attacks", "mixture-beats-calibrated-on-strange-images")
Markdown(claim_badges(runs[1].name, *central))

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-second-data-set
#
# On which kind of failure do the two networks differ most, and which method gains there?
# ```
#
# ```{solution-start} ex-second-data-set
# :class: dropdown
# ```

# %%
most = (lead.iloc[:, 1] - lead.iloc[:, 0]).abs().idxmax()
change = lead.loc[most].diff().iloc[-1]
print(f"{most}: the lead of density changes by {change:+.2f} from {lead.columns[0]}")
print(f"to {lead.columns[1]}, because each network has features of its own")

# %% [markdown]
# The change cannot be put down to the images alone, because each network was trained on its own images
# and a second training on the same images would differ, too.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Go further
#
# A third data set needs its images, a run, and one parameter:
#
# ```bash
# mistakes run published --data-set svhn --preset wrn_16_2
# papermill notebooks/11_second_data_set.ipynb out.ipynb -p data_set svhn
# ```
