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

import base64
import difflib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import click
import jupytext
import nbformat
import papermill
import typer
import yaml
from typer.cli import get_docs_for_click

from mistakes_lib.book.claims import count_verdicts, judge, load_claims, printed_evidence
from mistakes_lib.book.evidence import stored_evidence, write_evidence
from mistakes_lib.book.ledger_page import as_markdown
from mistakes_lib.book.matrix import judge_runs, matrix_page, overall_sentences
from mistakes_lib.book.nearness import conditions_of
from mistakes_lib.book.notebooks import run_notebook
from mistakes_lib.cli.app import app as mistakes
from mistakes_lib.runs import load_run, make_run, published_runs
from mistakes_lib.runs.experiment import load_experiments

sys.path.insert(0, str(Path(__file__).parent))  # as where this file is run, so where imported
from printing import BROWSERS, find_browser, one_document, print_pdf

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PARAMETERS = NOTEBOOKS / "parameters"
CHAPTERS = ROOT / "book" / "chapters"
RESULTS = ROOT / "book" / "results"
EVIDENCE = ROOT / "book" / "evidence"
LEDGER_HEAD = """# What reproduces

*Which of the paper's claims hold here?*

Each row is a claim of the paper, each column a published network. A verdict is computed: a rule,
stated below in words and as an expression, compares the run's evidence with numbers. Beside each
verdict stands how near the run's conditions are to the paper's. `mistakes claims` does it again;
change a rule in `book/claims.yml` and see what changes. What could not be tested here says what is
missing.

"""
BUILD = ROOT / "_build"
PDF = BUILD / "mistakes.pdf"
COMMAND_LINE = ROOT / "book" / "reference" / "command_line.md"
COMMAND_LINE_HEAD = """# Command line

What the help of each command says; `mistakes --help` lists them, and `mistakes
--install-completion` lets the shell complete their names and options.

"""
FRONT_PAGE = ROOT / "book" / "_static" / "front-page.png"
FRONT_PAGE_COUNTS = ROOT / "book" / "_static" / "verdicts.txt"
PUBLISHED = "published"

# The first code of a notebook whose repository has an address; pages do not show it.
COLAB_CELL = '''\
# On Colab, which fetches this notebook alone: the rest of the book, and what it needs.
import importlib.util

if importlib.util.find_spec("mistakes_lib") is None:
    !git clone --quiet --depth 1 --branch {branch} {url} book
    %cd -q book
    %pip install --quiet --editable ".[report,cluster]"'''

REPEAT = "repeat:"  # how a tag begins that names a chapter some of whose cells are to follow
LENT = "appendix"  # the tag of those cells
ONLY_ONCE = {LENT, "front-page", "evidence"}  # tags that a repeated cell does not keep

NOTEBOOK_METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__.splitlines()[0])


class BuildError(Exception):
    """The book cannot be built; the message says why and what to do."""


# --- Sources and their notebooks ----------------------------------------------------------------


def chapter_sources(folder=NOTEBOOKS):
    """Return the chapters' sources in reading order."""
    sources = sorted(Path(folder).glob("[0-9][0-9]_*.py"))
    if not sources:
        raise BuildError(f"No chapter NN_name.py in {folder}.")
    return sources


def sweep_sources():
    """Return the sources of the notebooks that sweeps execute, which are no chapters."""
    return sorted((NOTEBOOKS / "sweeps").glob("*.py"))


def load_repository():
    """Return what _config.yml says of the repository: ``url``, perhaps empty, and ``branch``."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]


def read_source(source, repository=None):
    """Read a py:percent source as a notebook whose bytes depend on the arguments alone.

    Args:
        source: path of the source.
        repository: its ``url`` and ``branch``; with a ``url`` the notebook begins with what Colab
            needs.

    Raises:
        BuildError: the header is not closed, and would be the first thing on the page; or the
            source repeats a chapter that is not there, or has no cell to repeat.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    if notebook.cells and notebook.cells[0].source.startswith("# ---"):
        raise BuildError(f"{source.name}: the header lacks its closing line `# ---`.")
    notebook.cells = with_repeated_cells(notebook.cells, source)
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    if repository and repository["url"]:
        cell = nbformat.v4.new_code_cell(COLAB_CELL.format_map(repository))
        cell.metadata["tags"] = ["remove-cell"]
        notebook.cells.insert(1, cell)  # after the title
    return with_stable_ids(notebook)


def with_repeated_cells(cells, source):
    """Let each cell tagged ``repeat:NAME`` be followed by the cells that chapter NAME lends."""
    repeated = []
    for cell in cells:
        repeated.append(cell)
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(REPEAT):
                repeated += lent_cells(source.with_name(f"{tag.removeprefix(REPEAT)}.py"), source)
    return repeated


def lent_cells(lender, borrower):
    """Return the cells of a source tagged ``appendix``, their headings one level deeper."""
    if not lender.is_file():
        raise BuildError(f"{borrower.name} repeats {lender.stem}, but there is no {lender.name}.")
    lent = []
    for cell in jupytext.read(lender, fmt="py:percent").cells:
        tags = cell.metadata.get("tags", [])
        if LENT in tags:
            cell.metadata["tags"] = [tag for tag in tags if tag not in ONLY_ONCE]
            if not cell.metadata["tags"]:  # papermill would drop them, and the files differ
                del cell.metadata["tags"]
            if cell.cell_type == "markdown":
                cell.source = re.sub(r"^(#+ )", r"#\1", cell.source, flags=re.MULTILINE)
            lent.append(cell)
    if not lent:
        raise BuildError(f"{borrower.name} repeats {lender.stem}, where no cell is tagged {LENT}.")
    return lent


def with_stable_ids(notebook):
    """Name each cell by what it holds: an id changes only where its cell does."""
    seen = {}
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return notebook


def as_text(notebook):
    """Return the notebook as it stands in its file."""
    return nbformat.writes(notebook) + "\n"


def write_notebooks(sources=None):
    """Write the .ipynb beside each source, return their paths; an unchanged one is not touched."""
    notebooks, repository = [], load_repository()
    for source in chapter_sources() if sources is None else sources:
        path = source.with_suffix(".ipynb")
        text = as_text(read_source(source, repository))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        notebooks.append(path)
    return notebooks


# --- Parameters ---------------------------------------------------------------------------------


def parameters_file(name):
    """Return the path of notebooks/parameters/NAME.yml."""
    path = PARAMETERS / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PARAMETERS.glob("*.yml")))
        raise BuildError(f"No parameters {name!r}: choose one of {known}, or write {path}.")
    return path


def load_parameters(name):
    """Read a parameters file: what all chapters share, and what single chapters have instead.

    Returns:
        tuple: shared, name → value, and exceptions, chapter → (name → value), which stand in the
        section ``chapters``. ``experiment``, ``presets`` and ``data_sets`` are not for
        chapters: they describe runs.
    """
    parameters = yaml.safe_load(parameters_file(name).read_text(encoding="utf-8"))
    for name in ("experiment", "presets", "data_sets"):
        parameters.pop(name, None)
    return parameters, parameters.pop("chapters", {})


def declared_parameters(notebook):
    """Return the names and default values in the notebook's cell tagged ``parameters``."""
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise BuildError(f"{notebook.name} needs one cell tagged `parameters`, has {len(tagged)}.")
    values = {}
    exec(tagged[0].source, {}, values)  # plain assignments, such as eps = 8 / 255
    return values


def choose_parameters(parameters, declared):
    """Give each notebook those parameters that it declares with another default.

    Args:
        parameters: shared ones and exceptions, as :func:`load_parameters` returns them.
        declared: what each chapter declares, path → (name → default).

    Returns:
        dict: path → (name → value).

    Raises:
        BuildError: no chapter declares a shared parameter, or a chapter not its own exception.
    """
    shared, exceptions = parameters
    check_known(shared, {name for defaults in declared.values() for name in defaults}, "parameter")
    check_known(exceptions, {notebook.stem for notebook in declared}, "chapter")
    chosen = {}
    for notebook, defaults in declared.items():
        own = exceptions.get(notebook.stem, {})
        check_known(own, defaults, f"parameter of {notebook.stem}")
        wanted = {name: value for name, value in shared.items() if name in defaults} | own
        chosen[notebook] = {n: value for n, value in wanted.items() if value != defaults[n]}
    return chosen


def check_known(names, known, what):
    """Raise a BuildError that names the nearest known name if one of the names is not known."""
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise BuildError(f"There is no {what} {name!r}. Did you mean {nearest[0]!r}?")


# --- Executing ----------------------------------------------------------------------------------


def isolate_kernels():
    """Let a chapter print the same on every machine, whatever its user has set up."""
    os.environ |= {
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel python3 is this environment's, in nbval too
        "IPYTHONDIR": str(BUILD / "ipython"),  # no start-up files of the user's
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # figures go into the page
        "TQDM_DISABLE": "1",  # progress bars are for people at a terminal
    }


def execute(notebook, destination, parameters, *, scratch=BUILD / "executing"):
    """Execute one notebook and write it, cleaned, to ``destination``.

    Args:
        notebook: path of the notebook without outputs.
        destination: path of the executed notebook.
        parameters: name → value, for the notebook's ``parameters`` cell.
        scratch: working folder; a notebook that fails is left in it, with what it had printed.

    Returns:
        list: what its cells wrote on stderr (warnings), which is not part of the page.

    Raises:
        BuildError: a cell failed; the message holds chapter, cell and traceback.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    executed = scratch / notebook.name
    isolate_kernels()
    try:
        result = run_notebook(notebook, executed, parameters, folder=scratch)
    except papermill.PapermillExecutionError as error:
        raise BuildError(
            f"{notebook.stem}, cell {error.cell_index} (In [{error.exec_count}]) failed:\n\n"
            f"{error.source}\n{error}\n"
            f"The chapter as far as it came: {executed}"
        ) from None
    cleaned, complaints = clean(result)
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text(as_text(cleaned), encoding="utf-8")
    executed.unlink()
    return complaints


def clean(notebook):
    """Take out of an executed notebook what differs from run to run.

    Returns:
        The notebook with only its sources, tags and outputs, and a list of what its cells wrote
        on stderr.
    """
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    complaints = []
    for cell in notebook.cells:
        for key in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            complaints += [o.text.strip() for o in cell.outputs if o.get("name") == "stderr"]
            cell.outputs = merge_streams([o for o in cell.outputs if o.get("name") != "stderr"])
    return with_stable_ids(notebook), complaints


def merge_streams(outputs):
    """Join pieces of printed text, which arrive in chunks that depend on timing."""
    merged = []
    for output in outputs:
        if merged and output.output_type == merged[-1].output_type == "stream":
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def execute_chapters(parameters_name, destination, *, only=()):
    """Execute the chapters, in order, on one set of parameters into the folder ``destination``."""
    declared = {notebook: declared_parameters(notebook) for notebook in write_notebooks()}
    chosen = choose_parameters(load_parameters(parameters_name), declared)
    check_known(only, {notebook.stem for notebook in chosen}, "chapter")
    for number, (notebook, parameters) in enumerate(chosen.items(), start=1):
        if only and notebook.stem not in only:
            continue
        print(f"[{number}/{len(chosen)}] {notebook.stem} ", end="", flush=True)
        start = time.monotonic()
        complaints = execute(notebook, destination / notebook.name, parameters)
        print(f"{time.monotonic() - start:.0f} s", flush=True)
        for complaint in complaints:
            print(f"    on stderr, not published: {complaint}", flush=True)


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
    conditions = {run: conditions_of(load_run(run)) for run in evidence}
    sentences = overall_sentences(claims, judge_runs(claims, evidence))
    return {
        root / "book" / "claims.md": LEDGER_HEAD + matrix_page(claims, evidence, conditions),
        root / FRONT_PAGE_COUNTS.relative_to(ROOT): sentences[0] + "\n",
    }


def write_evidence_of_published():
    """Compute what book/evidence/ lacks of the published runs, and drop what is of no run."""
    kept = [write_evidence(run, EVIDENCE) for run in published_runs()]
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


def command_line_page():
    """Return the reference page of the ``mistakes`` command, made from its own help."""
    command = typer.main.get_command(mistakes)
    context = click.Context(command, info_name="mistakes")
    text = get_docs_for_click(obj=command, ctx=context, name="mistakes")
    _, start, sections = text.partition("\n## ")  # after the list of commands, cut short there
    return COMMAND_LINE_HEAD + (start + sections).strip() + "\n"


def write_command_line(root=ROOT):
    """Write that page where the book in ``root`` looks for it."""
    path = root / COMMAND_LINE.relative_to(ROOT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(command_line_page(), encoding="utf-8")


# --- Publishing ---------------------------------------------------------------------------------


def stage(name):
    """Copy what the book needs, apart from its chapters, to _build/NAME; return that folder."""
    folder = BUILD / name
    shutil.rmtree(folder / "book", ignore_errors=True)
    shutil.copytree(
        ROOT / "book",
        folder / "book",
        ignore=shutil.ignore_patterns("chapters", "runs", "__pycache__", "build.py", "printing.py"),
    )
    for file in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / file, folder)
    return folder


def pages(root):
    """Return the pages named in _toc.yml, in order, as paths without a suffix."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [page for part in contents["parts"] for page in part["chapters"]]
    files = [own["file"] for page in chapters for own in (page, *page.get("sections", []))]
    return [contents["root"], *files]


def publish(root=ROOT, output=None):
    """Publish the book in ``root``, whose chapters are executed already, as strictly as can be.

    Returns:
        Path: the folder with the pages, ``_build/html`` in ``output`` (default: ``root``).

    Raises:
        BuildError: a warning (a broken reference, say), or a page that was not written.
    """
    output = output or root
    html = output / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    strict = ("--all", "-W", "-n", "--keep-going", "--quiet")
    command = [jupyter_book, "build", root, "--path-output", output, *strict]
    if subprocess.run(command).returncode:
        raise BuildError("Jupyter Book found the faults above; the pages are not complete.")
    missing = [page for page in pages(root) if not (html / f"{page}.html").is_file()]
    if missing:
        raise BuildError(f"Jupyter Book did not write {', '.join(missing)} to {html}.")
    offered = html / "_sources" / CHAPTERS.relative_to(ROOT)  # for the button beside the notebook's
    for source in chapter_sources():
        shutil.copy(source, offered)
        if f'"{REPEAT}' in source.read_text(encoding="utf-8"):  # by itself it would lack cells
            jupytext.write(read_source(source), offered / source.name, fmt="py:percent")
    return html


def publish_pdf(html, destination):
    """Print the published pages in the folder ``html`` to one PDF.

    Raises:
        BuildError: there is no browser that could.
    """
    browser = find_browser()
    if browser is None:
        raise BuildError(f"The PDF needs a browser on the path: {' or '.join(BROWSERS)}.")
    document = destination.with_suffix(".html")
    text = one_document(html, ROOT / "_toc.yml", ROOT / "_config.yml")
    document.write_text(text, encoding="utf-8")
    print_pdf(document, destination, browser)
    document.unlink()


# --- Commands -----------------------------------------------------------------------------------


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
        for experiment in load_experiments(parameters_file(parameters)):
            make_run(experiment)
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
    publish_pdf(html, PDF)
    print(f"\nThe book as a PDF:\n  {PDF}")


def main():
    """Run the command line; a BuildError is printed, not traced."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        app()
    except BuildError as error:
        sys.exit(f"\nThe book was not built. {error}")


if __name__ == "__main__":
    main()
