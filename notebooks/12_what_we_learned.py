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
# # What we learned
#
# *Which detector should we use for which failure?*
#
# The paper proposes one tool for three kinds of failure: mistakes on ordinary images, adversarial
# attacks, and strange images. The chapters before this one measured each kind by itself. This chapter
# puts their results side by side and draws the conclusion.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* when a density of features helps, when confidence is enough, and what refusing
# inputs costs. *You need* chapters 4 to 6. *Time:* 10 minutes to read, half a minute to run, 5 minutes
# for the exercise. *Paper:* §5.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 100  # Gaussians in the mixture for mistakes
n_components_large = 1000  # Gaussians in the mixture for attacks and strange images
confidence = 0.95  # of intervals

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
import pandas as pd
from IPython.display import Markdown

from mistakes_lib import (
    TemperatureScaling,
    attacks_unnoticed,
    auroc_table,
    best_attack,
    bim,
    claim_badges,
    extract_features,
    load_run,
    plotting,
    price_of_refusal,
    score_many,
    score_pairs,
)

figures = plotting.Figures(12)
source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
test = source.features("test")
small = source.scorers(n_components, seed=seed)
large = source.scorers(n_components_large, seed=seed)
pairs = {("own mistakes", "test set"): score_pairs(small, test[test.correct], test[~test.correct])}
attacks = {
    ("attacks", f"{name.upper()}, {level:g}/255"): source.attack(name, level / 255)
    for name in source.experiment.attacks
    for level in source.eps_levels
}
strange = {
    ("strange images", title.partition(" (")[0]): source.ood(name)
    for name, title in source.ood_sets.items()
}
for trusted, suspects in ((test[source.attacked], attacks), (test, strange)):
    if suspects:
        pairs |= score_many(large, trusted, suspects)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: AUROC of every method for every failure"}
rows, ranking = {}, {}
for case, side in pairs.items():
    table = auroc_table(side, confidence=confidence)
    size = n_components if case[0] == "own mistakes" else n_components_large
    pair = {"density": f"GMM-{size}", "confidence": "Calibrated"}
    rows[case] = {word: table.AUROC[method] for word, method in pair.items()}
    rows[case] |= {
        f"{w} {end}": table.loc[m, end] for w, m in pair.items() for end in ("low", "high")
    }
    ranking[case] = table.AUROC.sort_values(ascending=False)
results = pd.DataFrame(rows).T.rename_axis(["failure", "test"])
lead = results["density"] - results["confidence"]

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the verdict"}
kinds = lead.groupby("failure", sort=False)
ahead = {kind: f"{(part > 0).sum()} of {len(part)}" for kind, part in kinds}
lowest = results[["density", "confidence"]].min()
reliable = " and ".join(lowest.index[lowest >= 0.9]) or "neither"
Markdown(
    f"**Verdict.** On {source.title}, the density of features detects "
    + ", ".join(
        f"{kind} better than calibrated confidence in {n} tests" for kind, n in ahead.items()
    )
    + f". Its lowest AUROC is {lowest['density']:.2f} and that of confidence "
    f"{lowest['confidence']:.2f}. If one tool for all failures must reach 0.9 everywhere, "
    f"{reliable} of the two is one."
)

# %% [markdown]
# ## Density and confidence on every failure
#
# A filled blue dot is the density of features, an open orange one the network's own calibrated
# confidence. At one half a detector is worth no more than a coin toss. Further left, it trusts the
# suspect inputs *more* than the others.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: pictures of own mistakes and attacks"}
pictures, rows = {}, source.pictured
if len(rows) and source.has_classifier:
    network, seen = source.classifier(), test[rows]
    images = plotting.sheet_images(source.figure("pictures"))
    sure = TemperatureScaling().fit(source.features("validation")).score_samples(seen)
    wrong, right = np.flatnonzero(~seen.correct), np.flatnonzero(seen.correct)[:3]
    wrong = wrong[np.argsort(-sure[wrong])][:3]  # the mistakes that it is surest of
    strong = bim(network, images[right], seen.labels[right], 8 / 255)
    told = extract_features(network, strong, labels=seen.labels[right])
    groups = {"own mistakes": (images[wrong], seen[wrong]), "attacks": (strong, told)}
    pictures = {k: plotting.judged_images(*each, source.classes) for k, each in groups.items()}

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: pictures of strange images"}
if pictures:
    stored = [n for n in source.ood_sets if f"figures/strange-{n}.png" in source.info["files"]]
    pictures["strange images"] = [
        plotting.judged_images(
            plotting.sheet_images(source.figure(f"strange-{name}"))[:1],
            source.ood(name)[:1],
            source.classes,
        )[0]
        for name in stored[-3:]
    ]

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: a sentence for each failure"}
sentences = {}
for kind, part in results.groupby(level=0, sort=False):
    own, rival = part["density"], part["confidence"]
    ahead = "density" if (own > rival).sum() * 2 > len(part) else "confidence"
    if len(part) == 1:
        text = f"AUROC {own.iloc[0]:.2f} for density, {rival.iloc[0]:.2f} for confidence: {ahead} is better."
    else:
        text = (
            f"Density is above confidence in {(own > rival).sum()} of {len(part)} tests. "
            f"Density: {own.min():.2f} to {own.max():.2f}. "
            f"Confidence: {rival.min():.2f} to {rival.max():.2f}."
        )
    sentences[kind] = text

# %% tags=["front-page", "hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "AUROC of the density of features and of calibrated confidence for own mistakes, attacks and strange images, one line a test, with pictures of each", "classes": "photograph"}}
below = lead[lead < 0]
figures.show(
    plotting.rivals(results, sentences=sentences, pictures=pictures),
    "density and confidence",
    f"Neither wins everywhere: density is above confidence in {(lead > 0).sum()} of {len(lead)} tests"
    + (", and farthest below it on {} ({})".format(*below.idxmin()) if len(below) else "")
    + ". Above each picture stand its class (a strange image has none), what the network takes it for, "
    "and its confidence. The attack is BIM at 8/255.",
)

# %% [markdown]
# ## The best method for each failure

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
best = {
    case: f"{plotting.method_name(each.index[0])}, {each.iloc[0]:.2f}"
    for case, each in ranking.items()
}
shown = results[["density", "confidence"]].map("{:.2f}".format)
shown.assign(**{"best method": pd.Series(best)})

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
firsts = pd.Series([plotting.method_name(each.index[0], sizes=False) for each in ranking.values()])
Markdown(
    f"{firsts.nunique()} different methods are best somewhere; density is best in "
    f"{(firsts == 'density').sum()} and confidence in {(firsts == 'confidence').sum()} of {len(firsts)} "
    "tests."
)

# %% [markdown]
# ## The price of refusing
#
# An AUROC does not say what a detector costs. Suppose we refuse the tenth of the test images that a
# detector trusts least. How many mistakes do we avoid? And how many images must we refuse to avoid
# nine mistakes in ten?

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the price"}
words = {"density": f"GMM-{n_components}", "confidence": "Calibrated"}
scores = {word: small[name].score_samples(test) for word, name in words.items()}
price = price_of_refusal(scores, test.correct, refuse=0.1, catch=0.9)
price.map("{:.0%}".format)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
last = price.iloc[:, 1]
Markdown(
    f"To avoid nine mistakes in ten we must refuse {last['confidence']:.0%} of the images by confidence "
    f"and {last['density']:.0%} by density."
)

# %% [markdown]
# ## In short

# %% tags=["front-page-text", "hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
cheap, dear = price.iloc[:, 0]["confidence"], price.iloc[:, 0]["density"]
worst = results["confidence"].idxmin()
better, worse = ("confidence", "density") if cheap > dear else ("density", "confidence")
passed = attacks_unnoticed(source, large[f"GMM-{n_components_large}"])
no_defence = (
    f" But a detector is no defence: an attacker who knows it passes unnoticed with "
    f"{best_attack(passed).share:.0%} of the images (chapter 5)."
    if len(passed)
    else ""
)
Markdown(
    f"- *Ordinary mistakes: use {better}.* Among the 10 % least trusted test images are "
    f"{max(cheap, dear):.0%} of all mistakes if {better} ranks them, {min(cheap, dear):.0%} if "
    f"{worse} does.\n"
    f"- *Attacks and strange images: do not rely on confidence alone.* Its AUROC falls to "
    f"{results.loc[worst, 'confidence']:.2f} ({worst[1]}), where density has "
    f"{results.loc[worst, 'density']:.2f}.{no_defence}\n"
    f"- *One tool for all failures: density is above confidence in {(lead > 0).sum()} of {len(lead)} "
    f"tests*, and its lowest AUROC is {results['density'].min():.2f}."
)

# %% [markdown]
# ## The paper's claims
#
# These are the claims of the paper's abstract, judged on this network.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
central = (
    "mistakes-have-unlikely-features",
    "mixture-beats-deep-densities",
    "single-tool",
    "mixture-beats-confidence-on-attacks",
    "mixture-beats-calibrated-on-strange-images",
)
Markdown(claim_badges(source.name, *central))

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-which-detector
#
# Which of the two should watch a network of which you expect all three kinds of failure, if the worst
# kind counts?
# ```
#
# ```{solution-start} ex-which-detector
# :class: dropdown
# ```

# %%
print(lowest.round(2).to_string())
print(f"{lowest.idxmax()}, because its lowest AUROC is the higher one")

# %% [markdown]
# The lowest AUROC decides, because somebody who cannot choose the failure meets the worst one as well.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/12_what_we_learned.ipynb out.ipynb -p classifier wrn_16_2
# ```
