"""Figures that readers can move: the numbers come from Python, the drawing is done in the page.

Each is an HTML output with its data and a few kilobytes of script of our own inside, so that it
works in the book's pages without a network and in a notebook alike. Nothing in it is random: the
same data give the same bytes.
"""

from mistakes_lib.book.interactive.figure import InteractiveFigure
from mistakes_lib.book.interactive.mixture import mixture_explorer
from mistakes_lib.book.interactive.threshold import threshold_explorer

__all__ = ["InteractiveFigure", "mixture_explorer", "threshold_explorer"]
