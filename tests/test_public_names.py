"""What `mistakes_lib` promises to export is there, documented, and cheap to import."""

import doctest
import inspect
import subprocess
import sys

import pytest

import mistakes_lib

NAMES = [name for name in mistakes_lib.__all__ if name != "plotting"]  # which is a module


@pytest.mark.parametrize("name", NAMES)
def test_name_is_importable_and_documented(name):
    value = getattr(mistakes_lib, name)
    assert value.__name__ == name
    assert inspect.getdoc(value), f"{name} has no docstring"
    assert name in inspect.getmodule(value).__all__


@pytest.mark.parametrize("name", [n for n in NAMES if n[0].islower()])
def test_every_argument_is_explained(name):
    function = getattr(mistakes_lib, name)
    text = inspect.getdoc(function)
    for argument in inspect.signature(function).parameters:
        assert argument.strip("*") in text, f"{name}: {argument} is not in the docstring"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_example_that_pytest_runs(name):
    examples = doctest.DocTestParser().get_examples(getattr(mistakes_lib, name).__doc__)
    assert any(example.want for example in examples), f"{name} has no example with a result"
    assert not any(doctest.SKIP in example.options for example in examples)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attribute Oracle"):
        _ = mistakes_lib.Oracle


def test_importing_the_package_loads_no_network_library():
    check = "import sys, mistakes_lib; assert 'load_run' in dir(mistakes_lib)"
    check += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_drawing_a_figure_loads_no_network_library():
    check = "import sys; from mistakes_lib import plotting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_importing_every_name_loads_neither_torchvision_nor_the_compiler():
    check = "import sys, mistakes_lib; [getattr(mistakes_lib, n) for n in mistakes_lib.__all__]"
    check += "; sys.exit(bool({'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
