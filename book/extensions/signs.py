"""A Sphinx extension: the numbers of prose, captions and tables are typeset, those of code are not.

Python writes "-0.25" and "5%"; our sources write "5 %". On the pages all have one form.
"""

import re

from docutils import nodes
from sphinx.addnodes import desc_signature
from sphinx.transforms.post_transforms import SphinxPostTransform

from mistakes_lib.support.signs import typeset

CELL = re.compile(r"(<t[dh][^>]*>)([^<]*)")
KEPT = (
    *(nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment),
    desc_signature,
)


def setup(app):
    """Let Sphinx ask :class:`Signs` for every page."""
    app.add_post_transform(Signs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Signs(SphinxPostTransform):
    """Typeset the numbers of a page's text and of its tables."""

    default_priority = 7  # after outputs are chosen, with 4

    def run(self, **kwargs):
        """Go through the texts and tables of the page."""
        for text in list(self.document.findall(nodes.Text)):
            if (written := typeset(text)) != text and not is_kept(text):
                text.parent.replace(text, nodes.Text(written))
        for table in self.document.findall(nodes.raw):
            if table.get("format") == "html":
                table[:] = [nodes.Text(in_cells(table.astext()))]


def is_kept(text):
    """Whether a text stands in code, in a formula or in raw HTML."""
    node = text.parent
    while node is not None and not isinstance(node, KEPT):
        node = node.parent
    return node is not None


def in_cells(html):
    """HTML whose table cells are typeset.

    Example:
        >>> in_cells('<p>-1</p><td class="x">-0.25 to -0.10</td>')
        '<p>-1</p><td class="x">−0.25 to −0.10</td>'
    """
    return CELL.sub(lambda cell: cell[1] + typeset(cell[2]), html)
