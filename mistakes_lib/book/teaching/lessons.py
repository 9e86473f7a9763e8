"""What a lesson takes along: notebooks for students, solutions, slides, a handout, and runs."""

import zipfile
from pathlib import Path

import nbformat

from mistakes_lib.book.teaching.exercises import find_exercise, find_exercises
from mistakes_lib.book.teaching.sets import solution_notebook, student_notebook
from mistakes_lib.book.teaching.sheet import sheet_html
from mistakes_lib.book.teaching.slides import handout_html, read_chapter, slides_html
from mistakes_lib.support.locations import BOOK, CHAPTERS, PUBLISHED_RUNS, runs_root

__all__ = ["write_lessons"]

TITLE = "Can a network tell when it is wrong?"
ON_PAPER = ("ex-staircase", "ex-auroc-five", "ex-em-step", "ex-conformal-by-hand")
PAGES = ("handout.html", "slides.html", "sheet.html")
FIGURE = "front-page"  # the tag of the chapter's figure that stands on the handout
STAMP = (1980, 1, 1, 0, 0, 0)  # of files in a zip, so that equal lessons are equal files

# A notebook finds the runs in the folder beside its own, unless the reader names another.
FIND_RUNS = """\
# The runs that came with this notebook.
import os

os.environ.setdefault("MISTAKES_RUNS", "../runs")"""

README = """# {title}

Notebooks on {parameters} parameters, one a chapter of the book *Mistakes*.

    pip install "mistakes[book]" jupyterlab
    jupyter lab

Open one in `students/` and run its cells from the top. A cell after each exercise says
whether your answer is right:

    check("3.1", answer)

In a terminal, `mistakes check 3.1 8` does the same.
"""


def write_lessons(output, *, parameters="quick", runs=None, pack_runs=True, progress=False):
    """Write all that a lesson takes along.

    Args:
        output: folder; what an earlier call wrote there is replaced.
        parameters: name or path of a parameters file, which the notebooks are to have.
        runs: folder of the runs that these name; those that are missing are made there.
        pack_runs: copy the runs to ``output``, so that the notebooks work anywhere.
        progress: show the making of a run.

    Returns:
        dict: path → what it is, in words. Slides and handout are of the published chapters, and are
        left out where there is no clone of the repository.

    Raises:
        FileNotFoundError: no such parameters file.
        ValueError: ``output`` holds a run that differs from the one to be copied, or is the
            repository or the folder of its chapters.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = write_lessons(folder, pack_runs=False)
        ...     sorted(path.name for path in written)
        ['handout.html', 'slides.html', 'solutions', 'students', 'students.zip', 'teacher.zip']
    """
    output = Path(output)
    if output.resolve() in (BOOK.parent.resolve(), BOOK.resolve(), CHAPTERS.resolve()):
        raise ValueError(f"{output} is the book's own folder: choose another with --output")
    written = {}
    chapters = [path.stem for path in sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb"))]
    kinds = {"students": student_notebook, "solutions": solution_notebook}
    for folder, make in kinds.items():
        notebooks = {name: make(name, parameters=parameters) for name in chapters}
        _write_notebooks(output / folder, notebooks, find_runs=pack_runs)
        written[output / folder] = f"{len(notebooks)} notebooks"
    if pack_runs:
        main, *_ = _pack_runs(output / "runs", parameters, runs, progress)
        written[output / "runs"] = "what they read"
        if len(main.pictured):
            (output / "sheet.html").write_text(sheet_html(main), encoding="utf-8")
            written[output / "sheet.html"] = "images to vote on, answers in a fold"
    (output / "README.md").write_text(README.format(title=TITLE, parameters=parameters))
    written |= _write_slides(output)
    for archive, what in (
        ("students.zip", ["README.md", "students", "runs", "handout.html"]),
        ("teacher.zip", ["README.md", *kinds, "runs", *PAGES]),
    ):
        _zip(output / archive, what)
        written[output / archive] = ", ".join(name for name in what if (output / name).exists())
    return written


def _write_notebooks(folder, notebooks, *, find_runs):
    folder.mkdir(parents=True, exist_ok=True)
    for name, notebook in notebooks.items():
        if find_runs:
            cell = nbformat.v4.new_code_cell(FIND_RUNS, id="find-runs")
            notebook.cells.insert(1, cell)  # after the title
        nbformat.write(notebook, folder / f"{name}.ipynb")


def _pack_runs(folder, parameters, root, progress):
    """Copy each run of the parameters file, made first if it is missing; return the copies."""
    from mistakes_lib.runs import Run, load_experiments, make_run, publish_run

    copies = []
    for experiment in load_experiments(parameters):
        places = [place / experiment.name for place in (runs_root(root), PUBLISHED_RUNS)]
        run = next((Run(place) for place in places if (place / "run.json").is_file()), None)
        run = run or make_run(experiment, root=root, progress=progress)
        copies.append(Run(folder / experiment.name))
        if not (copies[-1].path / "run.json").is_file():
            publish_run(run, folder)
        elif copies[-1].info["files"] != run.info["files"]:
            raise ValueError(f"{copies[-1].path} is another run: remove it first")
    return copies


def _write_slides(output):
    """Slides and handout, where the executed chapters are at hand."""
    executed = sorted((BOOK / "chapters").glob("[0-9][0-9]_*.ipynb"))
    if not executed:
        return {}
    chapters = [read_chapter(path) for path in executed]
    labels = {exercise.label for exercise in find_exercises()}
    exercises = [find_exercise(label) for label in ON_PAPER if label in labels]
    picture = next(p for chapter in chapters for p in chapter.pictures if FIGURE in p.tags)
    pages = {
        "slides.html": (slides_html(chapters, title=TITLE), "slides; a browser shows them"),
        "handout.html": (handout_html(picture, exercises, title=TITLE), "a page to print"),
    }
    for name, (text, _) in pages.items():
        (output / name).write_text(text, encoding="utf-8")
    return {output / name: what for name, (_, what) in pages.items()}


def _zip(path, names):
    """Write files and folders beside an archive into it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            top = path.parent / name
            files = sorted(top.rglob("*")) if top.is_dir() else [top]
            for file in filter(Path.is_file, files):
                entry = zipfile.ZipInfo(str(file.relative_to(path.parent)), STAMP)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
