"""A chapter's claims are those of the ledger that are told there, with the verdicts of one run."""

import pytest

from mistakes_lib.book.chapter_claims import claim_badges
from mistakes_lib.book.claims import Claim, load_claims
from mistakes_lib.book.evidence import stored_evidence
from mistakes_lib.book.matrix import judge_runs
from mistakes_lib.support.locations import BOOK

CLAIMS = [
    Claim("one", "§1", "A < B.", "t.p < 1", "{t.p} on bim_2", "04_x#evidence-x"),
    Claim("two", "§2", "It is.", "t.p > 5", "{t.p}", "04_x#evidence-x"),
    Claim("other", "§3", "It may.", "t.p < 1", "{t.p}", "05_y"),
]
EVIDENCE = {"run": {"t": {"p": 0.5}}}


def test_claims_of_a_chapter_come_with_badges_and_links():
    lines = claim_badges("run", "evidence-x", claims=CLAIMS, evidence=EVIDENCE).splitlines()
    assert len(lines) == 2
    assert "sd-bg-success" in lines[0] and ">reproduced</span>" in lines[0]
    assert '<a href="../claims.html#claim-one">A &lt; B.</a>' in lines[0]
    assert lines[0].endswith("Here: 0.5 on BIM, ε = 2/255.")
    assert "sd-bg-danger" in lines[1] and ">not reproduced</span>" in lines[1]


def test_a_claim_may_be_named():
    page = claim_badges("run", "other", claims=CLAIMS, evidence=EVIDENCE)
    assert "It may." in page and "It is." not in page


def test_a_run_without_evidence_says_so():
    page = claim_badges("another", "other", claims=CLAIMS, evidence=EVIDENCE)
    assert "no evidence of this run" in page


def test_an_unknown_label_is_named():
    with pytest.raises(ValueError, match="'evidence-z'"):
        claim_badges("run", "evidence-x", "evidence-z", claims=CLAIMS, evidence=EVIDENCE)


def test_the_book_s_claims_have_the_verdicts_of_the_ledger():
    evidence = stored_evidence()
    cells = judge_runs(load_claims(BOOK / "claims.yml"), evidence)
    for run in evidence:
        page = claim_badges(run, "evidence-ood").splitlines()
        verdicts = [
            judgement.verdict
            for (_, each), judgement in cells.items()
            if each == run and judgement.claim.where.endswith("#evidence-ood")
        ]
        assert [line.partition("</span>")[0].rpartition(">")[2] for line in page] == verdicts
