"""Every benchmark runs from beginning to end on tiny sizes, and writes its section."""

import importlib
import pickle
import pkgutil

import nbformat
import numpy as np
import pytest
import torch

import benchmarks.__main__ as command
from benchmarks import book, gmm, scaling
from benchmarks.measuring import as_table, in_turns, limit_threads, ratio, spread, ticks
from benchmarks.results import write_section
from book.building.sources import NOTEBOOK_METADATA
from mistakes_lib.density.gmm.em import Mixture, Statistics

TINY = {
    "gmm": "--rows 300 --components 3 --dimensions 344 --whole 344 --repeats 2",
    "mahalanobis": "--rows 400 --dimensions 134 --classes 20 --memory 3000 --repeats 2",
    "purification": "--rows 20 --components 10 --steps 1 --repeats 2",
    "features": "--images 4 --batch-size 2 --repeats 2",
    "attacks": "--images 2 --iterations 2 --repeats 2",
    "starting": "--repeats 2",
    "training": "--images 4 --widen-factor 1 --repeats 1",
}
SLOW = {"mahalanobis", "training"}


@pytest.fixture(autouse=True)
def pages(tmp_path, monkeypatch):
    """The pages go to a temporary folder, and threads are afterwards as many as before."""
    monkeypatch.setenv("MISTAKES_BENCHMARKS", str(tmp_path))
    threads = torch.get_num_threads()
    yield tmp_path
    limit_threads(threads)


def section(pages, name):
    """The text between a section's marks."""
    page = (pages / "results.md").read_text(encoding="utf-8")
    return page.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in TINY]
)
def test_a_benchmark_writes_its_section(pages, name):
    importlib.import_module(f"benchmarks.{name}").main([*TINY[name].split(), "--threads", "1"])
    text = section(pages, name)
    assert f"python -m benchmarks.{name}" in text
    assert "1 thread, Python" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) >= 3  # head, rule, row
    assert "nan" not in text


def test_gmm_says_why_a_peer_was_not_compared(monkeypatch):
    def broken(mixture, iterations):
        raise ImportError("no such library")

    peers = gmm.PEERS | {"torchgmm": gmm.Library(broken, gmm.OURS.step), "pomegranate": gmm.OURS}
    monkeypatch.setattr(gmm, "PEERS", peers)
    X = np.random.default_rng(0).normal(size=(50, 3))
    mixture = {"weights": np.ones(2) / 2, "means": X[:2], "precisions": np.ones((2, 3))}
    with pytest.warns(match="did not converge"):
        rows, remarks = gmm.peer_rows(X, 2, mixture)
    assert [row[4] for row in rows] == ["pomegranate"]  # a stand-in: ours against ours
    assert remarks[0] == "torchgmm was not compared: ImportError: no such library"


def test_gmm_times_every_iteration_but_the_first():
    X = np.random.default_rng(0).normal(size=(50, 3))
    mixture = {"weights": np.ones(2) / 2, "means": X[:2], "precisions": np.ones((2, 3))}
    for library in (gmm.OURS, gmm.PEERS["scikit-learn"]):
        with pytest.warns(match="did not converge"):
            seconds, estimator = gmm.iteration_seconds(library, mixture, X)
        assert estimator.n_iter_ == gmm.ITERATIONS == len(seconds) + 1


@pytest.mark.slow
def test_scaling_writes_its_page(pages):
    scaling.main(
        [
            "--rows",
            "400",
            "--dimensions",
            "8",
            "--components",
            "5",
            "--repeats",
            "2",
            "--threads",
            "1",
        ]
    )
    text = (pages / "scaling.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[0] for line in text.splitlines() if line[:3] in {"| 1", "| 2"}] == [
        "| 1",
        "| 2",
        "| 1",
    ]
    assert "nan" not in text


def test_scaling_counts_the_bytes_that_travel():
    k, d = 50, 40
    wide, tall = torch.zeros(k, d).double(), torch.zeros(k, 2 * d).double()
    mixture = Mixture(wide[:, 0].clone(), wide, wide.clone())
    statistics = Statistics(7, wide[0, 0].clone(), wide[:, 0].clone(), tall)
    for thing, expected in (
        (mixture, scaling.mixture_bytes(d, k)),
        (statistics, scaling.statistics_bytes(d, k)),
    ):
        assert expected < len(pickle.dumps(thing)) < expected + 4000  # names and shapes


def test_scaling_adds_up_its_model():
    model = scaling.model_of(
        alone=[2.0, 2.0],
        measured={1: scaling.Measured([3.0]), 2: scaling.Measured([2.2], sent=4 * 8 * 111)},
        n=100,
        d=5,
        k=10,
    )  # a set of statistics has 8 × 111 bytes
    work, handling, moved = model.parts(100, 5, 10, workers=2)
    assert (work, handling, model.sets) == pytest.approx((1.0, 1.0, 2.0))
    assert moved == pytest.approx(2 * (8 * 110 + 2 * 8 * 111))
    assert model.parts(200, 5, 10, workers=1)[0] == pytest.approx(4.0)


def test_the_profile_of_the_book_names_each_chapters_slowest_cell(pages, tmp_path, monkeypatch):
    cells = [
        nbformat.v4.new_code_cell(code) for code in ("1", "import time\n# wait\ntime.sleep(1)")
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=NOTEBOOK_METADATA)
    path = tmp_path / "01_example.ipynb"
    nbformat.write(notebook, path)
    (tmp_path / "executed").mkdir()
    found = book.profile(path, {}, tmp_path / "executed")
    assert found.seconds > found.in_cells >= found.slowest > 0.9
    monkeypatch.setattr(book, "profiles", lambda only, folder: [found])
    book.main(["--chapters", "01_example"])
    row = next(line for line in section(pages, "book").splitlines() if "01_example" in line)
    assert "| 100% |" in row and "`time.sleep(1)`" in row


def test_the_command_goes_on_after_a_failure_and_names_it(monkeypatch):
    ran = []

    class Benchmark:
        def __init__(self, name):
            self.name = name

        def main(self, argv):
            ran.append(self.name)
            if self.name == "benchmarks.gmm":
                raise ValueError("broken")

    monkeypatch.setattr(command.importlib, "import_module", Benchmark)
    with pytest.raises(SystemExit, match="gmm"):
        command.main(["--only", "gmm", "features"])
    assert ran == ["benchmarks.gmm", "benchmarks.features"]
    command.main(["--only", "attacks"])


def test_every_benchmark_is_run_by_the_command():
    folder = command.__file__.rpartition("/")[0]
    names = {module.name for module in pkgutil.iter_modules([folder])}
    assert names == {"__main__", "kinds", "measuring", "results", *command.NAMES}


def test_a_section_is_replaced_and_the_others_stay(pages):
    write_section("a", "First", "old")
    write_section("b", "Second", r"stays \1")
    write_section("a", "First", "new")
    text = (pages / "results.md").read_text(encoding="utf-8")
    assert "new" in text and "old" not in text and r"stays \1" in section(pages, "b")
    assert text.count("## First") == 1


def test_times_are_written_as_median_and_spread():
    assert spread([3.0, 1.0, 2.0]) == "2 (1–3)"
    assert ratio([4.0, 9.0, 8.0], [2.0, 3.0, 2.0]) == "3 (2–4)"
    assert as_table(["a", "b"], [[1.23456, None], ["x", 2]]).splitlines()[2:] == [
        "| 1.23 | – |",
        "| x | 2 |",
    ]


def test_turns_alternate():
    calls = []
    actions = {name: (lambda n=name: calls.append(n) or n) for name in "ab"}
    seconds, results = in_turns(actions, 2)
    assert calls == list("abab")
    assert results == {"a": "a", "b": "b"}
    assert all(len(times) == 2 for times in seconds.values())


def test_ticks_count_calls_and_leave_no_trace():
    class Owner:
        def step(self, x):
            return x + 1

    plain = Owner.step
    with ticks(Owner, "step") as times:
        assert [Owner().step(1), Owner().step(x=2)] == [2, 3]
    assert len(times) == 2 and times[0] <= times[1]
    assert Owner.step is plain
