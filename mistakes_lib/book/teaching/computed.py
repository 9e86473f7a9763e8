"""What the exercises ask of a run, computed by the library.

Each function takes a :class:`~mistakes_lib.runs.Run` and the chapter's parameters, as attributes,
and returns a number, or None where this run has no answer. The solutions on the pages reach the
same numbers by cells of their own: a test compares them.
"""

import numpy as np

__all__ = [
    "accuracy_after_purification",
    "auroc_of_noise_with_a_tenth",
    "auroc_of_successful_attacks",
    "auroc_of_the_length",
    "auroc_of_the_sum",
    "auroc_of_training_mistakes",
    "auroc_of_two_hundred",
    "auroc_with_a_tenth",
    "distance_moved",
    "drawn_above_test",
    "false_alarms_for_half",
    "mistakes_kept",
    "most_frequent_confusion",
    "order_after_temperature",
    "price_of_nine_in_ten",
    "temperature_of_training",
    "z",
]


def _auroc(good, bad):
    from mistakes_lib.evaluation import mann_whitney

    return mann_whitney(good, bad).auroc


def _likelihoods(run, p):
    """Log-likelihoods of the test features, and which predictions are correct."""
    test = run.features("test")
    density = run.density(p.n_components, seed=p.seed)
    return density.score_samples(test.features), test.correct


def most_frequent_confusion(run, p):
    test = run.features("test")
    pairs = np.stack([test.labels, test.predictions])[:, ~test.correct]
    return np.unique(pairs, axis=1, return_counts=True)[1].max()


def mistakes_kept(run, p):
    from mistakes_lib.scores import MaxSoftmax

    test = run.features("test")
    return (MaxSoftmax().fit(test).score_samples(test)[~test.correct] >= 0.9).sum()


def drawn_above_test(run, p):
    scores, _ = _likelihoods(run, p)
    density = run.density(p.n_components, seed=p.seed)
    drawn = density.score_samples(density.sample(len(scores))[0])
    return (np.median(drawn) - np.median(scores)) / run.info["num_features"]


def auroc_of_two_hundred(run, p):
    scores, correct = _likelihoods(run, p)
    return _auroc(scores[correct][:200], scores[~correct][:200])


def z(run, p):
    from mistakes_lib.evaluation import mann_whitney

    scores, correct = _likelihoods(run, p)
    return mann_whitney(scores[correct], scores[~correct]).z


def price_of_nine_in_ten(run, p):
    scores, correct = _likelihoods(run, p)
    return (scores[correct] < np.quantile(scores[~correct], 0.9)).mean()


def auroc_of_the_sum(run, p):
    validation, test = run.features("validation"), run.features("test")
    scorers, total = run.scorers(p.n_components, seed=p.seed), 0
    for name in (f"GMM-{p.n_components}", "Calibrated"):
        usual = scorers[name].score_samples(validation)
        total = total + (scorers[name].score_samples(test) - usual.mean()) / usual.std()
    return _auroc(total[test.correct], total[~test.correct])


def auroc_of_training_mistakes(run, p):
    if not run.has_training_features or (train := run.features("train")).correct.all():
        return None
    scores = run.density(p.n_components, seed=p.seed).score_samples(train.features)
    return _auroc(scores[train.correct], scores[~train.correct])


def _attack_scores(run, n_components, p):
    """Log-likelihoods of clean images and of BIM's, and which of these fool the network."""
    density, attacked = run.density(n_components, seed=p.seed), run.attack("bim", p.eps)
    clean = run.features("test")[run.attacked]
    scores = [density.score_samples(batch.features) for batch in (clean, attacked)]
    return *scores, ~attacked.correct


def auroc_of_successful_attacks(run, p):
    clean, attacked, fooled = _attack_scores(run, p.n_components, p)
    return _auroc(clean, attacked[fooled]) if fooled.any() else None


def auroc_with_a_tenth(run, p):
    clean, attacked, _ = _attack_scores(run, max(1, p.n_components // 10), p)
    return _auroc(clean, attacked)


def auroc_of_the_length(run, p):
    lengths = {
        name: np.linalg.norm(batch.features, axis=1)
        for name, batch in (
            ("usual", run.features("validation")),
            ("test", run.features("test")),
            ("noise", run.ood("gaussian_noise")),
        )
    }
    usual = lengths["usual"].mean()
    return _auroc(-np.abs(lengths["test"] - usual), -np.abs(lengths["noise"] - usual))


def auroc_of_noise_with_a_tenth(run, p):
    density = run.density(max(1, p.n_components // 10), seed=p.seed)
    test, noise = run.features("test"), run.ood("gaussian_noise")
    return _auroc(density.score_samples(test.features), density.score_samples(noise.features))


def false_alarms_for_half(run, p):
    density, test = run.density(p.n_components, seed=p.seed), run.features("test")
    attacks = [
        run.attack(name, level / 255) for name in run.experiment.attacks for level in run.eps_levels
    ]
    failures = [batch[~batch.correct] for batch in (test, *attacks)]
    failures += [run.ood(name) for name in run.ood_sets]
    scores = [density.score_samples(batch.features) for batch in failures if len(batch)]
    hardest = max(np.median(each) for each in scores)
    return (density.score_samples(test[test.correct].features) < hardest).mean()


def distance_moved(run, p):
    from mistakes_lib.purification import purify

    few = run.features("validation").features[:200].astype(np.float64)
    mixture = run.density(p.n_components, seed=p.seed)
    moved = purify(few, mixture, nu=10.0, steps=p.monotone_steps)
    return np.linalg.norm(moved - few, axis=1).mean()


def accuracy_after_purification(run, p):
    from mistakes_lib.purification import purification_effect, purify

    attacked, mixture = run.attack("fgsm", p.eps), run.density(p.n_components, seed=p.seed)
    mended = purify(attacked.features, mixture, nu=1.0, steps=p.monotone_steps)
    head = run.head
    return purification_effect(attacked.features, mended, attacked.labels, head).after


def order_after_temperature(run, p):
    from scipy.stats import kendalltau

    from mistakes_lib.scores import MaxSoftmax, TemperatureScaling

    test, scaling = run.features("test"), TemperatureScaling().fit(run.features("validation"))
    before = MaxSoftmax().fit(test).score_samples(test)
    return kendalltau(before, scaling.score_samples(test)).statistic


def temperature_of_training(run, p):
    from mistakes_lib.scores import TemperatureScaling

    if not run.has_training_features:
        return None
    return TemperatureScaling().fit(run.features("train")).temperature_
