"""Sweeps: one chapter over a grid of parameters, on Dask; each finished cell is kept.

A grid is a YAML file::

    chapter: 04_mistakes            # one of the book's, or the path of any notebook
    parameters:
      data_set: cifar100            # the same in every cell
      n_components: [10, 100, 1000] # every combination of the lists is a cell
      seed: [0, 1, 2, 3, 4]

A cell is the notebook executed with one combination. Its results are the numbers that the
notebook's cells tagged ``evidence`` print.
"""

import hashlib
import itertools
import json
import os
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mistakes_lib.book.claims import printed_evidence
from mistakes_lib.book.notebooks import check_parameters, find_chapter, run_notebook
from mistakes_lib.support.locations import PUBLISHED_SWEEPS, runs_root
from mistakes_lib.support.progress import progress_bar
from mistakes_lib.support.storage import atomic_write, read_yaml

__all__ = ["Cell", "Grid", "Sweep", "load_grid", "load_sweep", "run_sweep"]

TABLE = "results.parquet"


@dataclass(frozen=True)
class Cell:
    """One combination of a grid's parameters.

    Args:
        parameters: name → value.
        folder: where its notebook, its results and its error lie.
    """

    parameters: dict
    folder: Path

    @property
    def notebook(self):
        """The executed notebook, as far as it came."""
        return self.folder / "notebook.ipynb"

    @property
    def results(self):
        """Nested dict of what it printed as evidence; None if it has not finished."""
        path = self.folder / "results.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def error(self):
        """Traceback of its last failure; None if there was none."""
        path = self.folder / "error.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else None


@dataclass(frozen=True)
class Grid:
    """A notebook, and the values that its parameters take.

    Args:
        notebook: path of the notebook, with a cell tagged ``parameters``.
        parameters: name → list of values; a cell is one choice from each.
    """

    notebook: Path
    parameters: dict

    @property
    def varied(self):
        """Names of the parameters with more than one value."""
        return [name for name, values in self.parameters.items() if len(values) > 1]

    def cells(self, folder):
        """The grid's cells below a folder, a list of :class:`Cell`.

        A cell's folder is named after its parameters and the notebook's contents: a changed
        notebook is executed anew.
        """
        source = hashlib.sha256(self.notebook.read_bytes()).hexdigest()
        cells = []
        for values in itertools.product(*self.parameters.values()):
            parameters = dict(zip(self.parameters, values, strict=True))
            identity = json.dumps([source, parameters], sort_keys=True)
            name = hashlib.sha256(identity.encode()).hexdigest()[:16]
            cells.append(Cell(parameters, Path(folder) / name))
        return cells


@dataclass(frozen=True)
class Sweep:
    """What a sweep has come to.

    Args:
        grid: :class:`Grid`.
        cells: its cells.
    """

    grid: Grid
    cells: list

    @property
    def finished(self):
        """The cells that have results."""
        return [cell for cell in self.cells if cell.results is not None]

    @property
    def failed(self):
        """The cells that have none, but an error."""
        return [cell for cell in self.cells if cell.results is None and cell.error is not None]

    def table(self):
        """One row a number: DataFrame with the parameters, ``metric`` and ``value``."""
        rows = [
            cell.parameters | {"metric": metric, "value": value}
            for cell in self.finished
            for metric, value in _numbers(cell.results)
        ]
        return pd.DataFrame(rows, columns=[*self.grid.parameters, "metric", "value"])

    def summary(self):
        """Mean, standard deviation and number of runs over seeds, a row a setting and metric."""
        settings = [name for name in self.grid.varied if name != "seed"]
        grouped = self.table().groupby(["metric", *settings], sort=False)["value"]
        return grouped.agg(mean="mean", sd="std", runs="count").reset_index()


def load_grid(path):
    """Read a grid from a file.

    Args:
        path: YAML file; see this module's description.

    Returns:
        Grid.

    Raises:
        FileNotFoundError: no such file or notebook.
        ValueError: the file is no YAML, lacks a key or has an unknown one, or the notebook has no
            such parameter.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "grid.yml"
        ...     _ = path.write_text('''
        ... chapter: 04_mistakes
        ... parameters:
        ...   data_set: cifar100
        ...   n_components: [10, 100, 1000]
        ...   seed: [0, 1]
        ... ''')
        ...     grid = load_grid(path)
        >>> grid.varied, len(grid.cells("sweep"))
        (['n_components', 'seed'], 6)
    """
    path = Path(path)
    contents = read_yaml(path, "grid")
    if not isinstance(contents, dict) or set(contents) != {"chapter", "parameters"}:
        raise ValueError(f"{path} must have the keys chapter and parameters, and no others")
    parameters = contents["parameters"]
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError(f"{path}: parameters must map names to a value or a list of values")
    notebook = find_chapter(str(contents["chapter"]), path.parent)
    check_parameters(notebook, parameters)
    lists = {k: v if isinstance(v, list) else [v] for k, v in parameters.items()}
    empty = [name for name, values in lists.items() if not values]
    if empty:
        raise ValueError(f"{path}: {empty[0]} has no values")
    return Grid(notebook, lists)


def load_sweep(path, **parameters):
    """Read the numbers that a sweep has gathered.

    Args:
        path: a sweep's folder, or the name of one of the book's, such as "components".
        parameters: of these cells alone, such as ``n_components=100``; there may be none.

    Returns:
        DataFrame as :meth:`Sweep.table` returns it.

    Raises:
        FileNotFoundError: no finished sweep there; the message lists the book's.
        ValueError: it has no such parameter.

    Example:
        >>> table = load_sweep("components", n_components=100)  # five fits
        >>> table.groupby("metric").size().unique()
        array([5])
    """
    for folder in (Path(path), PUBLISHED_SWEEPS / path):
        if (folder / TABLE).is_file():
            table = pd.read_parquet(folder / TABLE)
            known = [name for name in table if name not in ("metric", "value")]
            for name, value in parameters.items():
                if name not in known:
                    raise ValueError(f"sweep {path} has no {name!r}: it has {', '.join(known)}")
                table = table[table[name] == value]
            return table
    known = ", ".join(sorted(file.parent.name for file in PUBLISHED_SWEEPS.glob(f"*/{TABLE}")))
    raise FileNotFoundError(
        f"no finished sweep {path}; the book has {known or 'none'}. "
        "Make your own with `mistakes sweep GRID.yml`."
    )


def run_sweep(grid, folder, *, scheduler=None, workers=1, progress=True):
    """Execute the cells that have no results yet, and gather those of all.

    Killed at any moment, a later call goes on with the cells that are missing; failed ones are
    tried again. ``results.parquet`` and ``summary.csv`` in the folder hold what
    :meth:`Sweep.table` and :meth:`Sweep.summary` return.

    Args:
        grid: :class:`Grid`.
        folder: where cells and tables go.
        scheduler: address of a running Dask scheduler, such as "tcp://10.0.0.1:8786", whose
            workers see this folder and the runs; by default workers are started here.
        workers: number of worker processes to start here; 0 executes the cells in this process.
        progress: show a bar, with the number of failed cells.

    Returns:
        Sweep.

    Example:
        >>> import tempfile
        >>> grid = Grid(find_chapter("04_mistakes"), {"seed": [0, 1]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for cell in grid.cells(Path(folder).resolve()):  # what an earlier call has left
        ...         cell.folder.mkdir()
        ...         results = {"test": {"auroc": 0.7 + 0.1 * cell.parameters["seed"]}}
        ...         _ = (cell.folder / "results.json").write_text(json.dumps(results))
        ...     sweep = run_sweep(grid, folder, workers=0, progress=False)  # executes no more
        ...     sweep.summary().round(3).to_dict("records")
        [{'metric': 'test.auroc', 'mean': 0.75, 'sd': 0.071, 'runs': 2}]
    """
    folder = Path(folder).resolve()
    sweep = Sweep(grid, grid.cells(folder))
    waiting = [cell for cell in sweep.cells if cell.results is None]
    environment = {"MISTAKES_RUNS": str(runs_root().resolve())}
    if scheduler is None and workers > 0:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    with progress_bar(total=len(sweep.cells), initial=len(sweep.cells) - len(waiting), unit="cell",
              desc=grid.notebook.stem, shown=progress) as bar:  # fmt: skip
        failures = 0
        with _environment_kept(), _execution(scheduler, workers) as execute_all:
            for failed in execute_all(grid.notebook, waiting, environment):
                failures += failed
                bar.set_postfix(failed=failures)
                bar.update()
    if sweep.finished:
        with atomic_write(folder / TABLE) as temporary:
            sweep.table().to_parquet(temporary, index=False)
        with atomic_write(folder / "summary.csv") as temporary:
            sweep.summary().to_csv(temporary, index=False)
    return sweep


@contextmanager
def _environment_kept():
    """Leave the environment variables as they were: Dask and the cells set some."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _execution(scheduler, workers):
    """Yield a function that executes cells and yields whether each failed, as they end."""
    if scheduler is None and workers == 0:
        yield lambda notebook, cells, environment: (
            execute_cell(notebook, cell, environment) for cell in cells
        )
        return
    from dask.distributed import Client, LocalCluster, as_completed

    with (
        Client(scheduler)
        if scheduler
        else Client(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None))
    ) as client:

        def execute_all(notebook, cells, environment):
            futures = {
                client.submit(execute_cell, notebook, cell, environment, pure=False): cell
                for cell in cells
            }
            for future in as_completed(futures):
                if future.status == "error":  # its worker died, again and again
                    _write_error(futures[future], str(future.exception()))
                yield future.status == "error" or future.result()

        yield execute_all


def execute_cell(notebook, cell, environment):
    """Execute a notebook with a cell's parameters and keep its results or its error.

    A cell that has results by now is left as it is.

    Args:
        notebook: path of the notebook.
        cell: :class:`Cell`.
        environment: name → value of environment variables for its kernel.

    Returns:
        bool: whether it failed.
    """
    if cell.results is not None:  # another process on this folder was here meanwhile
        return False
    os.environ.update(environment)
    import papermill

    cell.folder.mkdir(parents=True, exist_ok=True)
    try:
        results = printed_evidence(run_notebook(notebook, cell.notebook, cell.parameters))
    except Exception as error:  # whatever it is, the other cells go on
        said = error if isinstance(error, papermill.PapermillExecutionError) else None
        _write_error(cell, str(said) if said else traceback.format_exc())
        return True
    with atomic_write(cell.folder / "results.json") as temporary:
        temporary.write_text(json.dumps(results), encoding="utf-8")
    (cell.folder / "error.txt").unlink(missing_ok=True)
    return False


def _write_error(cell, text):
    with atomic_write(cell.folder / "error.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _numbers(results, prefix=""):
    """(dotted name, number) of every number in nested dicts."""
    for name, value in results.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif not isinstance(value, str):
            yield f"{prefix}{name}", float(value)
