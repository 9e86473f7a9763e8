"""Sources in py:percent, and the notebooks without outputs that are made from them."""

import hashlib
import re
from pathlib import Path

import jupytext
import nbformat
import yaml

from book.building.places import NOTEBOOKS, ROOT, BuildError

__all__ = [
    "NOTEBOOK_METADATA",
    "REPEAT",
    "as_text",
    "chapter_sources",
    "load_repository",
    "read_source",
    "sweep_sources",
    "with_stable_ids",
    "write_notebooks",
]

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
