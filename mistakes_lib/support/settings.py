"""Settings that are checked when they are made: types, ranges, names, each problem in one line.

A class of settings is a pydantic dataclass: built by position or by keyword, frozen, compared by
value. What pydantic finds wrong is said as one line a problem, with the path of the field.
"""

import functools
import inspect
from dataclasses import fields, is_dataclass
from typing import Annotated, Literal, get_args, get_origin

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mistakes_lib.support.suggestions import did_you_mean

__all__ = [
    "FLAG",
    "SettingsError",
    "arguments",
    "checked_arguments",
    "kept",
    "number",
    "one_of",
    "settings",
    "several",
    "six_n_plus_4",
    "whole",
]

WHAT = {  # pydantic's name of a problem → what was expected
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "invalid_key": "a text",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "tuple_type": "a list",
    "string_too_short": "a text with at least one character",
    "too_long": "a list with at most {max_length} entries",
    "literal_error": "{expected}",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
}


class SettingsError(ValueError):
    """What is wrong with settings, one line a problem.

    Args:
        problems: list of (path, text): the names and places that lead to a field, and what is
            wrong there, such as ``(("recipe", "epochs"), "must be at least 1, got 0")``.
        owner: what the settings are of; every path begins with it.

    Example:
        >>> print(SettingsError([(("then", 0, "lr"), "must be above 0, got -1")], "experiment"))
        experiment.then[0].lr must be above 0, got -1
    """

    def __init__(self, problems, owner=""):
        self.problems = list(problems)
        lines = [f"{_path(owner, path)} {text}".lstrip() for path, text in self.problems]
        super().__init__("\n".join(lines))


def _path(owner, parts):
    path = owner
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


# --- kinds of values -----------------------------------------------------------------------------


def _plain(value):
    """A NumPy number as Python's, which files and JSON hold."""
    return value.item() if isinstance(value, np.generic) else value


def _listed(value):
    return tuple(value) if isinstance(value, list) else value


def _as_given(value, check):
    check(value)
    return value


def kept(kind):
    """A kind of value that is checked, and kept as it was given."""
    return Annotated[kind, WrapValidator(_as_given)]


def whole(least, most=None):
    """A whole number from ``least`` to ``most``; 2.0 and True are none."""
    return Annotated[int, Field(strict=True, ge=least, le=most), BeforeValidator(_plain)]


def six_n_plus_4():
    """A depth of a network of three groups of n blocks: 6 n + 4 with n ≥ 1, at most 1000."""

    def check(depth):
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"must be 6 n + 4 with n ≥ 1 (10, 16, …, 28, 40, 100), got {depth}")
        return depth

    return Annotated[whole(1, 1000), AfterValidator(check)]


def number(**limits):
    """A finite number within limits ``gt``, ``ge``, ``lt``, ``le``; whole numbers stay whole."""
    number = Annotated[float, Field(strict=True, allow_inf_nan=False, **limits)]
    return Annotated[number, WrapValidator(_as_given), BeforeValidator(_plain)]


FLAG = Annotated[bool, Field(strict=True)]


def one_of(*values):
    """One of these texts."""
    return Literal[values]


def several(kind, count=None):
    """A list or tuple of values of one kind, kept as a tuple; of ``count`` values if given."""
    values = tuple[kind, ...] if count is None else tuple[(kind,) * count]
    return Annotated[values, Field(strict=True), BeforeValidator(_listed)]


# --- classes of settings, and arguments of functions ---------------------------------------------


def settings(owner):
    """Make a class one of settings: a frozen pydantic dataclass that says what is wrong with it.

    Args:
        owner: what problems call it, the beginning of every path.

    Raises (the class, when it is called or copied with ``dataclasses.replace``):
        SettingsError: a value of a wrong type or outside its range, an unknown or a missing name.

    Example:
        >>> @settings("recipe")
        ... class Recipe:
        ...     epochs: whole(1) = 300
        >>> Recipe(5)
        Recipe(epochs=5)
        >>> Recipe(epoch=5)
        Traceback (most recent call last):
            ...
        mistakes_lib.support.settings.SettingsError: recipe has an unknown key 'epoch': did you \
mean 'epochs'?
    """

    def decorate(cls):
        cls = pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls)
        pydantic_init = cls.__init__

        @functools.wraps(pydantic_init)
        def __init__(self, *args, **kwargs):
            try:
                pydantic_init(self, *args, **kwargs)
            except ValidationError as error:
                problems = [p for each in error.errors() for p in _problems(cls, each)]
                raise SettingsError(problems, owner) from None

        cls.__init__ = __init__
        cls.__signature__ = _readable(inspect.signature(cls))
        return cls

    return decorate


def arguments(owner, kinds):
    """A class of settings in which every name may be left out: checks arguments of a function.

    Args:
        owner: as for :func:`settings`.
        kinds: dict of name → kind of value.

    Example:
        >>> arguments("vae", {"hidden": whole(1)})(hidden=-3)
        Traceback (most recent call last):
            ...
        mistakes_lib.support.settings.SettingsError: vae.hidden must be at least 1, got -3
    """
    body = {"__annotations__": dict(kinds), "__module__": __name__, **dict.fromkeys(kinds)}
    checked = settings(owner)(type("Arguments", (), body))
    checked.__doc__ = None  # the class that it checks explains its arguments
    return checked


def checked_arguments(**kinds):
    """Let a function check its arguments, and refuse those that it does not know.

    Args:
        kinds: kind of value of each argument that is to be checked.

    Raises (the function):
        SettingsError: as for :func:`settings`; the path is the argument's name.

    Example:
        >>> @checked_arguments(depth=whole(10))
        ... def network(*, depth=100):
        ...     return depth
        >>> network(depths=40)
        Traceback (most recent call last):
            ...
        mistakes_lib.support.settings.SettingsError: has an unknown key 'depths': did you mean \
'depth'?
    """
    check = arguments("", kinds)

    def decorate(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args, **kwargs):
            problems = [_unknown((), n, signature.parameters) for n in kwargs
                        if n not in signature.parameters]  # fmt: skip
            if problems:
                raise SettingsError(problems)
            given = signature.bind(*args, **kwargs).arguments
            check(**{name: value for name, value in given.items() if name in kinds})
            return function(*args, **kwargs)

        return checked

    return decorate


def _readable(signature):
    """The signature with the plain types: Annotated kinds are too long to read."""
    parameters = [
        each.replace(annotation=_bare(each.annotation)) for each in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def _bare(annotation):
    while hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return get_origin(annotation) or annotation  # tuple[kind, ...] is a tuple


# --- what pydantic says, in our words ------------------------------------------------------------


def _problems(cls, error):
    """Yield (path, text) for one of pydantic's errors about an instance of ``cls``."""
    kind, path = error["type"], [part for part in error["loc"] if part != "[key]"]
    if path and isinstance(path[0], int):  # an argument by position
        names = [field.name for field in fields(cls)]
        path[0] = names[path[0]] if path[0] < len(names) else path[0]
    if kind == "value_error":
        yield from _said(path, error["ctx"]["error"])
        return
    owner = _class_at(cls, path[:-1])
    if kind == "unexpected_keyword_argument":
        yield _unknown(path[:-1], path[-1], [field.name for field in fields(owner)])
    elif kind == "unexpected_positional_argument":
        yield path[:-1], f"takes no argument {error['input']!r} by position"
    elif kind == "missing":
        place = f"value number {path[-1] + 1}" if isinstance(path[-1], int) else path[-1]
        yield path[:-1], f"lacks {place}"
    else:
        yield path, _wrong(kind, error)


def _said(path, error):
    """What a validator of ours said about the field at ``path``."""
    if isinstance(error, SettingsError):
        return [((*path, *inner), text) for inner, text in error.problems]
    return [(path, str(error))]


def _unknown(path, name, known):
    end = did_you_mean(name, known) or f"; known: {', '.join(known)}"
    return path, f"has an unknown key {name!r}{end}"


def _wrong(kind, error):
    """ "must be …, got …" """
    context = error.get("ctx", {})
    if kind not in WHAT:
        return f"is wrong: {error['msg']}, got {error['input']!r}"
    text = f"must be {WHAT[kind].format_map(context)}, got {error['input']!r}"
    if kind == "literal_error":
        known = [
            value.strip("'") for value in context["expected"].replace(" or ", ", ").split(", ")
        ]
        text += did_you_mean(error["input"], known)
    return text


def _class_at(cls, path):
    """The class of settings that the names in ``path`` lead to, None if it leads elsewhere."""
    for part in path:
        if cls is not None and not isinstance(part, int):
            found = {field.name: field.type for field in fields(cls)}
            cls = _settings_in(found.get(part))
    return cls


def _settings_in(annotation):
    if is_dataclass(annotation):
        return annotation
    return next(filter(None, map(_settings_in, get_args(annotation))), None)
