"""Settings: what is accepted stays as it was given, what is refused is named by its path."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from mistakes_lib.support.settings import (
    FLAG,
    SettingsError,
    arguments,
    checked_arguments,
    kept,
    number,
    one_of,
    settings,
    several,
    whole,
)


@settings("part")
class Part:
    size: whole(1, 9) = 3
    rate: number(gt=0, le=1) = 0.5
    mode: one_of("slow", "quick") = "slow"
    on: FLAG = True


@settings("thing")
class Thing:
    name: one_of("a", "b")
    part: Part = Part()
    parts: several(Part) = ()
    pair: several(whole(0), count=2) = (0, 1)
    network: kept(arguments("network", {"depth": whole(4)})) = None

    def __post_init__(self):
        if self.part.size == 7:
            raise SettingsError([(("part", "size"), "must not be 7")])


def test_settings_are_frozen_values_built_by_position_or_keyword():
    thing = Thing("a", {"size": 2}, [{"rate": 1}], network={"depth": 4})
    assert thing == Thing(name="a", part=Part(2), parts=(Part(rate=1),), network={"depth": 4})
    assert hash(thing.part) == hash(Part(size=2))
    assert asdict(thing)["parts"] == ({"size": 3, "rate": 1, "mode": "slow", "on": True},)
    assert type(thing.parts[0].rate) is int, "as it was given: JSON of it stays the same"
    assert type(Part(np.int64(4), np.float64(0.25)).size) is int
    with pytest.raises(AttributeError):
        thing.name = "b"
    assert replace(thing, name="b").part == thing.part


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"part": {"size": 0}}, "thing.part.size must be at least 1, got 0"),
        ({"part": {"size": 10}}, "thing.part.size must be at most 9, got 10"),
        ({"part": {"size": 2.0}}, "thing.part.size must be a whole number, got 2.0"),
        ({"part": {"size": True}}, "thing.part.size must be a whole number, got True"),
        ({"part": {"size": "2"}}, "thing.part.size must be a whole number, got '2'"),
        ({"part": {"rate": 0}}, "thing.part.rate must be above 0, got 0"),
        ({"part": {"rate": "x"}}, "thing.part.rate must be a number, got 'x'"),
        ({"part": {"rate": math.nan}}, "thing.part.rate must be a finite number, got nan"),
        ({"part": {"on": "no"}}, "thing.part.on must be true or false, got 'no'"),
        (
            {"part": {"mode": "quik"}},
            "thing.part.mode must be 'slow' or 'quick', got 'quik': did you mean 'quick'?",
        ),
        ({"part": {"sise": 2}}, "thing.part has an unknown key 'sise': did you mean 'size'?"),
        ({"part": {"zzz": 2}}, "thing.part has an unknown key 'zzz'; known: size, rate, mode, on"),
        ({"part": 3}, "thing.part must be a mapping, got 3"),
        ({"part": {"size": 7}}, "thing.part.size must not be 7"),
        ({"parts": [{}, {"size": 0}]}, "thing.parts[1].size must be at least 1, got 0"),
        (
            {"parts": [{"sise": 0}]},
            "thing.parts[0] has an unknown key 'sise': did you mean 'size'?",
        ),
        ({"parts": {"size": 3}}, "thing.parts must be a list, got {'size': 3}"),
        ({"pair": [1]}, "thing.pair lacks value number 2"),
        ({"pair": [1, -1]}, "thing.pair[1] must be at least 0, got -1"),
        ({"network": {"depth": 3}}, "thing.network.depth must be at least 4, got 3"),
        (
            {"network": {"dept": 3}},
            "thing.network has an unknown key 'dept': did you mean 'depth'?",
        ),
        ({"partz": []}, "thing has an unknown key 'partz': did you mean 'part'?"),
    ],
)
def test_a_problem_is_one_line_with_the_path_of_the_field(values, line):
    with pytest.raises(ValueError) as caught:
        Thing("a", **values)
    assert str(caught.value) == line


def test_all_problems_are_said_and_arguments_by_position_have_their_names():
    with pytest.raises(SettingsError) as caught:
        Thing("c", {"size": 0, "rate": 2})
    assert str(caught.value).splitlines() == [
        "thing.name must be 'a' or 'b', got 'c'",
        "thing.part.size must be at least 1, got 0",
        "thing.part.rate must be at most 1, got 2",
    ]
    with pytest.raises(SettingsError, match=r"^thing lacks name$"):
        Thing()
    with pytest.raises(SettingsError, match="at least 1"):
        replace(Part(), size=0)


def test_a_function_checks_its_arguments_and_knows_no_others():
    @checked_arguments(n=whole(2), depth=whole(10))
    def network(n, *, depth=100, mean=0):
        """Its own words."""
        return n, depth, mean

    assert network(2, depth=10, mean="anything") == (2, 10, "anything")
    assert network.__doc__ == "Its own words."
    for call, line in [
        (lambda: network(1), "n must be at least 2, got 1"),
        (lambda: network(2, depth=4), "depth must be at least 10, got 4"),
        (lambda: network(2, dept=4), "has an unknown key 'dept': did you mean 'depth'?"),
    ]:
        with pytest.raises(SettingsError) as caught:
            call()
        assert str(caught.value) == line
