"""Do mistakes get other scores than correct predictions? The Mann–Whitney U-test (§3.3)."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from mistakes_lib.support.checks import as_vector, check_fraction

__all__ = ["MannWhitneyResult", "auroc_interval", "mann_whitney", "placements"]


@dataclass(frozen=True)
class MannWhitneyResult:
    """Outcome of :func:`mann_whitney`, with n correct and m wrong predictions.

    Attributes:
        u_correct: U_C (eq. 7), the number of (correct, wrong) pairs in which the correct one has
            the higher score; a tie counts one half.
        u_wrong: U_W (eq. 7) = n m − U_C.
        u: min(U_C, U_W), the test statistic.
        z: U_C standardised under H₀; above 0 if correct predictions score higher.
        p_value: two-sided, by the normal approximation; 0.0 where float64 underflows.
        log10_p: log₁₀ of the p-value, right also where ``p_value`` underflows.
        auroc: U_C / (n m), the chance that a random correct prediction outranks a random wrong one.
        auroc_ci: (low, high), its confidence interval; see :func:`auroc_interval`.

    Example:
        >>> result = mann_whitney(np.arange(100, 300), np.arange(200))
        >>> result.auroc, round(result.z, 2), round(result.log10_p, 1)
        (0.875, 12.97, -37.8)
    """

    u_correct: float
    u_wrong: float
    u: float
    z: float
    p_value: float
    log10_p: float
    auroc: float
    auroc_ci: tuple


def mann_whitney(correct, wrong, *, confidence=0.95):
    """Test whether correct and wrong predictions get the same scores (§3.3, equations 6–7).

    Two-sided, with the tie correction of the variance and, as in the paper, no continuity
    correction. All scores equal: z = 0 and p = 1.

    Args:
        correct: scores of correctly classified inputs, (n,), higher = more trusted.
        wrong: scores of misclassified inputs, (m,).
        confidence: of the interval of the AUROC, in (0, 1).

    Returns:
        MannWhitneyResult; ``auroc`` is U_correct / (n m), the chance that a random correct input
        outranks a random wrong one.

    Raises:
        ValueError: an input is empty, not one-dimensional, or has a NaN (its index is named), or
            ``confidence`` does not lie in (0, 1).

    Source: Mann & Whitney, *On a Test of Whether one of Two Random Variables is Stochastically
    Larger than the Other*, 1947.

    Example:
        >>> result = mann_whitney([3, 5, 6], [1, 4])
        >>> result.u_correct, result.u_wrong, round(result.auroc, 3)
        (5.0, 1.0, 0.833)
    """
    correct, wrong = as_vector(correct, "correct"), as_vector(wrong, "wrong")
    n, m = len(correct), len(wrong)
    total = n + m
    ranks = rankdata(np.r_[correct, wrong])  # (n + m,), ties share their mean rank
    u_correct = ranks[:n].sum() - n * (n + 1) / 2
    _, ties = np.unique(ranks, return_counts=True)
    ties = ties.astype(np.float64)
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    z = (u_correct - n * m / 2) / np.sqrt(variance) if variance > 0 else 0.0
    log_p = min(0.0, np.log(2) + norm.logsf(abs(z)))
    return MannWhitneyResult(
        u_correct=float(u_correct),
        u_wrong=float(n * m - u_correct),
        u=float(min(u_correct, n * m - u_correct)),
        z=float(z),
        p_value=float(np.exp(log_p)),
        log10_p=float(log_p / np.log(10)),
        auroc=float(u_correct / (n * m)),
        auroc_ci=auroc_interval(correct, wrong, confidence=confidence),
    )


def placements(correct, wrong):
    """Each input's share of the inputs of the other kind that are ranked as they should be.

    Args:
        correct: scores of correctly classified (or otherwise trusted) inputs, (n,).
        wrong: scores of misclassified (or otherwise suspect) inputs, (m,).

    Returns:
        float64 (n,), the share of the wrong inputs that each correct one outranks, and float64
        (m,), the share of the correct ones that outrank each wrong one; a tie counts one half.
        Both have the AUROC as their mean.

    Example:
        >>> placements([3, 5], [1, 4])
        (array([0.5, 1. ]), array([1. , 0.5]))
    """
    correct, wrong = as_vector(correct, "correct"), as_vector(wrong, "wrong")
    n, m = len(correct), len(wrong)
    ranks = rankdata(np.r_[correct, wrong])
    return (ranks[:n] - rankdata(correct)) / m, 1 - (ranks[n:] - rankdata(wrong)) / n


def auroc_interval(correct, wrong, *, confidence=0.95, linked=False):
    """Confidence interval of the AUROC, U_C / (n m).

    The standard error is DeLong's, which assumes no distribution. The interval is symmetric on the
    logit scale, so it stays in [0, 1] and keeps its coverage near the ends (Qin & Hotilovac 2008).
    Where that standard error is 0 although the sample is finite (perfect separation, a single input
    on either side) it is Newcombe's Wilson-type interval instead.

    Args:
        correct: scores of correctly classified (or otherwise trusted) inputs, (n,).
        wrong: scores of misclassified (or otherwise suspect) inputs, (m,).
        confidence: in (0, 1).
        linked: row i of ``wrong`` is another version of the image in row i of ``correct``, such as
            its adversarial one. The two are not independent, and the error is that of one image
            with both of its versions (Obuchowski 1997).

    Returns:
        (low, high).

    Raises:
        ValueError: as for :func:`mann_whitney`; or ``linked`` groups of different sizes.

    Source: DeLong, DeLong & Clarke-Pearson, *Comparing the Areas under Two or More Correlated
    Receiver Operating Characteristic Curves*, 1988. Newcombe, *Confidence intervals for an effect
    size measure based on the Mann–Whitney statistic, part 2*, 2006, method 5. Obuchowski,
    *Nonparametric Analysis of Clustered ROC Curve Data*, 1997.

    Example:
        >>> low, high = auroc_interval([3, 5, 6, 7], [1, 4, 2])
        >>> round(low, 2), round(high, 2)
        (0.35, 1.0)
    """
    correct, wrong = as_vector(correct, "correct"), as_vector(wrong, "wrong")
    check_fraction(confidence, "confidence")
    n, m = len(correct), len(wrong)
    if linked and n != m:
        raise ValueError(
            f"linked inputs are two versions of each image, but there are {n} and {m}: "
            "pass the same images, clean and attacked"
        )
    quantile = norm.isf((1 - confidence) / 2)
    of_correct, of_wrong = placements(correct, wrong)  # (n,), (m,)
    auroc = of_correct.mean()
    if min(n, m) < 2 or not 0 < auroc < 1:
        return _newcombe(auroc, n, m, quantile)
    if linked:  # one image moves both of its terms
        error = np.sqrt((of_correct + of_wrong).var(ddof=1) / n)
    else:
        error = np.sqrt(of_correct.var(ddof=1) / n + of_wrong.var(ddof=1) / m)
    if error == 0:
        return _newcombe(auroc, n, m, quantile)
    half = quantile * error / (auroc * (1 - auroc))  # delta method: d logit(a) / da
    return float(expit(logit(auroc) - half)), float(expit(logit(auroc) + half))


def _newcombe(auroc, n, m, quantile):
    """Values θ for which the observed AUROC lies within ``quantile`` standard errors of θ."""
    extra = (n + m) / 2 - 1

    def distance(theta):
        variance = theta * (1 - theta) / (n * m)
        variance *= 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(auroc - theta) - quantile * np.sqrt(variance)

    tiny = 1e-12  # at 0 and 1 themselves the variance vanishes, and with it the distance
    low = brentq(distance, tiny, auroc - tiny) if auroc > 0 else 0.0
    high = brentq(distance, auroc + tiny, 1 - tiny) if auroc < 1 else 1.0
    return float(low), float(high)
