"""benchmarks/results.md: one section for each benchmark, replaced when that is run again."""

import os
import re
from pathlib import Path

__all__ = ["pages_folder", "write_section"]

HEAD = """# Benchmarks

Ratios against a peer in one run, on the machine that each section names. `python -m benchmarks`
runs all, `python -m benchmarks --only NAME` one of them; it replaces its section.
"""


def pages_folder():
    """Where the pages go: beside the benchmarks, or to ``$MISTAKES_BENCHMARKS``."""
    return Path(os.environ.get("MISTAKES_BENCHMARKS", Path(__file__).parent))


def write_section(name, title, text):
    """Replace the section of the benchmark ``name``, or add it."""
    page = pages_folder() / "results.md"
    contents = page.read_text(encoding="utf-8") if page.is_file() else HEAD
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{marks[0]}\n## {title}\n\n`python -m benchmarks.{name}`\n\n{text}\n{marks[1]}"
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if pattern.search(contents):
        contents = pattern.sub(lambda _: section, contents)
    else:
        contents = f"{contents.rstrip()}\n\n{section}\n"
    page.write_text(contents, encoding="utf-8")
    print(f"Written to {page}.")
