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
# Two sweeps go over this notebook: a VAE or a MAF is fitted to the training features as the run's own
# was, but for the seed (`deep_densities.yml`) or for settings of its training (`maf_settings.yml`), and
# its log-likelihood is judged as a detector of test mistakes.

# %% tags=["parameters"]
run = None  # folder or name of a run; None: the one named by the next two
data_set = "cifar100"  # in-distribution images
classifier = "densenet_bc_100_12"  # network that was trained on them
density = "vae"  # or "maf"
seed = 0  # of the fit; the classifier stays the one with seed 0
lr = None  # Adam's rate; None here and below: the run's own
batch_size = None  # rows a training step
epochs = None  # passes over the rows, at most
patience = None  # epochs without a better held-out loss that end the training

# %%
import numpy as np

from mistakes_lib import LogLikelihood, as_evidence, auroc_table, load_run, score_pairs

source = load_run(run or f"{data_set}/{classifier}/seed0")
given = {"lr": lr, "batch_size": batch_size, "epochs": epochs, "patience": patience}
settings = {name: value for name, value in given.items() if value is not None}
fitted = source.deep_density(density, seed=seed, settings=settings)
scorer, test = LogLikelihood(fitted), source.features("test")
pairs = score_pairs({"mistakes": scorer}, test[test.correct], test[~test.correct])

# %% tags=["evidence"]
bits = -np.concatenate(pairs["mistakes"]).mean() / test.features.shape[1] / np.log(2)
auroc = auroc_table(pairs).AUROC.to_dict()
fit = {"bits_per_dimension": bits, "epochs": len(fitted.losses_)}
print(as_evidence({"auroc": auroc, "fit": fit}))
