"""Where the time of `make book` goes: each chapter with its slowest cell, and the publishing.

    python -m benchmarks.book [--chapters 04_mistakes …]

Executes the chapters on the published parameters into a temporary folder; the committed ones stay
as they are.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import as_table, machine, new_parser, start, timed
from benchmarks.results import write_section
from book.building.executing import isolate_kernels
from book.building.parameters import choose_parameters, declared_parameters
from book.building.places import PUBLISHED
from book.building.publishing import publish
from book.building.sources import write_notebooks
from mistakes_lib.book.notebooks import load_parameters, run_notebook


@dataclass(frozen=True)
class Profile:
    """A chapter's seconds: in all, in its cells, in the slowest one, and how that one begins."""

    chapter: str
    seconds: float
    in_cells: float
    slowest: float
    source: str


def profile(notebook, parameters, folder):
    """Execute one chapter as the book's build does; returns its :class:`Profile`."""
    isolate_kernels()
    seconds, executed = timed(
        lambda: run_notebook(notebook, folder / notebook.name, parameters, folder=folder)
    )
    cells = [
        (cell.metadata.papermill.duration or 0, cell.source)
        for cell in executed.cells
        if cell.cell_type == "code"
    ]
    slowest, source = max(cells)
    return Profile(notebook.stem, seconds, sum(time for time, _ in cells), slowest, source)


def profiles(only, folder):
    """The profiles of the chapters, in order, on the published parameters."""
    declared = {notebook: declared_parameters(notebook) for notebook in write_notebooks()}
    chosen = choose_parameters(load_parameters(PUBLISHED), declared)
    return [
        profile(notebook, parameters, folder)
        for notebook, parameters in chosen.items()
        if not only or notebook.stem in only
    ]


def first_line(source):
    """The first line of a cell that does something, as code."""
    lines = (line.strip() for line in source.splitlines())
    return f"`{next(s for s in lines if s and not s.startswith(('#', 'import ', 'from ')))}`"


def main(argv=None):
    parser = new_parser(__doc__)
    parser.add_argument("--chapters", nargs="+", default=(), help="only these, and no publishing")
    arguments = start(parser, argv)
    with tempfile.TemporaryDirectory() as folder:
        found = profiles(arguments.chapters, Path(folder))
        rest = []
        if not arguments.chapters:
            rest = [["publishing", timed(lambda: publish(output=Path(folder)))[0], None, None, ""]]
    rows = [
        [p.chapter, p.seconds, p.in_cells, p.slowest, first_line(p.source)]
        for p in sorted(found, key=lambda p: p.seconds, reverse=True)
    ]
    rows = sorted(rows + rest, key=lambda row: row[1], reverse=True)
    whole = sum(row[1] for row in rows)
    table = [[name, second, f"{second / whole:.0%}", *more] for name, second, *more in rows]
    head = ["part", "seconds", "share", "in its cells", "slowest cell, s", "which begins"]
    text = f"""{machine("jupyter-book", "papermill")}. One run on the published parameters,
{whole:.0f} s in all. What a chapter takes beside its cells is the start of its kernel and
papermill's own work.

{as_table(head, table)}"""
    write_section("book", "`make book`: where its time goes", text)


if __name__ == "__main__":
    main()
