"""Is one score better than another? AUROCs of the same inputs, compared in pairs (§4)."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.utils import check_random_state, check_scalar

from mistakes_lib.evaluation.hypothesis import placements
from mistakes_lib.evaluation.wording import interval_column, interval_text
from mistakes_lib.support.checks import as_vector, check_fraction, check_positive

__all__ = [
    "VERDICT_WORDS",
    "PairedDifference",
    "compare_scores",
    "holm",
    "paired_difference",
    "resampled_aurocs",
    "tally_verdicts",
    "verdict_word",
]

BEATS, LOSES, ON_PAR, UNDECIDED = VERDICT_WORDS = ("beats", "loses", "on par", "undecided")
MARGIN = 0.02  # of AUROC: a smaller difference is of no use to anybody
AT_ONCE = 4_000_000  # weights of a bootstrap that are held at one time, 32 MB


@dataclass(frozen=True)
class PairedDifference:
    """Outcome of :func:`paired_difference`.

    Attributes:
        ours: AUROC of the first score.
        theirs: AUROC of the second.
        difference: ours − theirs.
        error: standard error of the difference over test inputs.
        interval: (low, high) of the difference.
        p_value: two-sided, of "there is no difference".
        verdict: one of ``VERDICT_WORDS``; see :func:`verdict_word`.

    Example:
        >>> PairedDifference(0.8, 0.7, 0.1, 0.02, (0.06, 0.14), 6e-7, "beats").verdict
        'beats'
    """

    ours: float
    theirs: float
    difference: float
    error: float
    interval: tuple
    p_value: float
    verdict: str


def paired_difference(
    ours,
    theirs,
    *,
    linked=False,
    margin=MARGIN,
    confidence=0.95,
    resamples=1000,
    random_state=None,
):
    """Compare the AUROCs of two scores of the same inputs.

    Both scores rank the same inputs, so their errors go together, and the difference is known
    better than either. Its variance is DeLong's: with the share of the suspect inputs that trusted
    input i outranks, and of the trusted ones that outrank suspect input j, as a difference of the
    two scores at each, it is Var(over i) / n + Var(over j) / m.

    Where the suspect inputs are attacked versions of the trusted ones, trusted and suspect are not
    independent, and DeLong's variance does not hold. Then (``linked``) images are drawn with
    replacement, each with both of its versions, and the variance is that of the drawn differences.

    Args:
        ours: (trusted (n,), suspect (m,)) scores by one method, higher = more trusted.
        theirs: (trusted (n,), suspect (m,)) scores of the same inputs in the same order by
            another method.
        linked: row i of the suspect is another version of row i of the trusted, n = m.
        margin: differences of AUROC below this are called *on par*.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap samples, where ``linked``.
        random_state: seed of the bootstrap.

    Returns:
        PairedDifference. The interval is the difference ± quantile × standard error.

    Raises:
        ValueError: fewer than two trusted or suspect inputs, another number of inputs in
            ``theirs``, a NaN (its index is named), or an option is out of range.

    Source: DeLong, DeLong & Clarke-Pearson, *Comparing the Areas under Two or More Correlated
    Receiver Operating Characteristic Curves*, 1988. Resampling of whole images: Efron & Tibshirani,
    *An Introduction to the Bootstrap*, 1993, chapter 8.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> trusted, suspect = rng.normal(1, 1, 500), rng.normal(0, 1, 200)
        >>> noisy = trusted + rng.normal(0, 2, 500), suspect + rng.normal(0, 2, 200)
        >>> result = paired_difference((trusted, suspect), noisy)
        >>> result.verdict, round(result.difference, 2)
        ('beats', 0.17)
    """
    (a_trusted, a_suspect), (b_trusted, b_suspect) = (
        _checked(ours, "ours"),
        _checked(theirs, "theirs"),
    )
    for kind, a, b in (("trusted", a_trusted, b_trusted), ("suspect", a_suspect, b_suspect)):
        if len(a) != len(b):
            raise ValueError(
                f"ours has {len(a)} {kind} inputs, but theirs has {len(b)}: "
                "score the same inputs in the same order"
            )
    check_positive(margin, "margin")
    check_fraction(confidence, "confidence")
    check_scalar(resamples, "resamples", Integral, min_val=2)
    first, second = placements(a_trusted, a_suspect), placements(b_trusted, b_suspect)
    auroc, other = float(first[0].mean()), float(second[0].mean())
    if linked:
        _check_linked(a_trusted, a_suspect)
        drawn = [
            resampled_aurocs(a_trusted, a_suspect, counts, counts)
            - resampled_aurocs(b_trusted, b_suspect, counts, counts)
            for counts in drawn_images(len(a_trusted), resamples, random_state)
        ]
        error = np.concatenate(drawn).std(ddof=1)
    else:
        error = np.sqrt(
            sum((a - b).var(ddof=1) / len(a) for a, b in zip(first, second, strict=True))
        )
    difference = auroc - other
    half = norm.isf((1 - confidence) / 2) * error
    low, high = float(difference - half), float(difference + half)
    p_value = float(2 * norm.sf(abs(difference) / error)) if error > 0 else float(difference == 0)
    word = verdict_word(low, high, margin=margin)
    return PairedDifference(auroc, other, difference, float(error), (low, high), p_value, word)


def verdict_word(low, high, *, margin=MARGIN):
    """What an interval of a difference says, in the book's words.

    *beats* if the interval lies above 0, *loses* if it lies below 0; else *on par* if it lies
    within ± ``margin``, and *undecided* if it is too wide for that.

    Args:
        low, high: ends of the interval.
        margin: largest difference that does not matter.

    Returns:
        One of ``VERDICT_WORDS``.

    Raises:
        ValueError: ``high`` lies below ``low``, or ``margin`` is not above 0.

    Example:
        >>> [verdict_word(*i) for i in ((0.01, 0.3), (-0.2, -0.1), (-0.01, 0.02), (-0.01, 0.03))]
        ['beats', 'loses', 'on par', 'undecided']
    """
    check_positive(margin, "margin")
    if not low <= high:
        raise ValueError(f"low must not lie above high, got {low!r} and {high!r}")
    if low > 0:
        return BEATS
    if high < 0:
        return LOSES
    return ON_PAR if -margin <= low and high <= margin else UNDECIDED


def holm(p_values):
    """p-values of a family of tests, corrected so that one false alarm in the family is rare.

    The smallest of k is multiplied by k, the next by k − 1, and so on; none may fall below the one
    before it, nor exceed 1. Rejecting what then lies below α rejects any true hypothesis of the
    family with probability at most α, whatever the dependence between the tests.

    Args:
        p_values: (k,), each in [0, 1].

    Returns:
        float64 (k,), corrected, in the order of ``p_values``.

    Raises:
        ValueError: none, or one outside [0, 1].

    Source: Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2)  # 3 × 0.01; 2 × 0.03; 1 × 0.04, raised to 0.06
        array([0.03, 0.06, 0.06])
    """
    p_values = as_vector(p_values, "p_values")
    if (p_values < 0).any() or (p_values > 1).any():
        raise ValueError("p_values must lie in [0, 1]")
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def compare_scores(
    settings,
    ours,
    *,
    others=None,
    linked=False,
    margin=MARGIN,
    confidence=0.95,
    resamples=1000,
    random_state=0,
):
    """One method against others in several settings: a family of paired comparisons.

    The p-values are corrected by Holm over all rows, and *beats* and *loses* need a corrected
    p-value of at most 1 − ``confidence``; what fails that is *undecided*.

    Args:
        settings: dict of setting → pairs, as
            :func:`~mistakes_lib.evaluation.tables.score_pairs` returns them.
        ours: name of the one method.
        others: names of the others; None: all that every setting has.
        linked: the suspect are versions of the trusted, see :func:`paired_difference`; or the set
            of the settings in which they are.
        margin, confidence, resamples, random_state: see :func:`paired_difference`.

    Returns:
        DataFrame indexed by (setting, method) with the columns AUROC (of the other method),
        difference (ours − the other's), "95 % interval", p (corrected) and verdict (on ours).

    Raises:
        ValueError: there is no setting, or a setting lacks a method.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> sharp = rng.normal(1, 1, 500), rng.normal(0, 1, 200)
        >>> noise = rng.normal(0, 1, 500), rng.normal(0, 1, 200)
        >>> table = compare_scores({"mistakes": {"GMM": sharp, "coin": noise}}, "GMM")
        >>> table.loc[("mistakes", "coin"), "verdict"]
        'beats'
    """
    if not settings:
        raise ValueError("settings is empty: pass at least one setting with its pairs of scores")
    if others is None:
        common = set.intersection(*(set(pairs) for pairs in settings.values()))
        others = [name for name in next(iter(settings.values())) if name in common - {ours}]
    rows = {}
    for setting, pairs in settings.items():
        for name in (ours, *others):
            if name not in pairs:
                raise ValueError(f"setting {setting!r} has no method {name!r}: {', '.join(pairs)}")
        for name in others:
            rows[setting, name] = paired_difference(
                pairs[ours],
                pairs[name],
                linked=linked if isinstance(linked, bool) else setting in linked,
                margin=margin,
                confidence=confidence,
                resamples=resamples,
                random_state=random_state,
            )
    return _family_table(rows, confidence)


def _family_table(rows, confidence):
    """(setting, method) → PairedDifference as a table with corrected p-values and verdicts."""
    corrected = holm([result.p_value for result in rows.values()])
    table = pd.DataFrame(
        {
            "AUROC": [result.theirs for result in rows.values()],
            "difference": [result.difference for result in rows.values()],
            interval_column(confidence): [
                interval_text(*result.interval, digits=3) for result in rows.values()
            ],
            "p": corrected,
            "verdict": [
                UNDECIDED
                if result.verdict in (BEATS, LOSES) and p > 1 - confidence
                else result.verdict
                for result, p in zip(rows.values(), corrected, strict=True)
            ],
        }
    )
    table.index = pd.MultiIndex.from_tuples(rows, names=["setting", "method"])
    return table


def tally_verdicts(table):
    """How often one method beats, loses to, or is on par with each other one.

    Args:
        table: what :func:`compare_scores` returns.

    Returns:
        DataFrame indexed by method with one integer column for each of ``VERDICT_WORDS``.

    Example:
        >>> index = pd.MultiIndex.from_product([["a", "b"], ["coin"]], names=["setting", "method"])
        >>> table = pd.DataFrame({"verdict": ["beats", "on par"]}, index)
        >>> tally_verdicts(table).loc["coin"].tolist()
        [1, 0, 1, 0]
    """
    methods = table.index.get_level_values("method")
    counts = pd.crosstab(methods, table["verdict"])
    counts = counts.reindex(index=methods.unique(), columns=list(VERDICT_WORDS), fill_value=0)
    return counts.rename_axis(index="method", columns=None).astype(int)


def resampled_aurocs(trusted, suspect, trusted_counts, suspect_counts):
    """AUROCs of bootstrap samples, given how often each drew every input.

    Args:
        trusted: scores, (n,).
        suspect: scores, (m,).
        trusted_counts: (b, n), how often each of b samples holds each trusted input.
        suspect_counts: (b, m), the same of the suspect inputs.

    Returns:
        float64 (b,); NaN where a sample holds no trusted or no suspect input.

    Example:
        >>> resampled_aurocs([2.0, 4.0], [3.0, 1.0], [[1, 1], [2, 0]], [[1, 1], [1, 1]])
        array([0.75, 0.5 ])
    """
    trusted, suspect = as_vector(trusted, "trusted"), as_vector(suspect, "suspect")
    trusted_counts, suspect_counts = np.atleast_2d(trusted_counts), np.atleast_2d(suspect_counts)
    order = np.argsort(suspect, kind="stable")
    ranked = suspect[order]
    below, up_to = (np.searchsorted(ranked, trusted, side) for side in ("left", "right"))
    held = np.zeros((len(suspect_counts), len(suspect) + 1))
    np.cumsum(suspect_counts[:, order], axis=1, out=held[:, 1:])  # drawn among the k lowest
    outranked = (held[:, below] + held[:, up_to]) / 2  # (b, n), a tie counts one half
    wins = (trusted_counts * outranked).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (trusted_counts.sum(axis=1) * suspect_counts.sum(axis=1))


def drawn_images(n, resamples, random_state):
    """How often each bootstrap sample of n images holds each: int64 (b, n), block after block."""
    rng = check_random_state(random_state)
    block = max(1, AT_ONCE // n)
    for start in range(0, resamples, block):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(block, resamples - start))


def _checked(pair, name):
    try:
        trusted, suspect = pair
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (trusted scores, suspect scores)") from None
    trusted, suspect = as_vector(trusted, f"{name}[0]"), as_vector(suspect, f"{name}[1]")
    for kind, scores in (("trusted", trusted), ("suspect", suspect)):
        if len(scores) < 2:
            raise ValueError(f"{name} has one {kind} input: a comparison needs at least two")
    return trusted, suspect


def _check_linked(trusted, suspect):
    if len(trusted) != len(suspect):
        raise ValueError(
            f"linked inputs are two versions of each image, but there are {len(trusted)} trusted "
            f"and {len(suspect)} suspect ones: pass the same images, clean and attacked"
        )
