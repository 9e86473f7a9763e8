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
# The paper (§4, its Tables 1–3) finds that calibrated confidence cannot be relied on for
# out-of-distribution (OOD) detection, that the mixture beats the class-conditional Mahalanobis
# distance in some cases, and that calibrated confidence alone fails even on Gaussian noise.
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to measure whether a network notices strange images, to compute the Mahalanobis
# distance, and to explain why a strange input may be likely. *You need* chapters 2 and 4. *Time:* 25
# minutes to read, a minute to run, 30 minutes for the exercises. *Paper:* §4.3, its Tables 1–3.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 1000  # Gaussians in the mixture of the features
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests

# %% tags=["hide-input", "nbval-ignore-output", "appendix"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from mistakes_lib import (
    LogLikelihood,
    as_evidence,
    auroc_table,
    claim_badges,
    compare_scores,
    detection_table,
    extract_features,
    known_classes,
    load_dataset,
    load_run,
    load_sweep,
    mann_whitney,
    mark_class_agnostic,
    plotting,
    published_trainings,
    published_twins,
    readable,
    readable_trainings,
    score_many,
    score_pairs,
    share_of_zeros,
    tally_verdicts,
    trainings_sentence,
    trainings_table,
)

source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
test = source.features("test")
scorers = source.scorers(n_components, seed=seed)
ours = f"GMM-{n_components}"
pairs = score_many(scorers, test, {name: source.ood(name) for name in source.ood_sets})
for name in pairs.keys() & source.scored_images:  # by a PixelCNN, which sees no features
    usual, strange = (source.image_log_likelihood(each) for each in ("test", name))
    pairs[name]["PixelCNN"] = usual, strange
tables = {
    name: detection_table(each, confidence=confidence, random_state=seed)
    for name, each in pairs.items()
}
auroc = pd.DataFrame({name: table.AUROC for name, table in tables.items()})

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the chapter's figures"}
figures = plotting.Figures(6)

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
        f", for {plotting.set_name(auroc.loc['PixelCNN'].idxmin())}; below one half is likelier."
    )
Markdown(
    f"1. {10 * (noisy > 0.9).mean():.1f} of ten.\n"
    f"2. Confidence has an AUROC of {auroc.loc['Calibrated', 'gaussian_noise']:.2f}, the density "
    f"{auroc.loc[ours, 'gaussian_noise']:.2f}.\n"
    f"3. {smooth}"
)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the verdict"}
papers = ["Calibrated", "Max softmax", "Mahalanobis", "Zheng & Hong"]
versus = compare_scores(pairs, ours, others=papers, confidence=confidence)
beaten = versus[versus.verdict == "beats"].reset_index()
beaten["set"] = beaten.setting.map(plotting.set_name)
beats_calibrated = beaten.set[beaten.method == "Calibrated"].tolist()
beats_mahalanobis = beaten.set[beaten.method == "Mahalanobis"].tolist()
noise = auroc["gaussian_noise"]
Markdown(
    f"**Verdict.** On {source.title}, density (the likelihood under {n_components:,} Gaussians) beats "
    f"confidence on {len(beats_calibrated)} of {len(tables)} OOD sets "
    f"({', '.join(beats_calibrated) or 'none'}) and the Mahalanobis distance on "
    f"{len(beats_mahalanobis)} ({', '.join(beats_mahalanobis) or 'none'}). On Gaussian noise "
    f"confidence has an AUROC of {noise['Calibrated']:.3f}, density {noise[ours]:.3f}. *Beats* means that the {confidence:.0%} interval of the paired difference "
    "lies above 0, corrected by Holm over all comparisons here."
)

# %% [markdown]
# ## The sets
#
# Every set is shown to the same network, at the size of its own images. Noise, digits (SVHN) and clothes
# (Fashion-MNIST) have no right answer. Some images of Tiny ImageNet have one: a brown bear is a bear. The
# paper has Gaussian noise, Tiny ImageNet ({cite}`russakovsky2015imagenet`), Fashion-MNIST
# ({cite}`xiao2017fashion`) and SVHN ({cite}`netzer2011reading`).

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the table"}
sizes = {name: len(source.ood(name)) for name in source.ood_sets}
listed = pd.DataFrame({"what it holds": source.ood_sets, "images": sizes})
listed.rename(index=plotting.set_name).rename_axis("set")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: classes that the network knows"}
try:
    shared = pd.DataFrame(known_classes(source.experiment.data_set).values())
    kinds = shared.groupby(1)[0].agg(", ".join).rename(lambda own: own.replace("_", " "))
    text = (
        f"Of Tiny ImageNet's 200 classes the network knows {len(shared)} by another name, such as "
    )
    text += "; ".join(f"{names} ({own})" for own, names in kinds.iloc[:6].items()) + ". "
    text += "On their images a confident prediction can be right."
except ValueError:
    text = f"Nobody has listed which classes of {source.title} are among the strange ones."
Markdown(text)

# %% [markdown] tags=["appendix"]
# ## What the network makes of them
#
# The table gives how often the network is more than 90 % confident, and the class that it names most
# often.

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the table"}
sets = {"test": test} | {name: source.ood(name) for name in source.ood_sets}
answers = {}
for name, batch in sets.items():
    sure = (scorers["Calibrated"].score_samples(batch) > 0.9).mean()
    share = pd.Series(batch.predictions).value_counts(normalize=True)
    favourite = f"{source.classes[share.index[0]]} ({share.iloc[0]:.0%})"
    answers[plotting.set_name(name)] = {
        "confident": f"{sure:.1%}",
        "most frequent answer": favourite,
    }
pd.DataFrame.from_dict(answers, orient="index")

# %% [markdown]
# Some of the strange images, each with the class that the network takes it for, and its softmax
# confidence:

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Rows of strange images, one row a set, each with the class that the network takes it for and its confidence", "classes": "photograph"}}
panels, absent = {}, []
for name in source.ood_sets:
    if f"figures/strange-{name}.png" in source.info["files"]:
        strange = plotting.sheet_images(source.figure(f"strange-{name}"))[:7]
        batch = source.ood(name)[: len(strange)]
    elif name == "gaussian_noise":  # is made, not read
        strange = load_dataset(name, "test", size=32).images[:7]
        batch = extract_features(source.classifier(), strange)
    else:
        absent.append(plotting.set_name(name))
        continue
    panels[plotting.set_name(name)] = plotting.judged_images(strange, batch, source.classes)
lacks = f" The run keeps no images of {' and '.join(absent)}." if absent else ""
if panels:
    top = max(float(text.split()[-1]) for row in panels.values() for _, text in row)
    figures.show(
        plotting.gallery(panels),
        "strange: pictures",
        "The network names a class for everything: on these images its confidence reaches "
        f"{top:.2f}.{lacks}",
    )
else:
    display(Markdown(f"No picture can be shown here.{lacks}"))

# %% [markdown]
# ## Likelihood of their features
#
# ```{margin} Why not the likelihood of *images*?
# The paper's PixelCNN finds Fashion-MNIST and SVHN *likelier* than its own training set, as other deep
# densities do ({cite}`nalisnick2018deep`). Nearly all bits of an image go into texture and noise,
# hardly any into what it shows: a smooth image is cheap, whatever is on it.
# ```
#
# The figure shows each feature's {term}`log-likelihood` under the mixture {eq}`eq-gmm`. A set is easily
# told apart if its histogram lies to the left of the test images'.
#
# ```{margin} Too likely to be true
# A standard Gaussian is highest at 0, and yet none of its points is there: $\lVert z \rVert^2$ has
# mean $D$ and standard deviation $\sqrt{2D}$. In many dimensions, typical points are not those of
# highest density. So an unusual input can get a high likelihood.
# ```

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Histograms of feature log-likelihood for test images and each out-of-distribution set"}}
dimension = test.features.shape[1]
figure, ax = plotting.new_figure(width=7)
groups = {
    plotting.set_name(name): scorers[ours].score_samples(batch) / dimension
    for name, batch in sets.items()
}
plotting.likelihood_histograms(ax, groups)
nearest, farthest = auroc.loc[ours].idxmin(), auroc.loc[ours].idxmax()
figures.show(
    figure,
    "strange: histograms",
    f"{plotting.set_name(farthest)} lies farthest from the test images (AUROC of density "
    f"{auroc.loc[ours, farthest]:.2f}), {plotting.set_name(nearest)} nearest "
    f"({auroc.loc[ours, nearest]:.2f}).",
)

# %% [markdown]
# The table gives {term}`bits per dimension` of the images themselves: under the run's PixelCNN, if it
# has one ({doc}`chapter 3 <03_hypothesis_tests>`), as lossless WebP files, and if every pixel is
# independent. Few bits mean a high likelihood, so a detector that trusts likely images trusts simple
# images.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
bits = pd.DataFrame(source.bits_per_dim).T.drop(index="validation", errors="ignore")
plotting.call_by_name(bits).round(2) if len(bits) else print(
    f"The run of {source.title} has no PixelCNN."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
simple = bits.index[bits["PixelCNN"] < bits["PixelCNN"]["test"]] if len(bits) else []
simple = " and ".join(map(plotting.set_name, simple)) or "no set"
Markdown(
    f"The PixelCNN finds {simple} likelier than the test images."
    if len(bits)
    else "Without a PixelCNN this page has no likelihood of images."
)

# %% [markdown] tags=["appendix"]
# ## Table 1 of the paper, rebuilt
#
# {term}`AUROC` of every method for telling each set from the test images (the paper's Table 2 has
# CIFAR-10, its Table 3 the Gaussian noise; † class-agnostic: looks at no class):

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the table"}
plotting.call_by_name(mark_class_agnostic(auroc, scorers, others=["PixelCNN"])).round(2)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: what the table shows"}
best = auroc.idxmax()
Markdown(
    "The best method is "
    + ", ".join(
        f"{plotting.method_name(method)} on {plotting.set_name(name)}"
        for name, method in best.items()
    )
    + f". Density stays above {auroc.loc[ours].min():.2f}, confidence above "
    f"{auroc.loc['Calibrated'].min():.2f}."
)

# %% [markdown] tags=["appendix"]
# Some classes of Tiny ImageNet are classes that the network knows, by another name. An answer can be
# right there, so these images are less strange than they should be. The table has the set with and
# without them.

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: with and without known classes"}
kept = {}
try:
    labels, names = source.ood_labels("tiny_imagenet")
    known, images = known_classes(source.experiment.data_set), source.ood("tiny_imagenet")
    strange = np.array([name not in known for name in names])[labels]
    kept[f"Tiny ImageNet, all {len(images):,} images"] = images
    kept[f"without known classes, {strange.sum():,} images"] = images[strange]
    kept[f"known classes alone, {(~strange).sum():,} images"] = images[~strange]
except (FileNotFoundError, ValueError):  # no such set, or nobody has said what its images show
    pass
pair = {"density": scorers[ours], "confidence": scorers["Calibrated"]}
overlap = {name: auroc_table(score_pairs(pair, test, each)).AUROC for name, each in kept.items()}
overlap = pd.DataFrame(overlap).T
if len(overlap):
    display(overlap.round(3))
    change = (overlap.iloc[1] - overlap.iloc[0]).round(3)
    display(
        Markdown(
            f"Without them density gains {change.density:+.3f}, confidence {change.confidence:+.3f}."
        )
    )
else:
    display(Markdown(f"The run of {source.title} does not say what its strange images show."))

# %% [markdown]
# The same with intervals, one panel a set.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "AUROC of every method with confidence intervals, one panel an out-of-distribution set"}}
figure, axes = plotting.new_figure(rows=len(tables), width=6.5, height=2.9, squeeze=False)
for ax, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
    plotting.dots_with_intervals(ax, table).set_title(plotting.set_name(name), pad=14)
ahead = (auroc.loc[ours] > auroc.loc["Calibrated"]).sum()
figures.show(
    figure,
    "strange: every method",
    f"Density (blue) is above confidence (orange) on {ahead} of {len(tables)} sets. Lines are "
    f"{confidence:.0%} intervals; those narrower than a dot are hidden by it.",
)

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
# the labels. In five lines, and equal to the library's:

# %%
if source.has_training_features:
    train = source.features("train")[source.labelled()]
    F, y = train.features.astype(np.float64), train.labels
    means = np.stack([F[y == c].mean(axis=0) for c in range(len(source.classes))])  # (c, D)
    covariance = (F - means[y]).T @ (F - means[y]) / len(F)  # (D, D)
    precision = np.linalg.pinv(covariance, scorers["Mahalanobis"].rcond, hermitian=True)
    gaps = test.features[:200, None] - means  # (n, c, D)
    by_hand = -((gaps @ precision) * gaps).sum(axis=2).min(axis=1)
    library = scorers["Mahalanobis"].score_samples(test[:200])
    assert np.allclose(by_hand, library, rtol=1e-3)

# %% [markdown]
# The {term}`FPR95` says how many ordinary inputs are refused while 95 % of the strange ones are caught.
# It is the number that an operator feels.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
fpr95 = pd.DataFrame({name: table.FPR95 for name, table in tables.items()})
plotting.call_by_name(mark_class_agnostic(fpr95, scorers, others=["PixelCNN"])).round(2)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
dear = fpr95.loc[[ours, "Calibrated"]]
Markdown(
    f"To catch 95 % of the hardest set, density refuses {dear.loc[ours].max():.0%} of the ordinary "
    f"images and confidence {dear.loc['Calibrated'].max():.0%}."
)

# %% [markdown]
# ## Independent fits
#
# The paper reports means and deviations over five runs, and does not say what varied. In this section the
# fit and the images vary. First, the {doc}`sweep of chapter 4 <04_mistakes>` has fitted the
# mixture five times, each time from another start. Second, we keep one fit and split the images into
# five random parts, with one AUROC each. (On all images together the spread is $\sqrt 5$ times
# smaller.) The classifier stays the same.

# %%
own, wanted = source.experiment, {"n_components": n_components}
wanted |= {"data_set": own.data_set, "classifier": own.classifier}
swept = load_sweep("components", **wanted)
swept = swept[swept.metric.isin([f"auroc.{name}" for name in pairs])]
names = swept.metric.str.removeprefix("auroc.").map(plotting.set_name)
fits = swept.groupby(names).value.agg(["count", "mean", "std"])
if fits.empty:
    print(f"No sweep of {source.title}, K = {n_components}, is published.")

# %%
rng, by_images = np.random.default_rng(seed), {}
for name, each in pairs.items():
    parts = zip(*(np.array_split(rng.permutation(s), 5) for s in each[ours]), strict=True)
    by_images[plotting.set_name(name)] = [mann_whitney(*part).auroc for part in parts]
images = pd.DataFrame(by_images).agg(["mean", "std"]).T
spread = pd.concat({"fits": fits, "fifths of the images": images}, axis=1)
spread.dropna(axis=1, how="all").round(4)

# %% [markdown]
# ## Independent trainings
#
# One network was trained several times, with equal settings and another seed each time
# ({doc}`chapter 4 <04_mistakes>`). The table has the AUROC of density and of confidence, mean ± standard
# deviation over the trainings. The interval of their difference holds the spread of trainings and of
# images.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
trained = published_trainings()
if trained:
    size = trained[0].nearest_mixture(n_components)
    by_training = trainings_table(trained, "strange", size, resamples=200)
    by_training = by_training.rename(plotting.set_name)
    shown = readable_trainings(by_training)
    display(shown.rename_axis(f"{trained[0].title}, {len(trained)} trainings"))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
Markdown(
    trainings_sentence(by_training)
    if trained
    else "No network of this book was trained more than once."
)

# %% [markdown]
# ## Classifiers side by side
#
# The paper's Tables 1 and 2 have a block for each kind of classifier. Here are all published ones with
# these images.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
blocks = {(source.info["title"], name): table for name, table in tables.items()}
for each in source.siblings(n_components)[1:]:
    own, inputs = each.scorers(n_components, seed=seed), each.features("test")
    strange = {name: each.ood(name) for name in each.ood_sets}
    for name, side in score_many(own, inputs, strange).items():
        block = detection_table(side, confidence=confidence, random_state=seed)
        blocks[each.info["title"], name] = block
by_kind = pd.DataFrame({key: block.AUROC for key, block in blocks.items()}).loc[auroc.index]
by_kind = mark_class_agnostic(by_kind, scorers, others=["PixelCNN"])
plotting.with_dashes(plotting.call_by_name(by_kind))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
below = [
    (t, n) for (t, n), block in blocks.items() if block.AUROC[ours] < block.AUROC["Calibrated"]
]
often = pd.Series([plotting.set_name(n) for _, n in below], dtype=object).value_counts()
where = ", ".join(f"{name} on {count}" for name, count in often.items())
where = f": {where} of {len({t for t, _ in blocks})} networks" if below else ""
Markdown(f"Density is below confidence in {len(below)} of {len(blocks)} columns{where}.")

# %% [markdown]
# The next fold has the same in full, with intervals, {term}`AUPR` and {term}`FPR95`.

# %% tags=["hide-input", "hide-output"] mystnb={"code_prompt_show": "Every method with intervals: {type}"}
for (title, name), block in blocks.items():
    shown = readable(block, confidence=confidence)
    shown = plotting.call_by_name(mark_class_agnostic(shown, scorers, others=["PixelCNN"])).round(2)
    display(Markdown(f"**{title}**, {source.ood_sets.get(name, name)}"), shown)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what is missing"}
missing = [] if "svhn" in source.ood_sets else ["the images of SVHN"]
missing += [] if source.scored_images else ["a PixelCNN"]
Markdown(f"In the paper's tables, but not in this run: {' and '.join(missing) or 'nothing'}.")

# %% [markdown]
# ## Zeros
#
# The features of a ReLU network are never negative, and many are exactly 0. If test features are often
# 0, the mixture has narrow, high components there. Then an input with still more zeros is *likely*,
# however strange it is. How many features are 0 on each set?

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
zeros = share_of_zeros({name: batch.features for name, batch in sets.items()})
zeros["AUROC of density"] = auroc.loc[ours]
plotting.with_dashes(plotting.call_by_name(zeros))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
more = zeros["zeros"]["gaussian_noise"] > zeros["zeros"]["test"]
likely = auroc.loc[ours, "gaussian_noise"] < 0.5
Markdown(
    f"On noise {zeros['zeros']['gaussian_noise']:.0%} of the features are 0, on test images "
    f"{zeros['zeros']['test']:.0%}. "
    + (
        "The mixture finds noise likelier than test images, because those zeros are likely."
        if more and likely
        else "Here the mixture still finds noise less likely than test images."
        if not likely
        else "The mixture finds noise likelier than test images, though zeros do not explain it."
    )
)

# %% [markdown]
# Is it the ReLU? Two small Wide ResNets are twins: the same network, recipe and seed, but one has ReLU and
# the other tanh after its last batch normalisation (presets `wrn_10_2` and `wrn_10_2_tanh`). Each has its
# own mixture of 100 Gaussians. If zeros make noise likely, noise is less likely with tanh.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the twins"}
columns, areas = {}, {}
for twin in published_twins():
    title, inputs = twin.info["title"], twin.features("test")
    strange = {name: twin.ood(name) for name in twin.ood_sets}
    drawn = score_many({"density": LogLikelihood(twin.density(100))}, inputs, strange)
    areas[title] = {name: mann_whitney(*each["density"]).auroc for name, each in drawn.items()}
    both = {"test": inputs.features, "noise": strange["gaussian_noise"].features}
    columns[title] = {"accuracy": inputs.accuracy}
    columns[title] |= {f"zeros, {k}": share for k, share in share_of_zeros(both)["zeros"].items()}
    columns[title] |= {f"AUROC, {plotting.set_name(k)}": a for k, a in areas[title].items()}
twins = pd.DataFrame(columns)
twins.round(2) if areas else print("The twins are published in a clone of the repository.")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
text = "Nothing can be said of the twins here."
if areas:
    relu, tanh = (pd.Series(each) for each in areas.values())  # in the order of the columns
    on_noise, gain = relu.gaussian_noise, (tanh - relu).sort_values(ascending=False)
    cured = tanh.gaussian_noise > 0.5
    reason = "With tanh it is not, so zeros are the reason." if cured else "With tanh it is, too."
    text = (
        f"Noise is {'likely' if on_noise < 0.5 else 'not likely'} in the twin with ReLU (AUROC {on_noise:.2f}). "
        + (
            reason
            if on_noise < 0.5
            else "So these twins have no likely noise that zeros could explain."
        )
        + f" With tanh the AUROC is higher on {(gain > 0).sum()} of {len(gain)} sets, most on "
        f"{plotting.set_name(gain.index[0])} ({gain.iloc[0]:+.2f})."
    )
Markdown(text)

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- Density beats confidence on {len(beats_calibrated)} of {len(tables)} sets and the Mahalanobis "
    f"distance on {len(beats_mahalanobis)}.\n"
    f"- Its hardest set is {plotting.set_name(nearest)} (AUROC {auroc.loc[ours, nearest]:.2f}), where it "
    f"refuses {fpr95.loc[ours, nearest]:.0%} of ordinary images to catch 95 % of the strange ones.\n"
    f"- It depends on the network: density is below confidence in {len(below)} of {len(blocks)} "
    "combinations of published network and set."
)

# %% [markdown]
# (evidence-ood)=
# ## The paper's claims
#
# The {doc}`ledger of claims <../claims>` judges these claims by the numbers of this chapter.

# %% tags=["evidence", "hide-input", "remove-output"] mystnb={"code_prompt_show": "Code: the numbers for the ledger"}
evidence = tally_verdicts(versus).to_dict()
evidence |= {"settings": len(tables), "noise": noise.rename({ours: "ours"}).dropna().to_dict()}
topics = {"ood": evidence}
if "PixelCNN" in auroc.index:
    told = auroc.loc["PixelCNN"].reindex(["fashion_mnist", "svhn"]).dropna()  # the paper's two
    topics["pixelcnn_ood"] = {"below_half": int((told < 0.5).sum()), "tested": len(told)}
    topics["pixelcnn_ood"] |= auroc.loc["PixelCNN"].dropna().to_dict()
print(as_evidence(topics))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
Markdown(claim_badges(source.name, "evidence-ood"))

# %% [markdown]
# ## Exercises
#
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
    print(f"{plotting.set_name(name):<16} {values[name]:.3f}")
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
small = LogLikelihood(source.density(max(1, n_components // 10), seed=seed))
for name in source.ood_sets:
    pair = score_pairs({"small": small}, test, source.ood(name))
    values[name] = detection_table(pair, random_state=seed).AUROC["small"]
    print(f"{plotting.set_name(name):<16} {values[name]:.3f} against {auroc.loc[ours, name]:.3f}")
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
