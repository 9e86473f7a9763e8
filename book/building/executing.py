"""Chapters executed by papermill, without what differs from run to run."""

import os
import time

import nbformat
import papermill

from book.building.parameters import check_known, choose_parameters, declared_parameters
from book.building.places import BUILD, BuildError
from book.building.sources import NOTEBOOK_METADATA, as_text, with_stable_ids, write_notebooks
from mistakes_lib.book.notebooks import load_parameters, run_notebook

__all__ = ["execute", "execute_chapters", "isolate_kernels", "merge_streams"]


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
