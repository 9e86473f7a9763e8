"""Exercises that check themselves: is this the number that the exercise asks for?"""

import hashlib
import math
from dataclasses import dataclass
from numbers import Real
from types import SimpleNamespace

import numpy as np

from mistakes_lib.book.teaching.answers import ANSWERS
from mistakes_lib.book.teaching.exercises import chapter_defaults, find_exercise
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["Checked", "check", "digest_of"]

GRID = 10  # steps of the grid of a stored answer within its tolerance


@dataclass(frozen=True)
class Checked:
    """What :func:`check` found; a notebook shows the message.

    Attributes:
        right: whether the answer is the one that the exercise asks for.
        message: one line for the student.

    Example:
        >>> Checked(True, "Exercise 9.9: right.")
        Exercise 9.9: right.
    """

    right: bool
    message: str

    def __bool__(self):
        return self.right

    def __repr__(self):
        return self.message


def check(exercise, answer, *, run=None, **parameters):
    """Say whether an answer to an exercise of the book is right, or give a hint.

    The answer to an exercise that is solved by hand is stored as a salted hash. All others are
    computed anew from the run that the student has.

    Args:
        exercise: number on the chapter's page, such as "4.1", or label, such as "ex-price".
        answer: a number. ``...`` stands for "no answer yet".
        run: :class:`~mistakes_lib.runs.Run`, its folder or its name; by default the one that the
            chapter reads.
        parameters: those of the chapter that are not at their defaults, such as
            ``n_components=20``.

    Returns:
        Checked: ``right``, and a ``message``, which states the tolerance and otherwise a hint.

    Raises:
        ValueError: there is no such exercise, it asks for no number, or the answer is not finite.
        TypeError: the answer is no number, or the chapter has no such parameter.
        FileNotFoundError: there is no such run.

    Example:
        >>> check("ex-staircase", 7).right
        False
        >>> check("ex-staircase", 8)
        Exercise 3.1: right.
    """
    asked = find_exercise(exercise)
    if asked.label not in ANSWERS:
        raise ValueError(
            f"exercise {asked.number} asks for no single number: compare with its solution"
        )
    known = ANSWERS[asked.label]
    if answer is ...:
        return Checked(False, f"Exercise {asked.number}: put {known.asks} in the place of `...`.")
    value = _number(answer, asked, known)
    values = _parameters(asked, parameters)
    if known.digest:
        right = any(digest_of(asked.label, k) == known.digest for k in _near(value, known))
    else:
        expected = known.compute(_open(run, values), SimpleNamespace(**values))
        if expected is None:
            return Checked(False, f"Exercise {asked.number}: {known.missing}.")
        right = abs(value - float(expected)) <= known.tolerance
    verdict = "right." if right else f"not yet ({_precision(known)}). {known.hint}"
    return Checked(bool(right), f"Exercise {asked.number}: {verdict}")


def digest_of(label, step):
    """What is stored of an answer: a hash of its place on the grid, salted with the label.

    Args:
        label: of the exercise.
        step: int, the answer over a tenth of its tolerance; the answer itself where that is 0.
    """
    return hashlib.pbkdf2_hmac("sha256", str(step).encode(), label.encode(), 2000).hex()[:16]


def _near(value, known):
    """The steps of the grid that are within the tolerance of a value."""
    if not known.tolerance:
        return [int(value)] if float(value).is_integer() else []
    middle = round(value * GRID / known.tolerance)
    return range(middle - GRID, middle + GRID + 1)


def _precision(known):
    """How exact an answer has to be, in words."""
    return f"to within {known.tolerance:g}" if known.tolerance else "a whole number"


def _number(answer, asked, known):
    """The answer as a float; errors say what the exercise asks for."""
    if isinstance(answer, np.ndarray) and answer.size == 1:
        answer = answer.item()
    wanted = f"exercise {asked.number} asks for a number, {known.asks}"
    if not isinstance(answer, Real) or isinstance(answer, bool | np.bool_):
        raise TypeError(f"{wanted}; got {answer!r}")
    if not math.isfinite(answer):
        raise ValueError(f"{wanted}; got {answer}")
    return float(answer)


def _parameters(asked, given):
    """The chapter's parameters: its defaults, but for those that are given."""
    values = chapter_defaults(asked.chapter)
    for name in given:
        if name not in values:
            raise TypeError(
                f"{asked.chapter} has no parameter {name!r}{did_you_mean(name, values)}; "
                f"it has {', '.join(values)}"
            )
    return values | given


def _open(run, values):
    """The run that is given, or else the one that the chapter reads with these parameters."""
    from mistakes_lib.runs import Run, load_run

    if isinstance(run, Run):
        return run
    named = "{data_set}/{classifier}/seed{seed}".format_map(values)
    return load_run(run or values["run"] or named)
