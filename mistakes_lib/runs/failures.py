"""The inputs of a run on which its network fails: what the paper's one tool is to detect."""

from mistakes_lib.evaluation.tables import score_pairs

__all__ = ["failures_of", "mistake_scores"]


def failures_of(run):
    """Every kind of failure that a run holds, each with the inputs on which the network fails.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.

    Returns:
        dict of name → FeatureSet: "mistakes", the test images with a wrong prediction; each attack
        and radius in 1/255, such as "fgsm_8", with the images that it turned or kept wrong (left
        out where all are right); and the out-of-distribution sets by their names.

    Example:
        >>> from mistakes_lib.runs import load_run
        >>> found = failures_of(load_run("cifar100/wrn_16_2/seed0"))
        >>> list(found)[:2], found["mistakes"].accuracy
        (['mistakes', 'fgsm_1'], 0.0)
    """
    test = run.features("test")
    found = {"mistakes": test[~test.correct]}
    for name in run.experiment.attacks:
        for level in run.eps_levels:
            attacked = run.attack(name, level / 255)
            if not attacked.correct.all():
                found[f"{name}_{level:g}"] = attacked[~attacked.correct]
    return found | {name: run.ood(name) for name in run.ood_sets}


def mistake_scores(run, scorers):
    """Scores of the correct and of the incorrect test predictions of a run by each method.

    Args:
        run: :class:`~mistakes_lib.runs.Run`.
        scorers: dict of name → fitted scorer, such as ``run.scorers(100, deep=True)``.

    Returns:
        dict of name → (correct, incorrect), each float64 (n,): those of the scorers, and
        "PixelCNN", the log-likelihoods of the images themselves, where a PixelCNN scored them.

    Example:
        >>> from mistakes_lib.runs import load_run
        >>> run = load_run("cifar100/wrn_16_2/seed0")
        >>> right, wrong = mistake_scores(run, run.scorers(100))["PixelCNN"]
        >>> len(right) / (len(right) + len(wrong)) == run.info["accuracy"]["test"]
        True
    """
    test = run.features("test")
    pairs = score_pairs(scorers, test[test.correct], test[~test.correct])
    if "test" in run.scored_images:
        pixels = run.image_log_likelihood("test")
        pairs["PixelCNN"] = pixels[test.correct], pixels[~test.correct]
    return pairs
