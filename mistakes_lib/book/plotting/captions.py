"""Figures with a number and a caption."""

import html

import matplotlib.pyplot as plt
from IPython.display import Markdown, display

__all__ = ["Figures"]


class Figures:
    """The figures of one chapter: each gets the next number, and a caption below it.

    In a notebook the caption is a paragraph. On the pages, book/extensions/figures.py makes one
    ``<figure>`` of both.

    Args:
        chapter: its number.

    Attributes:
        captions: number → caption of the figures shown so far.

    Example:
        >>> figures = Figures(4)
        >>> figures.number("density by group"), figures.number("ROC curves")
        ('4.1', '4.2')
        >>> figures.number("density by group")  # shown again, say by running its cell again
        '4.1'
    """

    def __init__(self, chapter):
        self.chapter = chapter
        self.captions = {}
        self._names = []

    def number(self, name):
        """The number of the figure with this name; a new name gets the next number.

        Args:
            name: tells the chapter's figures apart; readers do not see it.

        Raises:
            ValueError: the name is empty.
        """
        if not name:
            raise ValueError("a figure needs a name, such as 'ROC curves'")
        if name not in self._names:
            self._names.append(name)
        return f"{self.chapter}.{self._names.index(name) + 1}"

    def show(self, figure, name, caption):
        """Show a figure, and its number and caption below it.

        Args:
            figure: matplotlib Figure, or anything that Jupyter displays as a picture. A matplotlib
                Figure is closed.
            name: as for :meth:`number`.
            caption: text; its first sentence is what the figure shows.

        Raises:
            ValueError: name or caption is empty.
        """
        if not caption.strip():
            raise ValueError(f"the figure {name!r} needs a caption that says what it shows")
        number = self.number(name)
        self.captions[number] = caption
        display(figure)
        if isinstance(figure, plt.Figure):
            plt.close(figure)
        display(Markdown(f"**Figure {number}.** {html.escape(caption, quote=False)}"))
