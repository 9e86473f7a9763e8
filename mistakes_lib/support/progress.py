"""Progress bars for people: at a terminal and in a notebook, but not in a pipe or a log."""

import sys

from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

__all__ = ["progress_bar", "somebody_watches"]


def progress_bar(iterable=None, *, shown, **options):
    """A tqdm bar that nobody sees where it would only fill a log.

    Args:
        iterable: what to go through, or None for a bar that is moved by hand.
        shown: whether there may be a bar at all.
        options: what tqdm takes, such as ``desc``, ``unit`` and ``total``.

    Returns:
        ``tqdm`` instance, to iterate over or to enter.

    Example:
        >>> [2 * i for i in progress_bar([1, 2, 3], shown=True)]  # no bar here: no terminal
        [2, 4, 6]
    """
    return tqdm(iterable, disable=not (shown and somebody_watches()), **options)


def somebody_watches():
    """Whether a bar would be seen: this is a notebook, or the errors go to a terminal."""
    return issubclass(tqdm, tqdm_notebook) or sys.stderr.isatty()
