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
# # One fit of the mixture, judged
#
# `components.yml` sweeps over this notebook: one mixture is fitted to the training features, and
# its log-likelihood is judged as a detector of test mistakes, out-of-distribution inputs and attacks.

# %% tags=["parameters"]
run = None  # folder or name of a run; None: the one named by the next two
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
n_components = 100  # Gaussians in the mixture of the features
seed = 0  # of the fit; the classifier stays the one with seed 0

# %%
import numpy as np

from mistakes_lib import LogLikelihood, as_evidence, auroc_table, load_run, score_many, score_pairs

source = load_run(run or f"{data_set}/{classifier}/seed0")
density = source.density(n_components, seed=seed)
scorer, test = LogLikelihood(density), source.features("test")

# %%
pairs = score_pairs({"mistakes": scorer}, test[test.correct], test[~test.correct])
strange = {name: source.ood(name) for name in source.ood_sets}
for name, scores in score_many({"ours": scorer}, test, strange).items():
    pairs[name] = scores["ours"]
auroc = auroc_table(pairs).AUROC.to_dict()

# %%
clean = test[source.attacked]
attacked = {
    f"{name}, {level}/255": source.attack(name, level / 255)
    for name in source.experiment.attacks
    for level in source.eps_levels
}
scores = score_many({"ours": scorer}, clean, attacked)
attack = auroc_table({name: own["ours"] for name, own in scores.items()}).AUROC.to_dict()

# %% tags=["evidence"]
nats = np.concatenate(pairs["mistakes"]).mean() / test.features.shape[1]
print(as_evidence({"auroc": auroc, "attack": attack, "fit": {"nats_per_dimension": nats}}))
