"""The repository itself: one list of dependencies, one direction of imports, no machine's paths."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


# --- Dependencies -------------------------------------------------------------------------------


def locked():
    """The versions that requirements.lock pins, and its lines."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines]
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}, lines


def test_the_lock_holds_pins_and_nothing_else():
    pins, lines = locked()
    assert len(pins) == len(lines), "a line is no pin (an index address, a local path?)"
    assert not any("://" in line or " @ " in line for line in lines)


REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(line for lines in EXTRAS.values() for line in lines),
    *PYPROJECT["build-system"]["requires"],  # make installs the project without build isolation
]


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_the_lock_satisfies(line):
    requirement, (pins, _) = Requirement(line), locked()
    version = pins.get(canonicalize_name(requirement.name))
    assert version, f"{requirement.name} is not locked: run `make lock`"
    assert requirement.specifier.contains(version, prereleases=True), "run `make lock`"


def test_conda_users_get_the_same_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip == {"pip": [f"-e .[{','.join(EXTRAS)}]"]}


# --- Imports ------------------------------------------------------------------------------------


def test_every_room_imports_only_rooms_below_it():
    """The contract in pyproject.toml; a new room that is not in it fails as well."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_table_in_contributing_is_the_contract():
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    expected = [set(layer.replace(" ", "").split("|")) for layer in reversed(layers)]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| room | holds |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rooms = [set(re.findall(r"`(\w+)/?`", line.split("|")[1])) for line in table]
    assert rooms == expected


# --- make ---------------------------------------------------------------------------------------


def test_make_keeps_bytecode_where_the_machine_would_not():
    """Else each of some hundred processes compiles torch, scikit-learn and matplotlib anew."""
    probe = f'probe: ; @"{sys.executable}" -c "import sys; print(sys.dont_write_bytecode)"'
    told = subprocess.run(
        ["make", "--no-print-directory", f"--eval={probe}", "probe"],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert told.stdout == "False\n", told.stderr


# --- Paths --------------------------------------------------------------------------------------


def test_no_file_names_a_path_of_somebodys_machine():
    kinds = ("*.py", "*.md", "*.yml", "*.toml", "*.lock", "*.cff", "*.json", "Makefile", ".ci/run")
    listing = subprocess.run(
        ["git", "ls-files", *kinds], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = listing.stdout.splitlines()
    assert files
    machine = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|work|tmp)/\w")
    for file in files:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert str(ROOT) not in text, file
        assert not machine.search(text), file
