"""Every benchmark runs from beginning to end on tiny sizes, and writes its section."""

import importlib
import os
import pickle
import pkgutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch

import benchmarks.__main__ as command
from benchmarks import book, detectors, gmm, gpu, headlines, large, report, scaling, training
from benchmarks.measuring import (
    as_table,
    in_turns,
    limit_threads,
    peak_memory,
    ratio,
    spread,
    ticks,
)
from benchmarks.results import headline, write_section
from book.building.sources import NOTEBOOK_METADATA
from book.reports.resnet20.network import resnet20
from mistakes_lib.density.gmm.em import Mixture, Statistics

TINY = {
    "gmm": "--rows 300 --components 3 --dimensions 344 --whole 344 --repeats 2",
    "detectors": "--rows 900 --known 800 --dimensions 344 --classes 20 --repeats 2",
    "large": "--rows 300 400 500 --dimensions 20 --classes 5 --scored 10 --repeats 2",
    "purification": "--rows 20 --components 10 --steps 1 --repeats 2",
    "features": "--images 4 --batch-size 2 --repeats 2",
    "attacks": "--images 2 --iterations 2 --repeats 2",
    "report": "--images 350 --fewer 350 --workers 1",
    "starting": "--repeats 2",
    "training": "--images 4 --widen-factor 1 --repeats 1",
    "gpu": "--device cpu --rows 300 --components 3 --images 4 --attacked 2 --repeats 2",
}
SLOW = {"detectors", "gpu", "large", "report", "training"}


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
    assert "1 thread, " in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) >= 3  # head, rule, row
    assert "nan" not in text


def test_without_a_gpu_the_page_stays_as_it_is(pages, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main([])
    assert "No GPU" in capsys.readouterr().out
    assert not (pages / "results.md").exists()


def test_gmm_says_why_a_peer_was_not_compared(monkeypatch):
    def broken(mixture, iterations):
        raise ImportError("no such library")

    peers = gmm.PEERS | {"torchgmm": gmm.Library(broken, gmm.OURS.step), "pomegranate": gmm.OURS}
    monkeypatch.setattr(gmm, "PEERS", peers)
    X = np.random.default_rng(0).normal(size=(50, 3))
    mixture = {"weights": np.ones(2) / 2, "means": X[:2], "precisions": np.ones((2, 3))}
    with pytest.warns(match="did not converge"):
        rows, remarks, seconds = gmm.peer_rows(X, 2, mixture)
    assert [row[4] for row in rows] == ["pomegranate"]  # a stand-in: ours against ours
    assert list(seconds) == ["pomegranate"] and len(seconds["pomegranate"]) == 2
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
            "--other-rows",
            "300",
            "--other-dimensions",
            "12",
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
        "| 2",
        "| 1",
    ]
    assert "nan" not in text
    assert "two Dask workers, 400 × 8, K = 5" in (pages / "results.md").read_text(encoding="utf-8")


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
    helpers = {"__main__", "headlines", "kinds", "measuring", "results"}
    assert names == {*helpers, *command.NAMES}


def test_a_section_is_replaced_and_the_others_stay(pages):
    write_section("a", "First", "old")
    write_section("b", "Second", r"stays \1")
    write_section("a", "First", "new")
    text = (pages / "results.md").read_text(encoding="utf-8")
    assert "new" in text and "old" not in text and r"stays \1" in section(pages, "b")
    assert text.count("## First") == 1


def table_of(pages):
    """The table at the top of the page: what → (peer, ratio, wanted, remark)."""
    head = (pages / "results.md").read_text(encoding="utf-8").split("<!-- ")[0]
    rows = [line.strip("| ").split(" | ") for line in head.splitlines() if line.startswith("| ")]
    return {what: tuple(more) for what, *more in rows[1:]}


def test_the_table_at_the_top_is_made_of_the_sections_rows_and_follows_a_new_run(pages):
    slow = headline("features", "loop 1", [3.0, 4.0], [1.0, 2.0], wanted=2.0, reason="why")
    write_section("features", "Features", "text", [slow])
    two = {"tanh": [8.0], "relu": [3.0]}, {"tanh": [1.0], "relu": [1.0]}
    em = headline("EM", "scikit-learn 1", *two, wanted=5.0, limit="products 40%", reason="because")
    write_section("gmm", "Mixture", "text", [em, headline("predicted", None, [], [], limit="1 h")])
    assert table_of(pages) == {  # the mixture first, though its section came later
        "EM": ("scikit-learn 1", "5.5 (3–8)", "≥ 5", "products 40%; less on relu 3; because"),
        "predicted": ("–", "–", "–", "1 h"),
        "features": ("loop 1", "2.5 (2–3)", "≥ 2", "–"),
    }
    fast = headline("features", "loop 2", [1.0], [1.0], wanted=2.0, reason="why")
    write_section("features", "Features", "text", [fast])
    assert table_of(pages)["features"] == ("loop 2", "1 (1–1)", "≥ 2", "why")
    assert len(table_of(pages)) == 3


def test_a_page_of_an_earlier_version_gets_the_table_and_keeps_its_sections(pages):
    old = "# Benchmarks\n\nOld words.\n\n<!-- book -->\n## Book\n\nkept\n<!-- end of book -->\n"
    (pages / "results.md").write_text(old, encoding="utf-8")
    write_section("features", "Features", "text", [headline("features", "loop", [2.0], [1.0])])
    text = (pages / "results.md").read_text(encoding="utf-8")
    assert "Old words" not in text and "kept" in section(pages, "book")
    assert table_of(pages) == {"features": ("loop", "2 (2–2)", "–", "–")}


def test_a_mixtures_headlines_pool_the_kinds_of_features(monkeypatch):
    monkeypatch.setattr(headlines, "named", str)  # not every peer is installed everywhere
    both = [8.0, 9.0], [1.0, 1.0]
    found = {
        (1000, 3, "tanh"): {"iteration": both, "scoring": both, "busy": both, "torchgmm": both},
        (1000, 3, "relu"): {"iteration": ([5.0], [1.0]), "scoring": both},
        (100, 3, "tanh"): {"iteration": both, "scoring": both, "fit": ([10.0], [2.0])},
    }
    bounds = [[50, 3, k, 0.1, 0.2, "50%"] for k in (100, 1000)]
    rows = headlines.mixture_headlines(found, bounds, [[1000, "", "", "", 2.0, 1.5]])
    assert [row["what"] for row in rows] == [
        "EM iteration, K = 1000, d = 3, 2 kinds of features",
        "scoring, K = 1000, d = 3, 2 kinds of features",
        "EM iteration, K = 1000, d = 3, on busy cores",
        "EM iteration, K = 1000, d = 3",
        "EM iteration, K = 100, d = 3",
        "scoring, K = 100, d = 3",
        "whole fit, K = 100, d = 3",
    ]
    assert rows[0]["ratios"] == {"tanh": [8.0, 9.0], "relu": [5.0]}
    assert "50%" in rows[0]["limit"] and "1.5 times" in rows[2]["limit"]
    assert [row["wanted"] for row in rows] == [8, 6, None, None, 4, 3, 5]


def test_detectors_that_disagree_are_not_compared():
    scores = np.arange(10.0)
    assert detectors.difference(scores, scores + 0.01) == pytest.approx(0.01 / scores.std())
    with pytest.raises(AssertionError, match=r"differ by 0.35 standard deviations"):
        detectors.difference(scores, scores - 1)


def test_the_third_size_checks_the_line_through_two():
    found = [([3.0], 7.0), ([5.0], 8.0), ([9.9], 9.0)]  # 1 + 2 n / 1000 says 9 of the third
    rows = large.rows_of("work", [1000, 2000, 4000], found)
    assert [row[3] for row in rows] == pytest.approx([3, 5, 9, 1 + large.IMAGENET * 2e-3])
    assert [row[4] for row in rows] == [None, None, "+10%", None]
    summary = large.summary_of("work", rows)
    assert summary["limit"].endswith("off by +10%; memory beside the features: 9 MB")


def test_the_report_reads_class_folders_of_real_images_or_of_noise(tmp_path):
    assert report.make_images(tmp_path / "noise", 140, None) == 140
    classes = {path.name for path in (tmp_path / "noise" / "images" / "train").iterdir()}
    assert classes == set(report.CLASSES)
    for part in ("train", "test"):
        for name in report.CLASSES:
            (tmp_path / "real" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "noise" / "images" / part / name).rename(tmp_path / "real" / part / name)
    assert report.make_images(tmp_path / "own", 70, tmp_path / "real") == 70
    image = next((tmp_path / "own" / "images" / "test" / "cat").iterdir())
    assert image.resolve().parent == tmp_path / "real" / "test" / "cat"


def test_the_reports_network_is_a_resnet_20():
    assert sum(p.numel() for p in resnet20().parameters()) == 269_722  # He et al. 2016: 0.27 M
    assert resnet20()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_bytes_that_normalisations_read():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.BatchNorm2d(5))
    assert training.normalised_bytes(net, edge=4) == 2 * 5 * 4 * 4


def test_peak_memory_is_counted_anew():
    before = peak_memory(anew=True)
    if before is None:
        pytest.skip("the system tells no peak")
    np.ones(8_000_000)  # 61 MB
    grown = peak_memory()
    assert grown > before + 50
    assert peak_memory(anew=True) < grown - 50


def test_openblas_chooses_its_kernel_itself():
    code = "import os, benchmarks; print('OPENBLAS_CORETYPE' in os.environ)"
    environment = os.environ | {"OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


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
