"""The repository itself: one list of dependencies, one direction of imports, no machine's paths."""

import ast
import re
import subprocess
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

# From left to right. A room imports rooms of smaller numbers only, so there are no circles.
ROOMS = {
    "validation": 0,
    "storage": 0,
    "progress": 0,
    "dropout": 0,
    "suggestions": 0,
    "chapters": 1,
    "image_files": 1,
    "data": 2,
    "hypothesis": 1,
    "classifiers": 2,
    "features": 3,
    "feature_files": 4,
    "networks": 3,
    "folder_features": 4,
    "augmentation": 3,
    "averaging": 0,
    "processes": 4,
    "training": 5,
    "temporal_ensembling": 6,
    "density": 4,
    "attacks": 5,
    "purification": 5,
    "scores": 5,
    "pytorch_ood": 6,
    "evaluation": 6,
    "detector": 8,
    "plotting": 7,
    "interactive": 7,
    "comparison": 7,
    "claims": 8,
    "report": 9,
    "report_page": 10,
    "model_report": 11,
    "experiment": 8,
    "runs": 9,
    "sweep": 10,
    "doctor": 10,
    "cli": 12,
    "__main__": 13,
}
# Figures are drawn from results, so that plotting does not load a network.
PLOTTING_MAY_IMPORT = {"validation", "hypothesis", "evaluation"}

LIBRARY = ROOT / "mistakes_lib"
MODULES = sorted(set(LIBRARY.rglob("*.py")) - {LIBRARY / "__init__.py"})


def imported_rooms(path):
    """Yield the rooms that a module imports, wherever in it the import stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("mistakes_lib."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_room_imports_only_rooms_to_its_left(path):
    room = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    assert room in ROOMS, f"{room} is a new room: give it a place in ROOMS"
    for other in set(imported_rooms(path)) - {room}:
        assert other in ROOMS, f"{path.name} imports {other}, which is no room"
        assert ROOMS[other] < ROOMS[room], f"{room} must not import {other}"
        assert room != "plotting" or other in PLOTTING_MAY_IMPORT, f"plotting imports {other}"


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
