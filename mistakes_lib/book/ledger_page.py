"""The ledger of one run as a page of MyST Markdown."""

from mistakes_lib.book.claims import (
    NOT,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    UNTESTABLE,
    count_verdicts,
)

__all__ = ["BADGES", "LETTERS", "as_markdown", "rule_lines"]

BADGES = {  # of the page, in sphinx-design's roles
    REPRODUCED: f"{{bdg-success}}`{REPRODUCED}`",
    PARTLY: f"{{bdg-warning}}`{PARTLY}`",
    NOT: f"{{bdg-danger}}`{NOT}`",
    UNDECIDED: f"{{bdg-info}}`{UNDECIDED}`",
    UNTESTABLE: f"{{bdg-muted}}`{UNTESTABLE}`",
}
LETTERS = {REPRODUCED: "R", PARTLY: "P", NOT: "N", UNDECIDED: "U", UNTESTABLE: "–"}


def as_markdown(judgements):
    """The ledger as a page of MyST Markdown: counts, then one section a claim.

    Args:
        judgements: what :func:`judge` returns.
    """
    lines = [
        f"{count_verdicts(judgements)}.",
        "",
        "| claim | verdict | here | the paper |",
        "|---|---|---|---|",
    ]
    for judgement in judgements:
        claim = judgement.claim
        cells = (
            f"{{ref}}`{claim.says} <{_label(claim)}>` ({claim.section})",
            BADGES[judgement.verdict],
            judgement.ours or "–",
            claim.printed or "–",
        )
        lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |")
    lines += ["", "## The rules", ""]
    for judgement in judgements:
        lines += _section(judgement)
    return "\n".join(lines) + "\n"


def _label(claim):
    return f"claim-{claim.id}"


def _section(judgement):
    claim = judgement.claim
    chapter, _, label = claim.where.partition("#")
    number = int(chapter[:2])
    evidence = f"{{doc}}`chapter {number} <chapters/{chapter}>`"
    if label and judgement.verdict != UNTESTABLE:
        evidence = f"{{ref}}`chapter {number} <{label}>`"
    lines = [f"({_label(claim)})=", f"### {claim.says}", "", f"- {BADGES[judgement.verdict]}"]
    lines += [f"- the paper: {claim.section}{f', {claim.printed}' if claim.printed else ''}"]
    lines += [f"- here: {judgement.ours} ({evidence})"] if judgement.ours else []
    return [*lines, *rule_lines(claim), ""]


def rule_lines(claim):
    """The rule of a claim as a Markdown list: in words, as expressions, and when it was fixed."""
    rules = {
        "the rule": claim.rule,
        "reproduced if": f"`{claim.reproduced}`",
        "partly if": claim.partly and f"`{claim.partly}`",
        "undecided if": claim.undecided and f"`{claim.undecided}`",
        "fixed": claim.fixed,
        "post hoc": claim.post_hoc,
    }
    lines = [f"- {name}: {' '.join(text.split())}" for name, text in rules.items() if text]
    return lines + ([f"- {' '.join(claim.remark.split())}"] if claim.remark else [])
