"""benchmarks/results.md: one section for each benchmark, replaced when that is run again."""

import re
from pathlib import Path

__all__ = ["write_section"]

RESULTS = Path(__file__).parent / "results.md"
HEAD = """# Benchmarks

Ratios against a peer in one run, on the machine that each section names. Run one again with
`python -m benchmarks.NAME`; it replaces its section.
"""


def write_section(name, title, text):
    """Replace the section of the benchmark ``name``, or add it."""
    contents = RESULTS.read_text(encoding="utf-8") if RESULTS.is_file() else HEAD
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{marks[0]}\n## {title}\n\n`python -m benchmarks.{name}`\n\n{text}\n{marks[1]}"
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if pattern.search(contents):
        contents = pattern.sub(lambda _: section, contents)
    else:
        contents = f"{contents.rstrip()}\n\n{section}\n"
    RESULTS.write_text(contents, encoding="utf-8")
    print(f"Written to {RESULTS}.")
