"""What the executed chapters show elsewhere: the front page, and the claims of the paper."""

import base64
import json
import shutil
from pathlib import Path

import nbformat

from book.building.places import CHAPTERS, ROOT, BuildError
from mistakes_lib.book.claims import (
    as_markdown,
    count_verdicts,
    judge,
    load_claims,
    printed_evidence,
)

__all__ = ["FRONT_PAGE", "front_page_picture", "ledger", "write_front_page", "write_ledger"]

RESULTS = ROOT / "book" / "results"
FRONT_PAGE = ROOT / "book" / "_static" / "front-page.png"
FRONT_PAGE_COUNTS = ROOT / "book" / "_static" / "verdicts.txt"

LEDGER_HEAD = """# What reproduces

*Which of the paper's claims hold here?*

Each row is a claim of the paper. Its verdict is computed: the chapters print their evidence, and a
rule, stated below, compares it with numbers. `mistakes claims` does it again; change a rule in
`book/claims.yml` and see what changes. What could not be tested here says what is missing.

"""


def front_page_picture(chapters=CHAPTERS):
    """Return, as PNG, the figure of the one cell tagged ``front-page`` in the executed chapters."""
    pictures = [
        output.data["image/png"]
        for path in sorted(Path(chapters).glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        if "front-page" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    if len(pictures) != 1:
        raise BuildError(
            f"One cell tagged `front-page` must show one figure, found {len(pictures)}."
        )
    return base64.b64decode(pictures[0])


def write_front_page(root=ROOT):
    """Put that figure where the first page and the README of the book in ``root`` look for it."""
    path = root / FRONT_PAGE.relative_to(ROOT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(front_page_picture(root / CHAPTERS.relative_to(ROOT)))


def ledger(root=ROOT):
    """Collect the evidence of the executed chapters in ``root``, and judge the paper's claims.

    Returns:
        dict: path → text of the files that say so: book/results/NN_name.json for each chapter with
        evidence, the page book/claims.md, and the verdicts' counts for the front page.
    """
    results, claims = root / RESULTS.relative_to(ROOT), load_claims(root / "book" / "claims.yml")
    files, evidence = {}, {}
    for path in sorted((root / CHAPTERS.relative_to(ROOT)).glob("*.ipynb")):
        if found := printed_evidence(nbformat.read(path, as_version=4)):
            files[results / f"{path.stem}.json"] = json.dumps(found, indent=1) + "\n"
            evidence |= found
    judgements = judge(claims, evidence)
    subject = "Judged on a run without a title"
    if "run" in evidence:
        subject = "Judged on a {title} with {accuracy:.1%} test accuracy".format(**evidence["run"])
    counts = f"{subject}, of {len(judgements)} claims of the paper: {count_verdicts(judgements)}."
    files[root / FRONT_PAGE_COUNTS.relative_to(ROOT)] = counts + "\n"
    page = f"{LEDGER_HEAD}{subject}:\n\n{as_markdown(judgements)}"
    files[root / "book" / "claims.md"] = page
    return files


def write_ledger(root=ROOT):
    """Write the files of :func:`ledger`, and no others beside them."""
    shutil.rmtree(root / RESULTS.relative_to(ROOT), ignore_errors=True)
    for path, text in ledger(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
