"""What somebody types is read as they mean it."""

import pytest

from mistakes_lib.support.values import read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8 / 255", 8 / 255),
        ("8/255", 8 / 255),
        ("-1.5 / 2e1", -0.075),
        ("1e-2", 0.01),
        ("1E5", 1e5),
        (".5", 0.5),
        ("500", 500),
        ("0.1", 0.1),
        ("no", False),
        ("null", None),
        ("a / b", "a / b"),
        ("cifar10/densenet/seed0", "cifar10/densenet/seed0"),
        ("1/2/3", "1/2/3"),
        ("'8 / 255'", 8 / 255),
        ("[1, 8]", [1, 8]),
        ("[8/255, 1e-2, a]", [8 / 255, 0.01, "a"]),
        ("{a: 1e-2, b: [1 / 4]}", {"a": 0.01, "b": [0.25]}),
    ],
)
def test_numbers_and_fractions_are_read(text, value):
    found = read_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"), [("[1", "no value that YAML"), ("1/0", "by zero"), ("[1/0]", "by z")]
)
def test_what_is_no_value_is_said(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_value(text)
