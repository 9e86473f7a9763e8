"""A chapter, or any notebook with parameters, executed by papermill with values of one's own."""

import os
from pathlib import Path

from mistakes_lib.support.locations import CHAPTERS, PARAMETERS
from mistakes_lib.support.progress import somebody_watches
from mistakes_lib.support.storage import read_yaml
from mistakes_lib.support.suggestions import did_you_mean

__all__ = [
    "default_values",
    "execute_chapter",
    "find_chapter",
    "load_parameters",
    "parameters_of",
]

DESCRIBE_RUNS = ("experiment", "presets", "data_sets")  # sections that are not for chapters


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


def default_values(notebook):
    """The values behind what :func:`parameters_of` returns: each default, evaluated.

    Args:
        notebook: path of a notebook that you would execute: its defaults are Python code.

    Returns:
        dict: name → value; empty if no cell is tagged ``parameters``.

    Example:
        >>> round(default_values(find_chapter("04_mistakes"))["eps"], 4)
        0.0314
    """
    return {name: eval(text, {}) for name, text in parameters_of(notebook).items()}


def load_parameters(name):
    """Read from a parameters file what is for chapters.

    Args:
        name: one of the book's files, such as "quick", or the path of another.

    Returns:
        tuple: what all chapters share, name → value; and what single chapters have instead,
        chapter → (name → value), from the section ``chapters``.

    Raises:
        FileNotFoundError: no such file; the message lists the book's.
        ValueError: the file is no YAML mapping.

    Example:
        >>> shared, exceptions = load_parameters("quick")
        >>> shared["n_components"], exceptions["05_adversarial"]
        (20, {'n_components': 50})
    """
    own = PARAMETERS / f"{name}.yml"
    path = own if own.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PARAMETERS.glob("*.yml")))
        raise FileNotFoundError(
            f"no parameters {str(name)!r}: choose from {known}, or name a file of yours"
        )
    parameters = read_yaml(path, "parameters file")
    if not isinstance(parameters, dict):
        raise ValueError(f"{path} must map names of parameters to values")
    shared = {name: value for name, value in parameters.items() if name not in DESCRIBE_RUNS}
    return shared, shared.pop("chapters", {})


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
            f"cell {error.cell_index} of {notebook.stem} failed: {error.ename}: "
            f"{error.evalue.rstrip('.')}; the chapter as far as it came: {out}"
        ) from None
