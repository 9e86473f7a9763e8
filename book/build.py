"""Execute the chapters with papermill and publish them with Jupyter Book.

A chapter passes through four forms:

    notebooks/04_mistakes.py          the source, which people edit (jupytext, py:percent)
    notebooks/04_mistakes.ipynb       the same without outputs, for papermill, Colab, Binder
    book/chapters/04_mistakes.ipynb   executed on the published parameters, committed
    _build/html/.../04_mistakes.html  what a reader sees

Executed chapters keep nothing that would differ in the next run: no times, no random ids.
Other parameters (quick, paper) leave the committed chapters alone: that book is executed and
published under _build/.

What the chapters' cells tagged ``evidence`` print is collected in book/results/. The evidence of
each published run is computed from its files and kept in book/evidence/. It is judged by the rules
of book/claims.yml on the page book/claims.md: each claim on each run.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # of which `book` is a folder

from book.building.executing import execute_chapters
from book.building.ledger import write_evidence_of_published, write_front_page, write_ledger
from book.building.places import BUILD, CHAPTERS, PUBLISHED, ROOT, BuildError
from book.building.publishing import publish, publish_pdf, stage
from book.building.reference import write_command_line
from book.building.reports import make_reports
from book.building.sources import chapter_sources, sweep_sources, write_notebooks
from mistakes_lib.runs import make_run
from mistakes_lib.runs.experiment import load_experiments

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__.splitlines()[0])


@app.command()
def notebooks():
    """Write notebooks/*.ipynb from their sources notebooks/*.py."""
    for path in write_notebooks([*chapter_sources(), *sweep_sources()]):
        print(path.relative_to(ROOT))


@app.command()
def book(
    parameters: Annotated[
        str, typer.Option(help="Which of notebooks/parameters: quick, published or paper.")
    ] = PUBLISHED,
    chapter: Annotated[
        list[str] | None, typer.Option(help="Execute only this chapter, e.g. 04_mistakes.")
    ] = None,
):
    """Execute the chapters and publish the book."""
    root = ROOT
    if parameters != PUBLISHED:
        root = stage(parameters)
        os.environ.setdefault("MISTAKES_RUNS", str(root / "runs"))  # for the chapters as well
        print("Making the runs that the chapters read (what is there already is kept)…", flush=True)
        for experiment in load_experiments(parameters):
            make_run(experiment)
    else:
        write_evidence_of_published()  # of which chapters show the verdicts
    execute_chapters(parameters, root / CHAPTERS.relative_to(ROOT), only=chapter or ())
    write_front_page(root)
    write_ledger(root)
    write_command_line(root)
    print("Publishing…", flush=True)
    index = publish(root) / "index.html"
    print(f"\nThe book, on {parameters} parameters, is published. Open it in a browser:\n  {index}")


@app.command()
def pdf():
    """Publish the committed chapters, and print all pages to one PDF."""
    print("Publishing…", flush=True)
    html = publish()
    print("Printing…", flush=True)
    destination = BUILD / "mistakes.pdf"
    publish_pdf(html, destination)
    print(f"\nThe book as a PDF:\n  {destination}")


@app.command()
def reports(
    weights: Annotated[
        Path, typer.Argument(help="Public weights of ResNet-20, resnet20-12fca82f.th.")
    ],
):
    """Make the reports that chapter 10 shows, with the images in MISTAKES_DATA."""
    make_reports(weights)


def main():
    """Run the command line; a BuildError is printed, not traced."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        app()
    except (BuildError, OSError, ValueError) as error:
        sys.exit(f"\nThe book was not built. {error}")


if __name__ == "__main__":
    main()
