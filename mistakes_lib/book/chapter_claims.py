"""The claims of the paper that a chapter judges, with their verdicts on one run."""

import html

from mistakes_lib.book.claims import (
    NOT,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    UNTESTABLE,
    load_claims,
)
from mistakes_lib.book.evidence import stored_evidence
from mistakes_lib.book.matrix import judge_runs
from mistakes_lib.support.locations import BOOK

__all__ = ["claim_badges"]

COLOURS = {
    REPRODUCED: "success",
    PARTLY: "warning",
    NOT: "danger",
    UNDECIDED: "info",
    UNTESTABLE: "muted",
}


def claim_badges(run, *wanted, claims=None, evidence=None):
    """The paper's claims that a chapter judges, each with its verdict on a run, as Markdown.

    Args:
        run: name of the run, such as "cifar100/densenet_bc_100_12/seed0".
        *wanted: labels of the chapter's evidence, such as "evidence-mistakes", or ids of claims.
        claims: list of :class:`~mistakes_lib.book.claims.Claim`; None: those of the ledger.
        evidence: dict of run → topic → values; None: what the book stores.

    Returns:
        str: a list, one claim an item; or a sentence if no evidence of the run is stored.

    Raises:
        ValueError: no claim has one of the labels or ids.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "b = {a.b}", "01_chapter#evidence-a")
        >>> page = claim_badges("r", "evidence-a", claims=[claim], evidence={"r": {"a": {"b": 2}}})
        >>> "reproduced</span>" in page and "b = 2" in page
        True
    """
    claims = load_claims(BOOK / "claims.yml") if claims is None else claims
    chosen = [c for c in claims if {c.id, c.where.partition("#")[2]} & set(wanted)]
    found = {c.id for c in chosen} | {c.where.partition("#")[2] for c in chosen}
    if unknown := [name for name in wanted if name not in found]:
        raise ValueError(f"no claim of the ledger is called {unknown[0]!r} or told there")
    if evidence is None:
        try:
            evidence = stored_evidence()
        except FileNotFoundError:
            evidence = {}
    if run not in evidence:
        return (
            "The ledger has no evidence of this run, so it says nothing of the claims here. "
            "`make book` computes the evidence of published runs."
        )
    cells = judge_runs(chosen, {run: evidence[run]})
    return "\n".join(_item(judgement) for judgement in cells.values())


def _item(judgement):
    claim, colour = judgement.claim, COLOURS[judgement.verdict]
    badge = f'<span class="sd-badge sd-bg-{colour} sd-bg-text-{colour}">{judgement.verdict}</span>'
    says = html.escape(" ".join(claim.says.split()))
    link = f'<a href="../claims.html#claim-{claim.id}">{says}</a>'
    ours = f" Here: {html.escape(judgement.ours)}." if judgement.ours else ""
    return f"- {badge} {link} (the paper's {claim.section}){ours}"
