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
# # Detecting mistakes on the test set
#
# *Can the feature likelihood tell, input by input, which predictions are wrong?*
#
# The paper (§4, its Fig. 2 and 3) finds that a mixture of 100 Gaussians on the features separates
# correct from incorrect predictions, better than flexible densities do, and about as well as
# calibrated confidence on a Wide ResNet, though not on a DenseNet. In this book the two rivals are
# called *density* (the likelihood of features under the mixture) and *confidence* (the largest
# softmax probability, calibrated by temperature scaling).
#
# ```{admonition} This chapter
# :class: tip
#
# *You will learn* to compare detectors of mistakes, to choose a threshold with a guarantee, and to say
# what refusing inputs costs. *You need* chapters 2 and 3. *Time:* 30 minutes to read, four minutes to
# run, 40 minutes for the exercises. *Paper:* §4.1, its Fig. 2 and 3.
# ```

# %% tags=["parameters", "hide-input"] mystnb={"code_prompt_show": "Parameters"}
run = None  # folder or name of a run; None: the one named by the next three
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
seed = 0  # of training and of every fit
n_components = 100  # Gaussians in the mixture of the features
eps = 8 / 255  # attack radius (L∞) in pixel units of [0, 1]
confidence = 0.95  # of intervals and tests
repeats = 5  # independent fits of the mixture

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Imports and data"}
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from mistakes_lib import (
    Combined,
    LogLikelihood,
    as_evidence,
    auroc_by_group,
    auroc_table,
    auroc_within,
    claim_badges,
    conformal_threshold,
    describe_scorers,
    detection_table,
    information_by_subspace,
    likelihood_ratio_test,
    load_run,
    load_sweep,
    mark_class_agnostic,
    mistake_scores,
    overconfidence_sentence,
    overconfidence_table,
    paired_difference,
    plotting,
    price_of_refusal,
    published_runs,
    published_trainings,
    readable,
    readable_trainings,
    risk_coverage,
    score_pairs,
    select_threshold,
    spread_of_auroc,
    stored_evidence,
    threshold_explorer,
    trainings_methods,
    trainings_spread,
)

source = load_run(run or f"{data_set}/{classifier}/seed{seed}")
validation, test = source.features("validation"), source.features("test")
scorers = source.scorers(n_components, seed=seed, deep=True)
deep = [name for name in ("VAE", "MAF") if name in scorers]
pairs = mistake_scores(source, scorers)  # with the likelihood of the images, under a PixelCNN
table = detection_table(pairs, confidence=confidence, random_state=seed)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the chapter's figures"}
figures = plotting.Figures(4)

# %% [markdown]
# ```{admonition} Guess first
# :class: hint
#
# 1. Which detects the network's own mistakes better? (a) the density of the features, (b) the network's
#    calibrated confidence, (c) both alike
# 2. A threshold on the density flags one correct prediction of twenty. How many of ten mistakes does it
#    catch? (a) one or two, (b) five, (c) nine
# 3. What is the AUPR of a random flag? (a) one half, (b) the share of mistakes, (c) zero
# ```

# %% tags=["remove-input", "hide-output"] mystnb={"code_prompt_show": "Answers"}
usual, mistaken = pairs[f"GMM-{n_components}"]
Markdown(
    f"1. The density has an AUROC of {table.AUROC[f'GMM-{n_components}']:.2f}, calibrated confidence "
    f"{table.AUROC['Calibrated']:.2f}.\n"
    f"2. {10 * (mistaken < np.quantile(usual, 0.05)).mean():.1f} of ten.\n"
    f"3. The share of mistakes, {1 - test.accuracy:.2f}, because a random flag is right that often."
)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the verdict"}
ours = table.iloc[0]
ranking = table["AUROC"].drop("Max softmax", errors="ignore").sort_values(ascending=False)
useful = "better than chance" if ours.low > 0.5 else "no better than chance"
calibrated = table.loc["Calibrated"]
against = paired_difference(
    pairs[f"GMM-{n_components}"], pairs["Calibrated"], confidence=confidence
)
word = {"loses": "loses to", "on par": "is on par with"}.get(against.verdict, against.verdict)
word = "is undecided against" if word == "undecided" else word
best_method = plotting.method_name(ranking.index[0])
paper_finds = (
    f"On the same images density {word} confidence (difference {against.difference:+.3f}, "
    f"{against.interval[0]:+.3f} to {against.interval[1]:+.3f})."
)
for family, says in (("densenet_bc", "loses to"), ("wide_resnet", "is on par with")):
    if source.family == family:
        paper_finds += f" In the paper, on such a network, density {says} confidence."
Markdown(
    f"**Verdict.** On {source.title}, density (the likelihood under {n_components} Gaussians) detects "
    f"test mistakes {useful}: AUROC {ours.AUROC:.3f} ({ours.low:.3f} to {ours.high:.3f}). Confidence "
    f"reaches {calibrated.AUROC:.3f}; the best method is *{best_method}* ({ranking.iloc[0]:.3f}). "
    f"{paper_finds}"
)

# %% [markdown] tags=["appendix"]
# ## Two histograms
#
# Each test feature has a {term}`log-likelihood` under the mixture {eq}`eq-gmm`. If mistakes are made on
# unusual features, the two groups part (the paper's Fig. 2, bottom row, and for CIFAR-10 its Fig. 6,
# left). Where the run has a {term}`PixelCNN`, the likelihood of the *images* follows (the paper's
# Fig. 2, top row).

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Overlaid histograms of log-likelihood for correct and incorrect test predictions, one panel a density"}}
dimension = test.features.shape[1]
correct, incorrect = pairs[f"GMM-{n_components}"]
figure, axes = plotting.new_figure(rows=1 + ("PixelCNN" in pairs), width=6.5, squeeze=False)
groups = {"correct": correct / dimension, "incorrect": incorrect / dimension}
plotting.likelihood_histograms(axes[0, 0], groups).set_title("density of features")
overlap = "" if ours.AUROC > 0.9 else ", but the two histograms overlap"
caption = f"Mistakes have {'less' if ours.low > 0.5 else 'no less'} likely features{overlap}: in "
caption += f"{ours.AUROC:.0%} of all pairs the correct prediction is likelier than the mistake."
if "PixelCNN" in pairs:
    groups = dict(zip(groups, pairs["PixelCNN"], strict=True))
    ax = plotting.likelihood_histograms(axes[1, 0], groups, unit="nats per image")
    ax.set_title("PixelCNN on images")
    caption += f" By the likelihood of the images it is so in {table.AUROC['PixelCNN']:.0%}."
figures.show(figure, "mistakes: histograms", caption)

# %% [markdown]
# ## Every method on the same inputs
#
# ```{prf:definition} Detector
# :label: def-detector
#
# A detector is a {term}`score` $s(X)$, higher for the more trustworthy, with a threshold $T$: it
# flags $X$ if $s(X) < T$. The failure is the positive class, so that *recall* is the share of the
# {term}`mistakes <mistake>` that are flagged, the *false positive rate* that of the correct
# predictions, and *precision* the share of mistakes among what is flagged. Moving $T$ draws the
# {term}`ROC curve` and the curve of precision against recall.
# ```

# %% [markdown] tags=["appendix"]
# The paper's Fig. 3 compares density with calibrated and raw confidence
# ({cite}`hendrycks2017baseline`, {cite}`guo2017calibration`), its Fig. 5 with two methods that need
# labels ({cite}`lee2018simple`, {cite}`zheng2018robust`). The others are what practitioners try today: nearest neighbors
# ({cite}`sun2022knn`), relative distance ({cite}`ren2021relative`), virtual logits
# ({cite}`wang2022vim`), energy and the largest logit ({cite}`liu2020energy`).
#
# No method was tuned on the test set: the temperature was chosen on validation logits, all others
# learn from training features or nothing. A method is class-agnostic if it looks at no class at
# all, neither in labels nor in logits; the tables mark it by a dagger †.

# %%
plotting.call_by_name(describe_scorers(scorers))

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "ROC curves and precision-recall curves of all methods for detecting test mistakes"}}
figure, (upper, lower) = plotting.new_figure(rows=2, width=5.5, height=4.4)
plotting.roc_curves(upper, pairs)
plotting.precision_recall_curves(lower, pairs)
figures.show(
    figure,
    "mistakes: ROC and precision",
    f"Of {len(ranking)} methods (raw confidence is counted with confidence), {best_method} separates "
    f"mistakes best: its AUROC is {ranking.iloc[0]:.3f}, that of density {ours.AUROC:.3f}. Above: ROC "
    "curves. Below: precision against recall, with mistakes as the positive class.",
)

# %% tags=["hide-input", "appendix"] mystnb={"code_prompt_show": "Code: the table"}
shown = mark_class_agnostic(readable(table, confidence=confidence), scorers, others=["PixelCNN"])
plotting.call_by_name(shown).round(2)

# %% [markdown]
# ```{margin} What is a bad AUPR?
# A flag thrown at random is right as often as mistakes are frequent. So the floor of the AUPR is the
# error rate, not one half, and two classifiers' AUPRs do not compare.
# ```
#
# {term}`AUPR` has the failures as positive class; {term}`FPR95` is the share of correct predictions
# that must be rejected to catch 95 % of the mistakes.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "AUROC of each method for test mistakes, one dot a method, with confidence intervals"}}
figure, ax = plotting.new_figure(width=6.5, height=3.6)
plotting.dots_with_intervals(ax, table)
place = list(ranking.index).index(f"GMM-{n_components}") + 1
figures.show(
    figure,
    "mistakes: every method",
    f"Density stands at place {place} of {len(ranking)} methods (raw confidence is counted with "
    f"confidence), {ranking.iloc[0] - ours.AUROC:.2f} below the best. A line through a dot is its "
    f"{confidence:.0%} interval.",
)

# %% [markdown]
# ## Other densities of the same features
#
# ```{margin} A better fit, a worse detector?
# A density earns its likelihood on *all* features, in *all* their dimensions. Only a few directions
# decide the class. What a flexible model learns about the others is, for the detector, noise.
# ```
#
# The paper (§4.1) compares the mixture with a {term}`VAE` and a {term}`MAF` on the same features. A
# density that fits better need not detect better. The table gives bits per dimension of the test
# features (smaller is a better fit), beside the AUROC for mistakes.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
rows = {}
for name in (f"GMM-{n_components}", *deep):
    nats = np.concatenate(pairs[name]).mean()
    rows[name] = {"bits per dimension": -nats / (dimension * np.log(2))}
if "PixelCNN" in pairs:  # of images, so that its bits compare with no other's here
    bits = source.pixel_cnn_run.bits_per_dim["test"]["PixelCNN"]
    rows["PixelCNN"] = {"bits per dimension": bits}
fits = pd.DataFrame.from_dict(rows, orient="index").join(table[["AUROC", "low", "high"]])
shown = mark_class_agnostic(readable(fits, confidence=confidence), scorers, others=["PixelCNN"])
plotting.call_by_name(shown).round(2)

# %% [markdown]
# ```{margin} Why from above?
# The estimate $\hat p$ of the density is right on average, its logarithm is not: by Jensen's
# inequality $\mathbb E \log \hat p \le \log \mathbb E \hat p = \log p$. Too few nats are too many
# bits.
# ```
#
# The VAE's likelihood is estimated by importance sampling ({cite}`burda2015importance`), which slightly
# overstates its bits per dimension. The PixelCNN ({cite}`salimans2017pixelcnn`) is a density of images,
# not of features; {cite}`song2017pixeldefend` use it against attacks.
# {doc}`Chapter 3 <03_hypothesis_tests>` says how far it was trained.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
on_features = fits.drop(index="PixelCNN", errors="ignore")
closest, sharpest = on_features["bits per dimension"].idxmin(), on_features.AUROC.idxmax()
closest, sharpest = (plotting.method_name(name) for name in (closest, sharpest))
missing = [name for name in ("VAE", "MAF", "PixelCNN") if name not in pairs]
text = f"Missing, because {source.title} has none: {', '.join(missing)}. " if missing else ""
if "VAE" in deep:
    text += f"For each input the VAE's estimate takes {scorers['VAE'].density.importance_samples} samples. "
if len(on_features) > 1:
    text += f"Of the densities of features, {closest} fits best and {sharpest} detects best."
Markdown(text)

# %% [markdown]
# ## Independent fits
#
# EM starts at random rows and finds a local optimum. Here only the fit varies, with its seed, and the
# classifier stays the same. The start of EM and the test images both move the mean. So a hierarchical
# bootstrap draws each of them, and the table says how much each moves the mean.

# %%
seeds = source.fitted_seeds(n_components)[:repeats]
if source.has_training_features:  # then any other fit can be made
    seeds = range(seed, seed + repeats)
fits = [LogLikelihood(source.density(n_components, seed=each)) for each in seeds]
pairs_of_fits = score_pairs(dict(enumerate(fits)), test[test.correct], test[~test.correct])
stacked = np.stack([np.concatenate(pair) for pair in pairs_of_fits.values()])  # (fits, n)
suspect = np.arange(len(test)) >= test.correct.sum()  # first the correct predictions
spread = spread_of_auroc(stacked, suspect, confidence=confidence, random_state=seed)
print(f"mean AUROC over the fits ({len(fits)}): {spread.mean:.4f}, ", end="")
print(f"interval {spread.interval[0]:.4f} to {spread.interval[1]:.4f}")
print(spread.sentence)
plotting.with_dashes(spread.sources, digits=4)

# %% [markdown]
# The VAE and the MAF start at random, too, and see their batches in random order. A sweep fits
# each five times, on the features of a DenseNet and of a Wide ResNet:
#
# ```bash
# mistakes sweep notebooks/sweeps/deep_densities.yml --out book/sweeps/deep_densities
# ```
#
# Beside the AUROC of these fits for mistakes stands that of the run's own mixture.
# {doc}`Chapter 9 <09_setups>` lists the settings of both and tries the MAF's printed ones.

# %%
own = source.experiment
kinds = {each.info["title"]: each for each in source.siblings(n_components)}
titles = {each.experiment.classifier: title for title, each in kinds.items()}
refits = load_sweep("deep_densities", data_set=own.data_set).replace({"classifier": titles})
refits = refits[(refits.metric == "auroc.mistakes") & refits.classifier.isin(kinds)]
refits = refits.groupby(["classifier", "density"]).value.agg(["count", "mean", "std", "min", "max"])
refits = refits.rename(index=str.upper, level="density")

# %%
mixture = {}
for title in refits.index.unique("classifier"):
    scorer = {"ours": LogLikelihood(kinds[title].density(n_components, seed=seed))}
    inputs = kinds[title].features("test")
    scores = score_pairs(scorer, inputs[inputs.correct], inputs[~inputs.correct])
    mixture[title] = auroc_table(scores).AUROC["ours"]
mixture = pd.Series(mixture, dtype=float)
refits["mixture"] = mixture.reindex(refits.index.get_level_values("classifier")).to_numpy()
refits.round(4) if len(refits) else print("No such sweep of these images is published.")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
lucky = refits[refits["max"] >= refits.mixture].index
Markdown(
    "Without the sweep nothing can be said of other starts."
    if refits.empty
    else "No fit of another density reaches the mixture on the same network. So a lucky start does not "
    "explain the difference."
    if lucky.empty
    else f"The mixture is reached by {', '.join(f'a {name} on {title}' for title, name in lucky)}."
)

# %% [markdown]
# ## Independent trainings
#
# The paper reports the mean and standard deviation of five independent runs. One network of this book
# was trained several times, with equal settings and another seed each time. The table has the AUROC of
# every method for its test mistakes, mean ± standard deviation over the trainings, and the interval of
# the difference, which holds the spread of trainings and of test images. Chapters
# {doc}`5 <05_adversarial>`, {doc}`6 <06_out_of_distribution>` and {doc}`8 <08_purification>` have such a
# table, too.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
trained = published_trainings()
if trained:
    size = trained[0].nearest_mixture(n_components)
    by_training = readable_trainings(trainings_methods(trained, size, resamples=200))
    by_training = by_training.rename_axis(f"{trained[0].title}, {len(trained)} trainings")
    display(plotting.call_by_name(mark_class_agnostic(by_training, scorers)))
else:
    display(Markdown("No network of this book was trained more than once."))

# %% [markdown]
# What moves the AUROC of density most? It may be the training, the fit of the mixture (which one training
# repeats), or the choice of the test images. The standard deviation is that of one training or one fit;
# the standard error is its share in the error of the mean.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three sources of spread"}
if trained:
    sources = trainings_spread(trained, size, resamples=200)
    display(plotting.with_dashes(sources.sources, digits=4))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
low, high = sources.interval if trained else (0, 1)
Markdown(
    f"Over {len(trained)} trainings of one network the mean AUROC of density is {sources.mean:.3f} "
    f"({low:.3f} to {high:.3f}). {sources.sentence}"
    if trained
    else "Without several trainings nothing can be said of their spread."
)

# %% [markdown]
# ## How many Gaussians?
#
# The paper takes 100 Gaussians for mistakes and 1000 against attacks. How much depends on that
# number? A sweep has fitted mixtures of several sizes, each with five seeds, and judged each as a
# detector of mistakes and of strange images:
#
# ```bash
# mistakes sweep notebooks/sweeps/components.yml --out book/sweeps/components
# ```

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "AUROC against the number of mixture components, one line for mistakes and one for each out-of-distribution set, with the spread over five fits"}}
swept = load_sweep("components", data_set=own.data_set, classifier=own.classifier)
names = {"value": "AUROC", "n_components": "number of Gaussians K"}
swept = swept[swept.metric.str.startswith("auroc.")].rename(columns=names)
swept["detection of"] = swept.metric.str.removeprefix("auroc.").map(plotting.set_name)
if swept.empty:
    display(Markdown(f"No sweep of {source.title} is published."))
else:
    figure, ax = plotting.new_figure(width=6.5)
    x = names["n_components"]
    plotting.lines_with_spread(ax, swept, x=x, y="AUROC", line="detection of")
    means = swept[swept["detection of"] == "own mistakes"].groupby(x).AUROC.mean()
    figures.show(
        figure,
        "mistakes: number of Gaussians",
        f"For mistakes the mean AUROC of density lies between {means.min():.2f} (K = {means.idxmin()}) "
        f"and {means.max():.2f} (K = {means.idxmax()}). A band is one standard deviation over the fits.",
    )

# %% [markdown]
# ## A threshold for use
#
# "The value of the threshold is chosen by cross-validation on the validation set to obtain a good
# trade-off between precision and recall" (§3.3). An input is rejected when its score falls below.

# %%
scorer = scorers[f"GMM-{n_components}"]
threshold = select_threshold(scorer.score_samples(validation), validation.correct, criterion="f1")
flagged = scorer.score_samples(test) < threshold.value
caught = flagged[~test.correct].mean()
print(f"flagged: {flagged.mean():.1%} of test inputs, among them {caught:.1%} of the mistakes")
print(f"precision {(~test.correct[flagged]).mean():.1%} (a random flag: {1 - test.accuracy:.1%})")

# %% [markdown]
# Move the threshold: drag the line through the histograms or the point along the ROC curve, or use the
# slider (arrow keys move it, too). The figure begins at the threshold chosen above. Far to the left,
# almost nothing is flagged. Further right the point climbs the curve, and each further mistake costs
# more correct predictions. Then choose *confidence*: the threshold moves to where as many correct
# predictions are refused. Does it catch more mistakes?

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the movable threshold"}
rows, names, pictures = source.pictured, np.array(source.classes), None
sure = scorers["Calibrated"].score_samples(test)
rival = {"name": "confidence", "unit": "calibrated confidence"}
rival |= {"correct": sure[test.correct], "wrong": sure[~test.correct]}
if len(rows):  # the run keeps the images of these inputs
    shown, rival["score"] = test[rows], sure[rows]
    pictures = {"file": source.figure("pictures"), "score": scorer.score_samples(shown) / dimension}
    pictures |= {"label": names[shown.labels], "predicted": names[shown.predictions]}
threshold_explorer(
    correct / dimension,
    incorrect / dimension,
    start=threshold.value / dimension,
    unit="log-likelihood (nats per dimension)",
    pictures=pictures,
    rival=rival,
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the run keeps"}
Markdown(
    f"The images below the tables are those nearest to the threshold, from {len(rows)} stored test "
    f"images, {(~test.correct[rows]).sum()} of them mistakes. Does an image look as unusual as its "
    "likelihood says?"
    if len(rows)
    else f"The run of {source.title} keeps no images that could be shown at their threshold."
)

# %% [markdown]
# ```{exercise}
# :label: ex-price
#
# Which threshold catches nine mistakes of ten, and which share of the correct predictions does it
# cost? Find it with the figure, then compute it.
# ```
#
# ```{solution-start} ex-price
# :class: dropdown
# ```

# %%
nine_of_ten = np.quantile(incorrect / dimension, 0.9)
answer = (correct / dimension < nine_of_ten).mean()
print(f"below {nine_of_ten:.3f} nats per dimension; {answer:.1%} of the correct are flagged, too")

# %% [markdown]
# It costs correct predictions because the two histograms overlap: a threshold above nine mistakes of
# ten lies above these correct predictions as well.
#
# ```{solution-end}
# ```
#
# ### A threshold with a guarantee
#
# ```{margin} On average over what?
# Over calibration sets. Given one, the share that its threshold flags scatters around the promise as a
# $\mathrm{Beta}(k, n + 1 - k)$ variable does, little if $n$ is large.
# ```
#
# ```{prf:theorem} Conformal threshold
# :label: thm-conformal
#
# Let $s_{(1)} \le \dots \le s_{(n)}$ be the scores of $n$ correct predictions that the score was not
# fitted to, and $k = \lfloor \alpha (n + 1) \rfloor \ge 1$. A further correct prediction, exchangeable
# with these, has a score below $s_{(k)}$ with a probability of at most $\alpha$
# ({cite}`vovk2005algorithmic`, {cite}`bates2021testing`).
# ```
#
# ```{prf:proof}
# Among all $n + 1$ scores the new one has each rank with the same chance, $1/(n+1)$ (ties broken at
# random). It lies below $s_{(k)}$ only if its rank is at most $k$: a chance of
# $k/(n+1) \le \alpha$.
# ```
#
# `conformal_threshold` returns $s_{(k)}$. The same in three lines:

# %%
known = scorer.score_samples(validation)[validation.correct]
k = int(np.floor((1 - confidence) * (len(known) + 1)))
assert np.sort(known)[k - 1] == conformal_threshold(known, 1 - confidence)

# %% [markdown]
# Is the promise kept? Split the correct test predictions at
# random: one half calibrates, the other counts false alarms; and count the mistakes that are caught.

# %%
scores, rng = scorer.score_samples(test), np.random.default_rng(seed)
alarms, catches = [], []
for _ in range(1000):
    first, second = np.split(rng.permutation(scores[test.correct]), [test.correct.sum() // 2])
    limit = conformal_threshold(first, 1 - confidence)
    alarms.append((second < limit).mean())
    catches.append((scores[~test.correct] < limit).mean())
error = np.std(alarms) / np.sqrt(len(alarms))
print(f"promised: at most {1 - confidence:.1%} false alarms on average; ", end="")
print(f"found: {np.mean(alarms):.2%} (standard error {error:.2%})")
print(f"mistakes caught: {np.mean(catches):.1%}")

# %% [markdown]
# ```{exercise} By hand
# :label: ex-conformal-by-hand
#
# Ten correct predictions have the scores 41, 23, 50, 37, 19, 28, 44, 31, 39 and 26. Which threshold
# promises at most two false alarms in ten? ({prf:ref}`thm-conformal`) And how many scores would it take
# to promise at most one in twenty?
# ```
#
# ```{solution-start} ex-conformal-by-hand
# :class: dropdown
# ```

# %%
held_out = sorted([41, 23, 50, 37, 19, 28, 44, 31, 39, 26])
k = int(0.2 * (len(held_out) + 1))
answer = held_out[k - 1]
assert answer == conformal_threshold(held_out, 0.2)
print(f"k = {k}: the threshold is {answer}; one in twenty takes {int(1 / 0.05) - 1} scores")

# %% [markdown]
# The second-lowest score will do, because a new score has each of the eleven ranks with the same chance
# and lies below it only at the two lowest.
#
# ```{solution-end}
# ```
#
# ## Where the information is
#
# The head, $W F + b$, decides the class. Adding one vector to all rows of $W$ changes no prediction. So
# only the *row space* of the centred $W$ decides, and it has at most one dimension less than there are
# classes. In its *null space* a feature can move without any change of the prediction. We fit a mixture
# in each of them, in as many leading and last principal components, and on features divided by their
# norm. The last row has no model: it scores by the norm $\lVert F \rVert$.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "AUROC for mistakes of a mixture on each subspace of the features, and of the feature norm alone, with intervals"}}
train = source.features("train") if source.has_training_features else validation
rows = np.random.default_rng(seed).permutation(len(train))[:10_000]
weight = source.head.weight.detach().numpy()
features = {"mistakes": (test[test.correct].features, test[~test.correct].features)}
options = {"n_components": n_components, "random_state": seed}
where = information_by_subspace(train[rows].features, weight, features, **options)
figure, ax = plotting.new_figure(width=6.5)
plotting.subspace_dots(ax, where, "mistakes")
areas = where.AUROC.xs("mistakes", level="failure")
norm_alone, everywhere = areas["norm alone"], areas["all dimensions"]
best = areas.drop("norm alone").idxmax()
figures.show(
    figure,
    "mistakes: subspaces",
    f"A mixture detects mistakes best in the subspace “{best}”: its AUROC is {areas[best]:.2f} there and "
    f"{everywhere:.2f} in all dimensions. The norm alone reaches {norm_alone:.2f}, "
    f"{'more' if norm_alone > everywhere else 'less'} than the mixture in all dimensions. In brackets: "
    "the number of dimensions.",
)

# %% [markdown]
# ## Does density add anything to confidence?
#
# We sort the test inputs by confidence and cut them into ten parts. Within a part confidence says
# little. What does density say there?

# %%
names = [f"GMM-{n_components}", "Calibrated"]
likelihood, trust = (scorers[name].score_samples(test) for name in names)
deciles = auroc_within(likelihood, test.correct, trust)
readable(deciles, confidence=confidence).round(2).replace("nan to nan", "–")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
lowest = deciles[:4]
Markdown(
    f"The four least confident parts hold {lowest.mistakes.sum()} of {deciles.mistakes.sum()} mistakes. "
    f"There the AUROC of density lies between {lowest.AUROC.min():.2f} and {lowest.AUROC.max():.2f}."
)

# %% [markdown]
# What does density say in each predicted class alone? The table has the three classes with the lowest
# and the three with the highest AUROC.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
by_class = auroc_by_group(likelihood, test.correct, test.predictions, names=source.classes)
by_class = by_class.dropna().sort_values("AUROC")
readable(pd.concat([by_class.head(3), by_class.tail(3)]), confidence=confidence).round(2)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
Markdown(
    f"Density detects mistakes worst among predictions of *{by_class.index[0]}* "
    f"({by_class.AUROC.iloc[0]:.2f}) and best among those of *{by_class.index[-1]}* "
    f"({by_class.AUROC.iloc[-1]:.2f})."
)

# %% [markdown]
# A logistic regression on both scores learns from the *validation* mistakes how to weigh them, and is
# judged on the test set. Confidence enters by its log-odds, because probabilities crowd at 1. Does
# density make the regression better than confidence alone? If density says nothing more, twice the
# log-likelihood gained is $\chi^2$ with one degree of freedom.

# %%
both = [scorers[name] for name in names]
added = both[0].score_samples(validation)
gained = likelihood_ratio_test(both[1].log_odds(validation), added, validation.correct)
print(f"likelihood ratio {gained.statistic:.1f}, p = {gained.p_value:.2g}")
combined = Combined(both).fit(validation)
print("weights of the standardised scores:", combined.coef_.round(2))
trio = dict(zip(("density", "confidence", "combined"), (*both, combined), strict=True))
together = score_pairs(trio, test[test.correct], test[~test.correct])
step = paired_difference(together["combined"], together["confidence"], confidence=confidence)
print(f"combined against confidence: {step.difference:+.4f}, {step.verdict}")
gain = detection_table(together, confidence=confidence, random_state=seed)
mark_class_agnostic(readable(gain, confidence=confidence), trio).round(3)

# %% [markdown]
# ## The price
#
# We refuse the tenth of the inputs that is least trusted. How many mistakes are among them? And how
# many inputs must we refuse to catch nine mistakes of ten?

# %%
every = {name: np.concatenate(pair) for name, pair in pairs.items()}
which = np.sort(test.correct)[::-1]  # as the pairs have them: first the correct predictions
price = price_of_refusal(every, which).sort_values("caught at 10 %", ascending=False)
plotting.call_by_name(price).round(2)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
dear, cheap = price.loc[f"GMM-{n_components}"], price.loc["Calibrated"]
Markdown(
    f"The tenth that confidence trusts least holds {cheap.iloc[0]:.0%} of the mistakes, the tenth that "
    f"density trusts least {dear.iloc[0]:.0%}. To catch nine mistakes of ten one refuses "
    f"{cheap.iloc[1]:.0%} of all inputs by confidence and {dear.iloc[1]:.0%} by density."
)

# %% [markdown]
# ## Over-confidence
#
# The paper explains why density stays below confidence on a DenseNet: the network's accuracy is lower,
# so it is less over-confident. Over all published networks, does the gap between density and
# confidence grow with the temperature, the usual measure of over-confidence? Of several trainings of one
# network the first counts.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
try:
    firsts = {each.trainings()[0].name for each in published_runs()}
    evidence = {name: topics for name, topics in stored_evidence().items() if name in firsts}
    networks = overconfidence_table(evidence)
except FileNotFoundError:
    networks = pd.DataFrame()
networks.rename(index=lambda name: load_run(name).title).round(3)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
Markdown(overconfidence_sentence(networks) if len(networks) else "No evidence of runs is stored.")

# %% [markdown]
# ## What rejection buys
#
# We refuse the least trusted inputs. The share kept is the {term}`coverage`, and the error rate among
# those kept is the *risk*. The area under the curve (AURC) is small for a good score.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Risk against coverage for every method"}}
right = np.sort(test.correct)[::-1]  # as the pairs have them: first the correct predictions
curves = {name: risk_coverage(np.concatenate(pair), right) for name, pair in pairs.items()}
figure, ax = plotting.new_figure(width=5.5)
plotting.risk_coverage_curves(ax, curves)
half = {n: curves[n].risk[len(right) // 2] for n in (f"GMM-{n_components}", "Calibrated")}
figures.show(
    figure,
    "mistakes: risk and coverage",
    f"Among the half that confidence trusts most, {half['Calibrated']:.1%} of predictions are wrong; "
    f"among the half that density trusts most, {half[f'GMM-{n_components}']:.1%}. Without refusing it "
    f"is {1 - test.accuracy:.1%}.",
)

# %% [markdown]
# ## Classifiers side by side
#
# The paper's Fig. 2 has a row and its Fig. 3 a panel for each kind of classifier: a DenseNet, a Wide
# ResNet, and a Wide ResNet that saw 100 labels of each class. Here are all published ones with these
# images. If there is one that was trained on such labels alone, without the other images, the paper
# has no counterpart of it. The PixelCNN sees the images alone, so that its scores are the same for all;
# what differs is which images a classifier mistakes.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: every classifier"}
sides = {source.info["title"]: pairs}
for title, each in list(kinds.items())[1:]:
    sides[title] = mistake_scores(each, each.scorers(n_components, seed=seed, deep=True))
side_tables = {title: auroc_table(side, confidence=confidence) for title, side in sides.items()}

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "Log-likelihood histograms of correct and incorrect test predictions, one panel a classifier"}}
figure, axes = plotting.new_figure(rows=len(kinds), width=6.5, height=2.8, squeeze=False)
for ax, (title, side) in zip(axes[:, 0], sides.items(), strict=True):
    dimension = kinds[title].info["num_features"]
    groups = dict(zip(("correct", "incorrect"), side[f"GMM-{n_components}"], strict=True))
    groups = {name: scores / dimension for name, scores in groups.items()}
    plotting.likelihood_histograms(ax, groups).set_title(title)
areas = {title: each.AUROC[f"GMM-{n_components}"] for title, each in side_tables.items()}
figures.show(
    figure,
    "mistakes: every classifier",
    "The distance between correct and incorrect predictions depends on the network: the AUROC of "
    f"density is {', '.join(f'{area:.2f} on {title}' for title, area in areas.items())}.",
)

# %% [markdown]
# The same panels as in the paper's Fig. 3: density, the other densities where a run has them, and
# confidence.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the figure", "image": {"alt": "ROC and precision-recall curves of density, VAE, MAF, PixelCNN and confidence for test mistakes, one row a classifier"}}
printed = [f"GMM-{n_components}", "VAE", "MAF", "PixelCNN", "Calibrated"]
figure, axes = plotting.new_figure(2, len(kinds), width=5.2, height=4, squeeze=False)
for (left, right), (title, side) in zip(axes, sides.items(), strict=True):
    shown = {name: side[name] for name in printed if name in side}
    plotting.roc_curves(left, shown).set_title(title)
    plotting.precision_recall_curves(right, shown).set_title(title)
others = {title: each.AUROC.reindex(printed[1:-1]).dropna() for title, each in side_tables.items()}
ahead = [title for title, rest in others.items() if (rest > areas[title]).any()]
figures.show(
    figure,
    "mistakes: other densities of every classifier",
    "Left ROC, right precision against recall. "
    + (f"On {' and '.join(ahead)} another" if ahead else "No other")
    + " density has a higher AUROC than the mixture.",
)

# %% [markdown]
# All methods. A dash stands where a run has no such density, or was published without the training
# features that a method needs.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: the table"}
accuracies = {title: each.info["accuracy"]["test"] for title, each in kinds.items()}
by_kind = pd.DataFrame({title: each.AUROC for title, each in side_tables.items()})
by_kind.columns = [f"{title} ({accuracies[title]:.1%} accurate)" for title in by_kind]
by_kind = mark_class_agnostic(by_kind.loc[list(pairs)], scorers, others=["PixelCNN"])
plotting.with_dashes(plotting.call_by_name(by_kind))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: what the table shows"}
raw = "Max softmax"  # orders inputs nearly as confidence does
winners = {
    title: each.AUROC.drop(raw, errors="ignore").idxmax() for title, each in side_tables.items()
}
Markdown(
    "The best method is "
    + ", ".join(f"{plotting.method_name(name)} on {title}" for title, name in winners.items())
    + "."
)

# %% [markdown]
# ## In short

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: three conclusions"}
Markdown(
    f"- Density detects mistakes {useful}: AUROC {ours.AUROC:.2f}. It {word} confidence, which reaches "
    f"{calibrated.AUROC:.2f}.\n"
    f"- Refusing a tenth of the inputs avoids {cheap.iloc[0]:.0%} of the mistakes by confidence and "
    f"{dear.iloc[0]:.0%} by density.\n"
    f"- Both scores together change the AUROC of confidence by {step.difference:+.3f}; the "
    f"likelihood-ratio test gives p = {gained.p_value:.1g}."
)

# %% [markdown]
# (evidence-mistakes)=
# ## The paper's claims
#
# The {doc}`ledger of claims <../claims>` judges these claims by the numbers of this chapter.

# %% tags=["evidence", "hide-input", "remove-output"] mystnb={"code_prompt_show": "Code: the numbers for the ledger"}
rows = {"mistakes": table[["AUROC", "low", "high"]]}
rows |= {kinds[title].experiment.classifier: each for title, each in side_tables.items()}
named = {topic: each.rename(index={f"GMM-{n_components}": "ours"}) for topic, each in rows.items()}
evidence = {topic: each.to_dict(orient="index") for topic, each in named.items()}
others = [name for name in pairs if name in (*deep, "PixelCNN")]
print(as_evidence(evidence | {name: rows["mistakes"].loc[name].to_dict() for name in others}))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Code: claims and verdicts"}
Markdown(claim_badges(source.name, "evidence-mistakes"))

# %% [markdown]
# ## Exercises
#
# ```{exercise} By hand
# :label: ex-auroc-five
#
# Three correct predictions have the confidences `0.9`, `0.7` and `0.6`, and two mistakes `0.8` and `0.6`.
# Compute the {term}`AUROC`. A tie counts one half.
# ```
#
# ```{solution-start} ex-auroc-five
# :class: dropdown
# ```

# %%
pairs_in_order = [(c > m) + (c == m) / 2 for c in (0.9, 0.7, 0.6) for m in (0.8, 0.6)]
answer = sum(pairs_in_order) / len(pairs_in_order)
print(f"{sum(pairs_in_order)} of {len(pairs_in_order)} pairs: AUROC {answer:.3f}")

# %% [markdown]
# The AUROC is not an accuracy, because no threshold is chosen: it is the share of pairs in the right
# order.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-sum
#
# Does the combination need the mistakes? Add density and confidence, each standardised on validation
# data, and compare the AUROC with what the regression learned.
# ```
#
# ```{solution-start} ex-sum
# :class: dropdown
# ```

# %%
from sklearn.metrics import roc_auc_score

total = 0
for name in (f"GMM-{n_components}", "Calibrated"):
    reference = scorers[name].score_samples(validation)
    total = total + (scorers[name].score_samples(test) - reference.mean()) / reference.std()
learned = roc_auc_score(test.correct, combined.score_samples(test))
answer = roc_auc_score(test.correct, total)
print(f"sum {answer:.3f}, learned {learned:.3f}")

# %% [markdown]
# The sum needs no mistakes, because it weighs both scores alike and standardises them on all validation
# inputs. The regression differs by its weights alone, because its two inputs are the same.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-train-mistakes
#
# Are the mistakes on the *training* images detected as well? Give the AUROC.
# ```
#
# ```{solution-start} ex-train-mistakes
# :class: dropdown
# ```

# %%
train, answer = source.features("train") if source.has_training_features else None, ...
if train is None or train.correct.all():
    print("this run has no training features" if train is None else "no mistake on training images")
else:
    answer = roc_auc_score(train.correct, scorer.score_samples(train))
    print(f"{(~train.correct).sum()} training mistakes, AUROC {answer:.3f}")

# %% [markdown]
# This AUROC says less than the one on test images, because the mixture was fitted to these very
# features, mistakes among them.
#
# ```{solution-end}
# ```
#
# ## Go further
#
# ```bash
# papermill notebooks/04_mistakes.ipynb out.ipynb -p n_components 500
# mistakes sweep notebooks/sweeps/deep_densities.yml   # VAE and MAF, five fits of each
# ```
