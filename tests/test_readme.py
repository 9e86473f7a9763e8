"""What the README tells a reader to type does what it says."""

import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from mistakes_lib import load_dataset, load_experiment, load_grid, run_sweep
from mistakes_lib.book.notebooks import check_parameters, find_chapter
from mistakes_lib.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_the_lines_for_ones_own_classifier_run_and_keep_their_promise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = next(c for c in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "watched" in c)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    torch.manual_seed(0)
    splits = {split: load_dataset("digits", split) for split in ("train", "validation", "test")}
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))
    pixels = torch.from_numpy(splits["train"].images).float() / 255
    targets = torch.from_numpy(splits["train"].labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy((network((pixels - 0.3) / 0.4)), targets).backward()
        optimiser.step()
    noise = np.random.default_rng(0).integers(256, size=(50, 3, 8, 8), dtype=np.uint8)
    names = {
        "my_network": network,
        "my_mean": (0.3,) * 3,
        "my_std": (0.4,) * 3,
        "train_images": splits["train"].images,
        "train_labels": splits["train"].labels,
        "validation_images": splits["validation"].images,
        "validation_labels": splits["validation"].labels,
        "new_images": np.concatenate([splits["test"].images, noise]),
    }
    exec(code, names)
    suspicious = names["suspicious"]
    assert suspicious.shape == (len(splits["test"]) + 50,)
    assert suspicious[-50:].mean() > 0.9, "noise is flagged"
    assert suspicious[:-50].mean() < 0.15, "most test images are not"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("papermill")])
def test_papermill_lines_name_a_chapter_and_its_parameters(command):
    _, notebook, _, *options = shlex.split(command)
    source = (ROOT / notebook).with_suffix(".py").read_text(encoding="utf-8")
    for name in options[1::3]:
        assert re.search(rf"^{name} = ", source, flags=re.MULTILINE), name


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("mistakes sweep")])
def test_sweep_lines_name_a_grid_and_options_that_exist(command):
    _, _, grid, option, value = shlex.split(command)
    assert load_grid(ROOT / grid).cells("any")
    accepted = inspect.signature(run_sweep).parameters
    assert type(accepted[option.removeprefix("--")].default) in (int, type(None)) and value


@pytest.mark.parametrize("command", [c for c in COMMANDS if re.search(r"\bmistakes ", c)])
def test_every_line_of_the_command_has_options_that_exist(command):
    _, name, *arguments = shlex.split(re.search(r"\bmistakes [^>|]*", command)[0])
    own = typer.main.get_command(app).commands[name]
    given = own.make_context(name, arguments).params  # raises on what is no option
    if name == "chapter":
        values = dict(text.split("=") for text in given["parameter"])
        check_parameters(find_chapter(given["name"]), values)


RUN_COMMANDS = [c for c in COMMANDS if re.search(r"\bmistakes(_lib)? (run|train)", c)]


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_mistakes_lines_name_a_command_and_an_experiment(command):
    """Also where `accelerate launch -m mistakes_lib` stands for `mistakes`."""
    _, name, parameters, *options = shlex.split(command.split("-m ")[-1])
    assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    own = {}
    for option, value in zip(options[::2], options[1::2], strict=True):
        own[option.removeprefix("--").replace("-", "_")] = int(value) if value.isdigit() else value
    experiment = load_experiment(parameters, **own)
    assert experiment.data_set == own.get("data_set", experiment.data_set)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_lines_name_a_target(command):
    target = shlex.split(command)[1]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_file_that_it_names_is_there():
    for path in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / path).is_file(), path
