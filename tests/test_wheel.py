"""The library without its clone: the built wheel, in an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mistakes_lib.book.claims import load_claims
from mistakes_lib.book.evidence import stored_evidence
from mistakes_lib.book.matrix import judge_runs

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
RUN = "digits/wrn_10_1/seed0"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with a run of one epoch, and a function that runs ``mistakes`` of the wheel there.

    The wheel is built from a copy of what git knows, so that nothing is written into the clone.
    """
    source, site, folder = (tmp_path_factory.mktemp(name) for name in ("source", "site", "empty"))
    kept = ("mistakes_lib", "notebooks", "book/claims.yml", "book/results", "book/evidence")
    kept += ("book/reports", "book/sweeps", "pyproject.toml", "setup.py", "MANIFEST.in")
    kept += ("README.md", "LICENSE")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *kept],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(lambda name: (ROOT / name).is_file(), listing.stdout.splitlines()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-c", BUILD, site], cwd=source, check=True, stdout=subprocess.DEVNULL
    )
    (wheel,) = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    own = {"PYTHONPATH": str(site), "MISTAKES_DATA": str(folder / "images"), "MISTAKES_RUNS": ""}
    own["IPYTHONDIR"] = str(site / "ipython")

    def mistakes(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "mistakes_lib", *map(str, arguments)],
            cwd=folder,
            env=os.environ | own,
            capture_output=True,
            text=True,
        )

    made = mistakes("run", "quick", "--preset", "wrn_10_1", "--epochs", "1", "--quiet")
    assert made.returncode == 0, made.stderr
    return folder, mistakes


def test_a_run_is_made_by_the_name_of_its_parameters(elsewhere):
    folder, mistakes = elsewhere
    assert (folder / "runs" / RUN / "run.json").is_file()
    said = mistakes("show", RUN)
    assert said.returncode == 0 and "WRN-10-1 on scikit-learn digits" in said.stdout


def test_a_chapter_is_executed_on_ones_own_run(elsewhere):
    folder, mistakes = elsewhere
    chapter = "03_hypothesis_tests"
    options = ("-p", f"run={RUN}", "-p", "n_components=20", "--quiet")
    said = mistakes("chapter", chapter, *options)
    assert said.returncode == 0, said.stderr
    assert "Verdict" in (folder / f"{chapter}.ipynb").read_text(encoding="utf-8")


def test_the_claims_are_judged_on_the_published_evidence(elsewhere):
    said = elsewhere[1]("claims")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    cells = judge_runs(load_claims(ROOT / "book" / "claims.yml"), stored_evidence())
    for (_, run), judgement in cells.items():
        assert f"  {run}: {judgement.verdict}. {judgement.ours}" in lines
    assert any(line.startswith("Contribution 3 ") for line in lines)


def test_a_report_is_made(elsewhere):
    folder, mistakes = elsewhere
    rng = np.random.default_rng(0)
    options = []
    for part in ("train", "validation", "test"):
        logits = rng.normal(size=(300, 3))
        labels = np.where(rng.random(300) < 0.7, logits.argmax(axis=1), 0)
        np.savez(folder / part, features=logits, logits=logits, labels=labels)
        options += [f"--{part}", f"{part}.npz"]
    said = mistakes("report", *options, "--components", 2)
    assert said.returncode == 0, said.stderr
    assert (folder / "report" / "report.html").stat().st_size > 1_000_000  # plotly is inside


def test_help_and_doctor_work(elsewhere):
    for arguments in (("--help",), ("doctor",)):
        said = elsewhere[1](*arguments)
        assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("show", "cifar100/densenet_bc_100_12/seed0"), "the published runs"),
        (("chapter", "03_hypothesis_tests", "--quiet"), "the published runs"),
        (("book",), "the pages of the book"),
    ],
)
def test_what_only_a_clone_has_is_said_in_one_line(elsewhere, command, missing):
    said = elsewhere[1](*command)
    assert said.returncode == 1
    assert f"a clone of the repository has {missing}" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
