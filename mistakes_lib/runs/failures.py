"""The inputs of a run on which its network fails: what the paper's one tool is to detect."""

__all__ = ["failures_of"]


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
