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
# # One fit of a deep density, judged
#
# `deep_densities.yml` sweeps over this notebook: a VAE or a MAF is fitted to the training features as
# the run's own was, but for the seed, and its log-likelihood is judged as a detector of test mistakes.

# %% tags=["parameters"]
run = None  # folder or name of a run; None: the one named by the next two
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
density = "vae"  # or "maf"
seed = 0  # of the fit; the classifier stays the one with seed 0

# %%
import numpy as np

from mistakes_lib import LogLikelihood, as_evidence, auroc_table, load_run, score_pairs

source = load_run(run or f"{data_set}/{classifier}/seed0")
scorer, test = LogLikelihood(source.deep_density(density, seed=seed)), source.features("test")
pairs = score_pairs({"mistakes": scorer}, test[test.correct], test[~test.correct])

# %% tags=["evidence"]
bits = -np.concatenate(pairs["mistakes"]).mean() / test.features.shape[1] / np.log(2)
auroc = auroc_table(pairs).AUROC.to_dict()
print(as_evidence({"auroc": auroc, "fit": {"bits_per_dimension": bits}}))
