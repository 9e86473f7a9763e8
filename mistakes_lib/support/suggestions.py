"""What somebody who mistyped a name may have meant."""

import difflib

__all__ = ["did_you_mean"]


def did_you_mean(name, known, form=": {}"):
    """The end of a message about an unknown name: the nearest known one, if any is near.

    Args:
        name: what was given.
        known: iterable of the names that there are.
        form: how the words stand in the message.

    Returns:
        str: the words in this form, or "" where no known name is near.

    Example:
        >>> "no data set 'cifar'" + did_you_mean("cifar", ["cifar10", "digits"])
        "no data set 'cifar': did you mean 'cifar10'?"
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    return form.format(f"did you mean {near[0]!r}?") if near else ""
