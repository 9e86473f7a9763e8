"""A Sphinx extension: a negative number has a minus sign on the pages, and no hyphen.

Python writes "-0.25". In prose, captions and tables a reader expects "−0.25", which does not break
at the end of a line either. Code and formulas stay as they are.
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

HYPHEN = re.compile(r"(?<![\w\-–−./])-(?=\d)")
CELL = re.compile(r"(<t[dh][^>]*>)([^<]*)")
KEPT = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment)


def setup(app):
    """Let Sphinx ask :class:`MinusSigns` for every page."""
    app.add_post_transform(MinusSigns)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class MinusSigns(SphinxPostTransform):
    """Write the minus signs of a page's text and of its tables."""

    default_priority = 7  # after outputs are chosen, with 4

    def run(self, **kwargs):
        """Go through the texts and tables of the page."""
        for text in list(self.document.findall(nodes.Text)):
            if HYPHEN.search(text) and not is_kept(text):
                text.parent.replace(text, nodes.Text(with_minus(text)))
        for table in self.document.findall(nodes.raw):
            if table.get("format") == "html":
                table[:] = [nodes.Text(in_cells(table.astext()))]


def is_kept(text):
    """Whether a text stands in code, in a formula or in raw HTML."""
    node = text.parent
    while node is not None and not isinstance(node, KEPT):
        node = node.parent
    return node is not None


def with_minus(text):
    """A text whose negative numbers have a minus sign.

    Example:
        >>> with_minus("from -4.2 to -87.3 with GMM-100, on 2026-11-27")
        'from −4.2 to −87.3 with GMM-100, on 2026-11-27'
    """
    return HYPHEN.sub("−", text)


def in_cells(html):
    """HTML whose table cells have minus signs.

    Example:
        >>> in_cells('<p>-1</p><td class="x">-0.25 to -0.10</td>')
        '<p>-1</p><td class="x">−0.25 to −0.10</td>'
    """
    return CELL.sub(lambda cell: cell[1] + with_minus(cell[2]), html)
