"""benchmarks/results.md: a table of all headlines, then one section for each benchmark.

A section is replaced when its benchmark is run again. It ends in a comment that holds its headlines
as JSON; the table is made anew from all of these comments.
"""

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.measuring import as_table, host, pairwise, spread

__all__ = ["NAMES", "headline", "named", "pages_folder", "write_section"]

# What matters most first: an interrupted run has it. The table's rows stand in the same order.
NAMES = (
    "gmm",
    "detectors",
    "large",
    "purification",
    "features",
    "attacks",
    "report",
    "scaling",
    "starting",
    "book",
    "training",
    "gpu",
)

HEAD = """# Benchmarks

Ratios against a peer in one run. `python -m benchmarks` runs all, `python -m benchmarks --only
NAME` one of them; it replaces its section and its rows of this table.
"""
SUMMARY = """How many times as long the peer takes as we do: the median, with the least and the
greatest of all pairs of times in brackets. More than 1 means that we are faster. *wanted* is what
we aim at. Measured on {machines}."""
SECTION = re.compile(r"<!-- \w+ -->")
ROWS = re.compile(r"<!-- rows of (\w+)\n(.*?)\n-->", re.DOTALL)


def pages_folder():
    """Where the pages go: beside the benchmarks, or to ``$MISTAKES_BENCHMARKS``."""
    return Path(os.environ.get("MISTAKES_BENCHMARKS", Path(__file__).parent))


def named(package):
    """A package with its version, as a table names a peer."""
    return f"{package} {version(package)}"


def headline(what, peer, theirs, ours, *, wanted=None, limit="", reason=""):
    """A row of the table at the top of the page.

    Args:
        what: what one does, with its size.
        peer: whom ours is compared with, and its version; None where there is nobody.
        theirs: the peer's seconds, or a dict of kind → seconds.
        ours: our own, alike; ratios are of pairs.
        wanted: the ratio that we aim at, for each kind.
        limit: the physical limit, as far as it is known, measured.
        reason: why ``wanted`` is not reached; shown only where it is not.
    """
    if not isinstance(theirs, dict):
        theirs, ours = {"": theirs}, {"": ours}
    ratios = {
        kind: [float(f"{ratio:.4g}") for ratio in pairwise(times, ours[kind])]
        for kind, times in theirs.items()
    }
    return {
        "what": what,
        "peer": peer,
        "ratios": ratios,
        "wanted": wanted,
        "limit": limit,
        "reason": reason,
    }


def write_section(name, title, text, headlines=()):
    """Replace the section of the benchmark ``name``, or add it, and make the page's table anew."""
    page = pages_folder() / "results.md"
    contents = page.read_text(encoding="utf-8") if page.is_file() else ""
    kept = json.dumps({"machine": host(), "rows": list(headlines)}, indent=1, ensure_ascii=False)
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{marks[0]}\n## {title}\n\n`python -m benchmarks.{name}`\n\n{text}\n"
    section += f"\n<!-- rows of {name}\n{kept}\n-->\n{marks[1]}" if headlines else marks[1]
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if pattern.search(contents):
        contents = pattern.sub(lambda _: section, contents)
    else:
        contents = f"{contents.rstrip()}\n\n{section}\n"
    sections = contents[SECTION.search(contents).start() :]
    page.write_text(f"{HEAD}\n{_summary(sections)}{sections}", encoding="utf-8")
    print(f"Written to {page}.")


def _summary(sections):
    """The table of all headlines in the text of the sections, or nothing where there are none."""
    found = {name: json.loads(text) for name, text in ROWS.findall(sections)}
    if not found:
        return ""
    order = sorted(found, key=lambda name: NAMES.index(name) if name in NAMES else len(NAMES))
    rows = [_row(row) for name in order for row in found[name]["rows"]]
    machines = "; ".join(dict.fromkeys(found[name]["machine"] for name in order))
    head = ["what", "peer", "peer / ours", "wanted", "limit, or why not faster"]
    return f"{SUMMARY.format(machines=machines)}\n\n{as_table(head, rows)}\n\n"


def _row(row):
    ratios, wanted = row["ratios"], row["wanted"]
    every = [ratio for own in ratios.values() for ratio in own]
    remarks = [row["limit"]] if row["limit"] else []
    missed = {k: median(r) for k, r in ratios.items() if wanted and median(r) < wanted}
    if missed:
        kinds = ", ".join(f"{kind} {ratio:.3g}" for kind, ratio in missed.items() if kind)
        remarks += [f"less on {kinds}"] if kinds else []
        remarks += [row["reason"]] if row["reason"] else []
    goal = None if wanted is None else f"≥ {wanted:.3g}"
    middle = spread(every) if every else None
    return [row["what"], row["peer"], middle, goal, "; ".join(remarks) or None]
