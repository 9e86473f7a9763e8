"""What the executed chapters show elsewhere: the front page, and the claims of the paper."""

import base64
import json
import shutil
from pathlib import Path

import nbformat

from book.building.places import CHAPTERS, ROOT, BuildError
from mistakes_lib.book.claims import count_verdicts, judge, load_claims, printed_evidence
from mistakes_lib.book.evidence import stored_evidence, write_evidence
from mistakes_lib.book.ledger_page import as_markdown
from mistakes_lib.book.matrix import judge_runs, matrix_page, overall_sentences, verdict_strip
from mistakes_lib.book.nearness import KINDS, conditions_of
from mistakes_lib.book.notebooks import load_parameters
from mistakes_lib.runs import load_run, published_runs

__all__ = [
    "FRONT_PAGE",
    "FRONT_PAGE_TEXT",
    "front_page_picture",
    "front_page_text",
    "ledger",
    "write_evidence_of_published",
    "write_front_page",
    "write_ledger",
]

RESULTS = ROOT / "book" / "results"
EVIDENCE = ROOT / "book" / "evidence"
FRONT_PAGE = ROOT / "book" / "_static" / "front-page.png"
FRONT_PAGE_TEXT = ROOT / "book" / "_static" / "so-what.md"
FRONT_PAGE_COUNTS = ROOT / "book" / "_static" / "verdicts.txt"

LEDGER_HEAD = """# What reproduces

*Which of the paper's claims hold here?*

Each row is a claim of the paper, each column a published network. A verdict is computed: a rule,
stated below in words and as an expression, compares the run's evidence with numbers. Beside each
verdict stands how near the run's conditions are to the paper's. `mistakes claims` does it again;
change a rule in `book/claims.yml` and see what changes. If a claim could not be tested, its row
says why. A network that was trained several times has the verdict of more than half of its
trainings, and the number beside it says of how many; without such a majority it is undecided.

Where a rule was changed after results were known, its section says so (*post hoc*). On 2026-11-26
the book's main run moved from CIFAR-10 to CIFAR-100, the paper's own data set. No rule was changed
for that.

"""


def front_page_picture(chapters=CHAPTERS):
    """Return, as PNG, the figure of the one cell tagged ``front-page`` in the executed chapters."""
    return base64.b64decode(_shown(chapters, "front-page", "image/png", "show one figure"))


def front_page_text(chapters=CHAPTERS):
    """Return, as Markdown, what the one cell tagged ``front-page-text`` displays."""
    return _shown(chapters, "front-page-text", "text/markdown", "display one text") + "\n"


def _shown(chapters, tag, kind, what):
    """What the one cell with this tag shows, of this kind; a BuildError if none or many do."""
    found = [
        "".join(output.data[kind])
        for path in sorted(Path(chapters).glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        if tag in cell.metadata.get("tags", [])
        for output in cell.outputs
        if kind in output.get("data", {})
    ]
    if len(found) != 1:
        raise BuildError(f"One cell tagged `{tag}` must {what}, found {len(found)}.")
    return found[0]


def write_front_page(root=ROOT):
    """Put figure and text where the first page and the README of the book in ``root`` look."""
    chapters, path = root / CHAPTERS.relative_to(ROOT), root / FRONT_PAGE.relative_to(ROOT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(front_page_picture(chapters))
    text = root / FRONT_PAGE_TEXT.relative_to(ROOT)
    text.write_text(front_page_text(chapters), encoding="utf-8")


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
    if (root / EVIDENCE.relative_to(ROOT)).is_dir():
        return files | _matrix(root, claims)
    judgements = judge(claims, evidence)
    subject = "Judged on a run without a title"
    if "run" in evidence:
        subject = "Judged on a {title} with {accuracy:.1%} test accuracy".format(**evidence["run"])
    counts = f"{subject}, of {len(judgements)} claims of the paper: {count_verdicts(judgements)}."
    files[root / FRONT_PAGE_COUNTS.relative_to(ROOT)] = counts + "\n"
    page = f"{LEDGER_HEAD}{subject}:\n\n{as_markdown(judgements)}"
    files[root / "book" / "claims.md"] = page
    return files


def _matrix(root, claims):
    """The ledger page and the counts where each published run has evidence of its own."""
    evidence = stored_evidence(root / EVIDENCE.relative_to(ROOT))
    parameters, _ = load_parameters("published")
    main, own = "{data_set}/{classifier}/seed{seed}".format(**parameters), parameters["data_set"]
    # The chapters' network comes first, then the others on its images.
    order = sorted(evidence, key=lambda run: (run != main, not run.startswith(f"{own}/"), run))
    evidence = {run: evidence[run] for run in order}
    conditions = {run: conditions_of(load_run(run)) for run in evidence}
    cells = judge_runs(claims, evidence)
    counts = overall_sentences(claims, cells)[0]
    strip = verdict_strip(claims, cells, main)
    front = f"{counts} On the network of the chapters, a {load_run(main).title}:\n\n{strip}"
    return {
        root / "book" / "claims.md": LEDGER_HEAD + matrix_page(claims, evidence, conditions),
        root / FRONT_PAGE_COUNTS.relative_to(ROOT): front,
    }


def write_evidence_of_published():
    """Compute what book/evidence/ lacks of the published runs, and drop what is of no run.

    The paper claims nothing of a classifier that it does not have, so the ledger leaves it out.
    """
    judged = [run for run in published_runs() if run.family in KINDS]
    kept = [write_evidence(run, EVIDENCE) for run in judged]
    for path in set(EVIDENCE.glob("*.json")) - set(kept):
        path.unlink()


def write_ledger(root=ROOT):
    """Write the files of :func:`ledger`, and no others beside them."""
    if root == ROOT:
        write_evidence_of_published()
    shutil.rmtree(root / RESULTS.relative_to(ROOT), ignore_errors=True)
    for path, text in ledger(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
