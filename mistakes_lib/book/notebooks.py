"""A chapter, or any notebook with parameters, executed by papermill with values of one's own."""

import os
from pathlib import Path

from mistakes_lib.support.locations import CHAPTERS
from mistakes_lib.support.progress import somebody_watches
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["execute_chapter", "find_chapter", "parameters_of"]


def find_chapter(name, beside=None):
    """The book's chapter of that name, or the notebook at that path.

    Args:
        name: such as "04_mistakes", or a path.
        beside: folder that a relative path may start from, besides the current one.

    Returns:
        Path, absolute.

    Raises:
        FileNotFoundError: neither; the message lists the chapters.

    Example:
        >>> find_chapter("04_mistakes").name
        '04_mistakes.ipynb'
    """
    for place in (CHAPTERS / f"{name}.ipynb", Path(name), Path(beside or "") / name):
        if place.is_file():
            return place.resolve()
    chapters = ", ".join(path.stem for path in sorted(CHAPTERS.glob("*.ipynb")))
    raise FileNotFoundError(f"no notebook {name}; the book's chapters are {chapters}")


def parameters_of(notebook):
    """What a notebook's cell tagged ``parameters`` declares.

    Args:
        notebook: path of a notebook.

    Returns:
        dict: name → default, as the source of the cell has it, such as "8 / 255".

    Example:
        >>> parameters_of(find_chapter("04_mistakes"))["n_components"]
        '100'
    """
    import papermill

    declared = papermill.inspect_notebook(str(notebook))
    return {name: parameter["default"] for name, parameter in declared.items()}


def check_parameters(notebook, names):
    """Raise ValueError, with the nearest name, if the notebook lacks a parameter."""
    known = parameters_of(notebook)
    for name in names:
        if name not in known:
            guess = did_you_mean(name, known, form=" ({})")
            raise ValueError(
                f"{notebook.name} has no parameter {name!r}{guess}; it has {', '.join(known)}"
            )


def run_notebook(notebook, out, parameters, *, progress=False, folder=None):
    """Execute a notebook by papermill, on this environment's own kernel.

    Args:
        notebook: its path.
        out: path of the executed notebook.
        parameters: name → value.
        progress: show a bar over the cells.
        folder: that it works in; by default the current one.

    Returns:
        The executed notebook, an ``nbformat`` one.

    Raises:
        papermill.PapermillExecutionError: a cell failed; ``out`` holds what was computed.
    """
    import papermill

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel python3 is this environment's
    return papermill.execute_notebook(
        str(notebook),
        str(out),
        dict(parameters),
        kernel_name="python3",
        progress_bar=progress,
        cwd=None if folder is None else str(folder),
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # no talk about transports
    )


def execute_chapter(name, parameters, out, *, progress=True):
    """Execute a chapter with these parameters instead of its defaults.

    Args:
        name: of the chapter, or path of a notebook; see :func:`find_chapter`.
        parameters: name → value.
        out: path of the executed notebook.
        progress: show a bar over the cells.

    Returns:
        The executed notebook, an ``nbformat`` one.

    Raises:
        FileNotFoundError: no such chapter.
        ValueError: it has no such parameter.
        RuntimeError: a cell failed; ``out`` holds the notebook as far as it came.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = Path(folder) / "out.ipynb"
        ...     try:
        ...         execute_chapter("04_mistakes", {"n_component": 500}, out)
        ...     except ValueError as error:
        ...         print(str(error).partition(";")[0])
        04_mistakes.ipynb has no parameter 'n_component' (did you mean 'n_components'?)
    """
    import papermill

    notebook, out = find_chapter(name), Path(out)
    check_parameters(notebook, parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        return run_notebook(notebook, out, parameters, progress=progress and somebody_watches())
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(
            f"cell {error.cell_index} of {notebook.stem} failed: {error.ename}: {error.evalue}; "
            f"the chapter as far as it came: {out}"
        ) from None
