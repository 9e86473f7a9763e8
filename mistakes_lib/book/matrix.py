"""The ledger as a matrix: each claim of the paper judged on each published run."""

from mistakes_lib.book.claims import UNTESTABLE, VERDICTS, judge
from mistakes_lib.book.ledger_page import BADGES, rule_lines

__all__ = ["CONTRIBUTIONS", "judge_runs", "matrix_page", "overall_sentences"]

CONTRIBUTIONS = {
    "1": "Classifiers make mistakes on inputs with unlikely features",
    "2": "A mixture of Gaussians is enough, more flexible densities fail",
    "3": "A single tool detects mistakes, adversarial and out-of-distribution inputs",
    "": "What the appendices add",
}
NOT_ABOUT = "–"  # in the place of a verdict where a claim is not about such a classifier


def judge_runs(claims, evidence):
    """Judge every claim on every run.

    Args:
        claims: list of :class:`~mistakes_lib.book.claims.Claim`.
        evidence: dict of run → topic → values, as
            :func:`~mistakes_lib.book.evidence.stored_evidence` returns it.

    Returns:
        dict of (claim's id, run) → :class:`~mistakes_lib.book.claims.Judgement`; no entry where the
        claim is about other kinds of classifiers.

    Raises:
        ValueError: there is no run.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "test.p < 0.05", "p = {test.p}", "")
        >>> cells = judge_runs([claim], {"a": {"test": {"p": 0.01}}, "b": {"test": {"p": 0.3}}})
        >>> [cells["x", run].verdict for run in "ab"]
        ['reproduced', 'not reproduced']
    """
    if not evidence:
        raise ValueError("evidence is empty: write that of at least one run")
    cells = {}
    for run, topics in evidence.items():
        family = topics.get("run", {}).get("family")
        about = [c for c in claims if not c.families or family in c.families.split()]
        for judgement in judge(about, topics):
            cells[judgement.claim.id, run] = judgement
    return cells


def overall_sentences(claims, cells):
    """What the ledger says in all: the central claims first, then each contribution.

    Args:
        claims: list of claims.
        cells: what :func:`judge_runs` returns.

    Returns:
        list of sentences, computed from the cells.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "", "", central="yes", contribution="1")
        >>> overall_sentences([claim], judge_runs([claim], {"run": {"a": {"b": 2}}}))[0]
        'Central claims: of 1 verdicts on 1 runs, 1 reproduced.'
    """
    runs = len({run for _, run in cells})
    groups = {"Central claims": [claim for claim in claims if claim.central]}
    for number, title in CONTRIBUTIONS.items():
        name = f"Contribution {number} ({title})" if number else title
        groups[name] = [claim for claim in claims if claim.contribution == number]
    sentences = []
    for name, members in groups.items():
        ids = {claim.id for claim in members}
        found = [j.verdict for (claim, _), j in cells.items() if claim in ids]
        tested = [verdict for verdict in found if verdict != UNTESTABLE]
        counts = [f"{tested.count(v)} {v}" for v in VERDICTS if tested.count(v)]
        if tested:
            on = f"of {len(tested)} verdicts on {runs} runs"
            sentences.append(f"{name}: {on}, {', '.join(counts)}.")
        elif members:
            sentences.append(f"{name}: nothing could be tested.")
    return sentences


def matrix_page(claims, evidence, conditions):
    """The ledger as Markdown: what it says in all, a table for each contribution, the rules.

    Args:
        claims: list of claims.
        evidence: dict of run → topic → values.
        conditions: dict of run → condition → how near it is to the paper's, as
            :func:`~mistakes_lib.book.nearness.conditions_of` returns it.

    Returns:
        str, MyST Markdown.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "b = {a.b}", "", contribution="1")
        >>> page = matrix_page([claim], {"run": {"a": {"b": 2}}}, {"run": {}})
        >>> "{bdg-success}`reproduced`" in page and "b = 2" in page
        True
    """
    cells, runs = judge_runs(claims, evidence), list(evidence)
    lines = [*overall_sentences(claims, cells), ""]
    lines = "\n\n".join(lines).splitlines()
    for number, title in CONTRIBUTIONS.items():
        members = [claim for claim in claims if claim.contribution == number]
        if not members:
            continue
        lines += [f"## {title}", "", f"| claim | {' | '.join(map(_short, runs))} |"]
        lines += ["|---" * (len(runs) + 1) + "|"]
        for claim in members:
            star = "**central** " if claim.central else ""
            row = [f"{star}{{ref}}`{claim.says} <claim-{claim.id}>` ({claim.section})"]
            row += [
                BADGES[cells[claim.id, r].verdict] if (claim.id, r) in cells else NOT_ABOUT
                for r in runs
            ]
            lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |")
        lines.append("")
    lines += ["## The rules, and each run's numbers", ""]
    for claim in claims:
        lines += _section(claim, cells, runs, conditions)
    return "\n".join(lines) + "\n"


def _section(claim, cells, runs, conditions):
    printed = f", {claim.printed}" if claim.printed else ""
    lines = [f"(claim-{claim.id})=", f"### {claim.says}", ""]
    lines += [f"- the paper: {claim.section}{printed}", *rule_lines(claim)]
    chapter, _, label = claim.where.partition("#")
    if chapter:
        target = (
            f"{{ref}}`chapter {int(chapter[:2])} <{label}>`"
            if label
            else f"{{doc}}`chapters/{chapter}`"
        )
        lines.append(f"- told in {target}")
    lines += ["", "| run | verdict | here | conditions |", "|---|---|---|---|"]
    for run in runs:
        if (claim.id, run) not in cells:
            continue
        judgement = cells[claim.id, run]
        wanted = claim.conditions.split() or list(conditions.get(run, {}))
        near = [conditions[run][name] for name in wanted if name in conditions.get(run, {})]
        gaps = [text for text in near if text != "same"]
        near = "; ".join(gaps) or ("same as the paper's" if near else NOT_ABOUT)
        row = (_short(run), BADGES[judgement.verdict], judgement.ours or NOT_ABOUT, near)
        lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |")
    return [*lines, ""]


def _short(run):
    """A run's name without what all have alike: "cifar10/wrn_16_2/seed0" → "cifar10 wrn_16_2"."""
    parts = run.split("/")
    return " ".join(parts[:2] if parts[-1] == "seed0" else parts).replace("_", "-")
