"""Sweeps: every combination once, failures kept and tried again, finished cells never lost."""

import json
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from mistakes_lib.book import sweep as sweeping
from mistakes_lib.book.sweep import load_grid, load_sweep, run_sweep
from mistakes_lib.cli.app import app

WORK = """
import json
from pathlib import Path

if a == 3 and not Path(flag).exists():
    raise ValueError("three is too many")
values = {"product": a * 10 + seed, "half": {"of": a / 2}, "title": "text"}
"""


def write_grid(folder, **parameters):
    """A notebook of which a = 3 fails until the file ``flag`` is there, and a grid over it."""
    folder.mkdir(exist_ok=True)
    flag = folder / "flag"
    cells = [
        new_code_cell(f"a = 1\nseed = 0\nflag = {str(flag)!r}", metadata={"tags": ["parameters"]}),
        new_code_cell(WORK),
        new_code_cell('print(json.dumps({"t": values}))', metadata={"tags": ["evidence"]}),
    ]
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), folder / "work.ipynb")
    path = folder / "grid.yml"
    path.write_text(yaml.safe_dump({"chapter": "work.ipynb", "parameters": parameters}))
    return path


def values_of(sweep, metric="t.product"):
    table = sweep.table()
    rows = table[table.metric == metric]
    return {(row.a, row.seed): row.value for row in rows.itertuples()}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep of which half fails, and what it came to."""
    folder = tmp_path_factory.mktemp("sweep")
    grid = load_grid(write_grid(folder, a=[1, 3], seed=[0, 1]))
    return grid, folder, run_sweep(grid, folder / "out", workers=0, progress=False)


def test_finished_cells_are_kept_and_failed_ones_say_why(interrupted):
    _, folder, sweep = interrupted
    assert values_of(sweep) == {(1, 0): 10, (1, 1): 11}
    assert [cell.parameters for cell in sweep.failed] == [{"a": 3, "seed": s} for s in (0, 1)]
    for cell in sweep.failed:
        assert "ValueError: three is too many" in cell.error
        outputs = nbformat.read(cell.notebook, as_version=4).cells
        assert any(out.output_type == "error" for c in outputs for out in c.get("outputs", []))
    stored = pd.read_parquet(folder / "out" / "results.parquet")
    pd.testing.assert_frame_equal(stored, sweep.table())


def test_only_what_failed_is_executed_again(interrupted):
    grid, folder, before = interrupted
    stamps = {cell.folder: cell.notebook.stat().st_mtime_ns for cell in before.finished}
    (folder / "flag").touch()
    after = run_sweep(grid, folder / "out", workers=0, progress=False)
    (folder / "flag").unlink()
    assert values_of(after) == {(1, 0): 10, (1, 1): 11, (3, 0): 30, (3, 1): 31}
    assert not after.failed and all(cell.error is None for cell in after.cells)
    for cell_folder, stamp in stamps.items():
        assert (cell_folder / "notebook.ipynb").stat().st_mtime_ns == stamp
    summary = pd.read_csv(folder / "out" / "summary.csv").set_index(["metric", "a"])
    assert summary.loc["t.product", 3].tolist() == [30.5, np.sqrt(0.5), 2]
    assert summary.loc["t.half.of", 1].tolist() == [0.5, 0, 2]


def test_what_another_process_finishes_meanwhile_is_not_done_again(tmp_path, monkeypatch):
    grid = load_grid(write_grid(tmp_path, a=[1], seed=[0, 1]))
    _, second = grid.cells(tmp_path / "out")
    run = sweeping.run_notebook

    def beside_another(*given):
        second.folder.mkdir(parents=True, exist_ok=True)
        (second.folder / "results.json").write_text(json.dumps({"t": {"product": 7}}))
        return run(*given)

    monkeypatch.setattr(sweeping, "run_notebook", beside_another)
    sweep = run_sweep(grid, tmp_path / "out", workers=0, progress=False)
    assert values_of(sweep) == {(1, 0): 10, (1, 1): 7}


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(nursery, tmp_path):
    path = write_grid(tmp_path, a=[1, 2], seed=[0, 1])
    out = tmp_path / "out"
    arguments = ["sweep", path, "--out", out, "--workers", "0"]
    running = nursery.mistakes(*arguments)
    while not (finished := list(out.glob("*/results.json"))):
        assert running.poll() is None, "it ended without results"
        time.sleep(0.02)
    running.kill()
    running.wait()
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    assert len(finished) < 4, "it was not killed in the middle"
    again = nursery.mistakes(*arguments)
    assert again.wait() == 0, again.stderr
    assert f"4 of 4 cells have results: {out}" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished} == stamps
    assert len(pd.read_parquet(out / "results.parquet")) == 8


def test_a_sweep_is_read_again(interrupted):
    _, folder, sweep = interrupted
    pd.testing.assert_frame_equal(load_sweep(folder / "out"), sweep.table())
    own = load_sweep(folder / "out", a=1, seed=0).set_index("metric").value
    assert own.to_dict() == {"t.product": 10.0, "t.half.of": 0.5}
    assert load_sweep(folder / "out", a=17).empty
    with pytest.raises(ValueError, match="has no 'metric': it has a, seed"):
        load_sweep(folder / "out", metric="t.product")
    with pytest.raises(FileNotFoundError, match="no finished sweep none; the book has "):
        load_sweep("none")


@pytest.mark.slow
def test_dask_workers_find_what_this_process_finds(interrupted, tmp_path):
    sweep = run_sweep(interrupted[0], tmp_path, workers=2, progress=False)
    assert values_of(sweep) == {(1, 0): 10, (1, 1): 11}
    assert [cell.parameters["a"] for cell in sweep.failed] == [3, 3]


def test_the_command_lists_failures_and_says_so_by_its_exit_code(interrupted, tmp_path):
    _, folder, _ = interrupted
    path = folder / "three.yml"
    path.write_text(yaml.safe_dump({"chapter": "work.ipynb", "parameters": {"a": 3}}))
    arguments = ["sweep", str(path), "--out", str(tmp_path), "--workers", "0", "--quiet"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "failed: {'a': 3}\n  ValueError: three is too many" in result.output


def test_a_changed_notebook_is_executed_anew(tmp_path):
    grid = load_grid(write_grid(tmp_path, a=[1]))
    (before,) = grid.cells(tmp_path)
    text = grid.notebook.read_text()
    grid.notebook.write_text(text.replace("three", "3"))
    (after,) = grid.cells(tmp_path)
    assert before.folder != after.folder


def test_a_grid_of_the_books_chapters_is_found(tmp_path):
    contents = {"chapter": "04_mistakes", "parameters": {"n_components": [1, 2], "seed": 0}}
    (tmp_path / "grid.yml").write_text(json.dumps(contents))
    grid = load_grid(tmp_path / "grid.yml")
    assert grid.notebook.name == "04_mistakes.ipynb" and grid.varied == ["n_components"]
    assert len(grid.cells(tmp_path)) == 2


@pytest.mark.parametrize(
    ("contents", "error", "complaint"),
    [
        ("chapter: [", ValueError, "is no YAML"),
        ("chapter: x", ValueError, "must have the keys chapter and parameters"),
        ("{chapter: x, parameters: {a: 1}, more: 1}", ValueError, "and no others"),
        ("{chapter: x, parameters: [a]}", ValueError, "must map names to a value or a list"),
        ("{chapter: x, parameters: {a: 1}}", FileNotFoundError, "chapters are 01_background"),
        ("{chapter: work.ipynb, parameters: {b: 1}}", ValueError, "no parameter 'b'; it has a"),
        ("{chapter: work.ipynb, parameters: {a: []}}", ValueError, "a has no values"),
    ],
)
def test_a_mistake_in_a_grid_is_one_clear_line(tmp_path, contents, error, complaint):
    path = write_grid(tmp_path, a=[1])
    path.write_text(contents)
    with pytest.raises(error, match=complaint) as caught:
        load_grid(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no grid"):
        load_grid(tmp_path / "none.yml")
