"""The ``mistakes`` command: what it makes, what it prints, and how it fails."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import sysconfig
import termios
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from mistakes_lib.cli.app import app
from mistakes_lib.cli.shared import EXTRAS
from mistakes_lib.runs import load_run
from tests.helpers.commands import mistakes

COMMAND = Path(sysconfig.get_path("scripts")) / "mistakes"
PARAMETERS = {
    "data_set": "digits",
    "classifier": "tiny",
    "seed": 0,
    "experiment": {
        "architecture": {"name": "densenet_bc", "depth": 10, "growth_rate": 4, "dropout": 0.0},
        "recipe": {"epochs": 1, "schedule": "one_cycle", "max_shift": 1, "flip": False},
        "attacks": ["fgsm"],
        "eps_levels": [8],
        "attack_images": 10,
        "ood": {"photo_patches": 10},
        "mixtures": [2],
    },
}


@pytest.fixture
def parameters(tmp_path):
    path = tmp_path / "small.yml"
    path.write_text(yaml.safe_dump(PARAMETERS))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run, made by the command, and what that printed."""
    folder = tmp_path_factory.mktemp("cli")
    path = folder / "small.yml"
    path.write_text(yaml.safe_dump(PARAMETERS))
    result = mistakes("run", path, "--runs", folder / "runs", "--device", "cpu")
    assert result.exit_code == 0, result.output
    return folder / "runs", result


def assert_one_line_of_error(result, message):
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


# --- run -----------------------------------------------------------------------------------------


def test_run_makes_a_run_and_says_where(runs):
    folder, result = runs
    run = load_run(folder / "digits" / "tiny" / "seed0")
    assert run.info["experiment"]["mixtures"] == [2]
    last = result.stdout.splitlines()[-1]
    assert last == f"DenseNet-BC-10-4 on scikit-learn digits: {run.path}"
    for name in run.info["files"]:
        assert f"[digits/tiny/seed0] {name}\n" in result.stdout


def test_run_again_computes_nothing(runs, parameters):
    folder, _ = runs
    again = mistakes("run", parameters, "--runs", folder, "--device", "cpu")
    assert again.exit_code == 0
    assert [line.split(":")[0] for line in again.stdout.splitlines()] == [
        "[digits/tiny/seed0] done",
        "DenseNet-BC-10-4 on scikit-learn digits",
    ]


@pytest.mark.slow
def test_quiet_prints_nothing_at_all(nursery, parameters):
    """A whole run in a process of its own: no progress bar, no warning; found by its variable."""
    runs = parameters.parent / "runs"
    child = nursery.mistakes("run", parameters, "--quiet", "--device", "cpu", MISTAKES_RUNS=runs)
    assert (child.wait(), child.stdout, child.stderr) == (0, "", "")
    assert 0 <= load_run(runs / "digits" / "tiny" / "seed0").info["accuracy"]["test"] <= 1


@pytest.mark.slow
def test_importing_what_makes_a_run_says_nothing():
    imports = "import torch._dynamo, mistakes_lib.runs.making, mistakes_lib.cli.app"
    said = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_list_of_commands_loads_no_network_library():
    """What `mistakes --help` costs beside Python is in benchmarks/results.md."""
    check = (
        "import sys; from mistakes_lib.cli.app import app; app(['--help'], standalone_mode=False)"
    )
    check += "; sys.exit(bool({'torch', 'sklearn', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


def test_bars_are_for_a_terminal_and_lines_for_a_log(nursery, parameters):
    def train(runs, **options):
        folder = parameters.parent / runs
        arguments = ("train", parameters, "--device", "cpu")
        return nursery.mistakes(*arguments, MISTAKES_RUNS=folder, **options)

    log = train("a")
    assert log.wait() == 0
    assert re.fullmatch(r"epoch 1/1: loss [\d.]+, train [\d.]+, validation [\d.]+\n", log.stderr)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 100))
    shown = train("b", terminal=os.ttyname(theirs))
    os.close(theirs)
    bars = b""
    with contextlib.suppress(OSError):  # what a terminal says when the other side has gone
        while part := os.read(ours, 65536):
            bars += part
    assert shown.wait() == 0
    assert b"epoch 1/1: 100%|" in bars and b"epoch 1/1: loss" not in bars
    assert shown.stdout.replace("/b/", "/a/") == log.stdout


# --- train ---------------------------------------------------------------------------------------


def test_train_takes_what_the_file_does_not_say(parameters):
    folder = parameters.parent / "runs"
    options = ["--seed", 4, "--epochs", 2, "--precision", "bfloat16", "--device", "cpu"]
    result = mistakes("train", parameters, "--runs", folder, *options)
    assert result.exit_code == 0, result.output
    run = load_run(folder / "digits" / "tiny" / "seed4")
    assert result.stdout.splitlines()[-1] == f"DenseNet-BC-10-4 on scikit-learn digits: {run.path}"
    assert len(run.info["training"]["history"]) == 2
    assert run.info["experiment"]["recipe"]["precision"] == "bfloat16"
    assert "attacks/fgsm-8.safetensors" not in run.info["files"]


def test_train_again_computes_nothing_unless_told_to(runs, parameters):
    folder, _ = runs
    for options, computed in [((), 0), (["--restart"], 1)]:
        again = mistakes("train", parameters, "--runs", folder, "--device", "cpu", *options)
        assert again.exit_code == 0, again.output
        assert again.stdout.count("] classifier.safetensors\n") == computed


def test_the_books_own_parameters_are_known_by_name(tmp_path):
    options = ["--data", tmp_path, "--runs", tmp_path / "runs", "--quiet"]
    result = mistakes("train", "paper", "--preset", "wrn_28_1", *options)
    assert_one_line_of_error(result, "no preset 'wrn_28_1': did you mean 'wrn_28_10'?")
    result = mistakes("train", "papers", *options)
    assert_one_line_of_error(result, "no parameters file papers")


# --- show ----------------------------------------------------------------------------------------


def test_show_prints_the_accuracy_of_each_split(runs):
    folder, _ = runs
    path = folder / "digits" / "tiny" / "seed0"
    info = load_run(path).info
    result = mistakes("show", path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "DenseNet-BC-10-4 on scikit-learn digits"
    for line, (split, count) in zip(
        lines[1:], [("train", 1149), ("validation", 288), ("test", 360)], strict=False
    ):
        assert line.split() == [split, str(count), "images", f"{info['accuracy'][split]:.2%}"]
    assert info["training"]["hardware"] in lines[-1]


def test_publish_copies_a_run_once(runs, tmp_path):
    path = runs[0] / "digits" / "tiny" / "seed0"
    arguments = ("publish", path, "--to", tmp_path, "--no-training-features")
    arguments += ("--no-classifier",)
    result = mistakes(*arguments)
    assert result.exit_code == 0, result.output
    copy = load_run(tmp_path / "digits" / "tiny" / "seed0")
    assert f" MB in {copy.path}" in result.stdout.replace("\n", " ")
    assert not copy.has_training_features
    assert copy.info["files"].keys() >= {"head.safetensors"}
    assert "classifier.safetensors" not in copy.info["files"]
    assert_one_line_of_error(mistakes(*arguments), "is there already: remove it first")


def test_show_finds_a_run_by_its_name(runs, monkeypatch):
    folder, _ = runs
    monkeypatch.setenv("MISTAKES_RUNS", str(folder))
    assert mistakes("show", "digits/tiny/seed0").exit_code == 0
    unknown = mistakes("show", "digits/tiny/seed1")
    assert_one_line_of_error(unknown, "no run digits/tiny/seed1: known runs are ")
    assert "digits/tiny/seed0" in unknown.stderr


# --- errors --------------------------------------------------------------------------------------


def changed(**values):
    return PARAMETERS | {"experiment": PARAMETERS["experiment"] | values}


@pytest.mark.parametrize(
    ("contents", "options", "message"),
    [
        (changed(mixture=[2]), [], "did you mean 'mixtures'?"),
        (changed(ood={"photos": 3}), [], "experiment.ood.photos must be a data set, got 'photos'"),
        (
            changed(architecture={"name": "resnet"}),
            [],
            "experiment.architecture.name must be a known network, got 'resnet'",
        ),
        (changed(architecture={"name": "densenet_bc", "deep": 1}), [], "deep"),
        (
            PARAMETERS | {"data_set": "cifar9"},
            [],
            "experiment.data_set must be a data set, got 'cifar9'",
        ),
        (PARAMETERS | {"data_set": "imagefolder:nowhere"}, [], "no folder nowhere"),
        (PARAMETERS | {"data_set": "tiny_imagenet"}, ["--data", "nowhere"], "MISTAKES_DATA"),
        ({"seed": 1}, [], "no section 'experiment'"),
        ("a: [", [], "is no YAML"),
        (PARAMETERS, ["--device", "abacus"], "abacus"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(tmp_path, contents, options, message):
    path = tmp_path / "wrong.yml"
    path.write_text(contents if isinstance(contents, str) else yaml.safe_dump(contents))
    result = mistakes("run", path, "--runs", tmp_path / "runs", "--quiet", *options)
    assert_one_line_of_error(result, message)


def test_a_missing_file_is_one_line(tmp_path):
    assert_one_line_of_error(mistakes("run", tmp_path / "no.yml"), "no parameters file")


def test_debug_shows_where(tmp_path):
    result = mistakes("run", tmp_path / "no.yml", "--debug")
    assert isinstance(result.exception, FileNotFoundError)
    assert "error: " not in result.output


def test_a_wrong_command_line_is_explained():
    for arguments in (["run"], ["train"], ["show"], ["fly"], ["run", "x.yml", "--fast"]):
        result = mistakes(*arguments)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr


# --- the installed command -----------------------------------------------------------------------


@pytest.mark.slow
def test_help_of_the_installed_command():
    environment = os.environ | {"TERM": "dumb", "COLUMNS": "80"}
    result = subprocess.run([COMMAND, "--help"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stderr == ""
    for word in ("Usage: mistakes", "run", "show", "Train a classifier", "Say what a run is"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("typed", "found"), [("mistakes rep", {"report"}), ("mistakes report --mod", {"--model"})]
)
def test_the_shell_completes_commands_and_options(typed, found):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    words["_MISTAKES_COMPLETE"] = "complete_bash"
    result = CliRunner().invoke(app, env=words, prog_name="mistakes")
    assert set(result.stdout.split()) == found


def test_without_a_command_it_shows_its_help():
    assert "Usage: " in mistakes().output


# --- claims --------------------------------------------------------------------------------------


def test_claims_counts_and_lists_the_verdicts(tmp_path):
    ledger, results = tmp_path / "claims.yml", tmp_path / "results"
    claim = {"section": "§1", "ours": "p = {test.p}", "where": "04_mistakes"}
    claims = [
        claim | {"id": "one", "says": "It is.", "reproduced": "test.p < 0.1"},
        claim | {"id": "two", "says": "It is small.", "reproduced": "test.p < 0.01"},
        claim | {"id": "three", "says": "It is new.", "reproduced": "new.p < 1", "needs": "news"},
    ]
    ledger.write_text(yaml.safe_dump(claims))
    options = ["--ledger", ledger, "--results", results]
    assert_one_line_of_error(mistakes("claims", *options), "no evidence in ")
    results.mkdir()
    (results / "04_mistakes.json").write_text('{"test": {"p": 0.05}}')
    result = mistakes("claims", *options)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1 reproduced",
        "  one: It is.",
        "    p = 0.05",
        "0 partly reproduced",
        "1 not reproduced",
        "  two: It is small.",
        "    p = 0.05",
        "0 undecided",
        "1 not testable here",
        "  three: It is new.",
        "    missing: news",
    ]


def test_claims_judges_the_books_own_evidence():
    result = mistakes("claims")
    assert result.exit_code == 0
    assert "mistakes-have-unlikely-features" in result.stdout


def test_a_missing_part_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)  # as where it is not installed
    said = mistakes("chapter", "04_mistakes", "--list")
    assert said.exit_code == 1
    assert said.stderr.endswith('; install it with: pip install "mistakes[book]"\n')


@pytest.mark.parametrize("extra", sorted(set(EXTRAS.values())))
def test_the_parts_are_those_of_the_package(extra):
    brought = {
        canonicalize_name(Requirement(line).name)
        for line in metadata.requires("mistakes")
        if f'extra == "{extra}"' in line
    }
    assert {module for module, part in EXTRAS.items() if part == extra} - {"distributed"} <= brought
