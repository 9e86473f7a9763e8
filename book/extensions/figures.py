"""A Sphinx extension: a chapter's picture and the caption below it become one numbered figure.

``Figures.show`` of mistakes_lib/book/plotting displays both one after the other: in a notebook that
is a picture and a paragraph. On a page they are a ``<figure>`` with a ``<figcaption>``, to which a
link may lead: Figure 4.1 is ``#figure-4-1``. Every figure's picture has a frame of its own, in
which a wide one scrolls on a telephone (figures.css).
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

NUMBER = re.compile(r"Figure (\d+\.\d+)\.")


def setup(app):
    """Let Sphinx ask :class:`JoinFigures` once the outputs of cells are chosen."""
    app.add_post_transform(JoinFigures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class JoinFigures(SphinxPostTransform):
    """Make a figure of each picture in a cell's output that is followed by a caption."""

    default_priority = 5  # after myst_nb has chosen between an output's forms, with 4

    def run(self, **kwargs):
        """Go through the pictures of the page."""
        for picture in list(self.document.findall(nodes.image)):
            following = picture.next_node(descend=False, siblings=True, ascend=False)
            number = caption_number(following)
            if number:
                join(picture, following, f"figure-{number.replace('.', '-')}")
        for figure in self.document.findall(nodes.figure):
            frame(figure)


def caption_number(node):
    """The number with which a caption begins, such as "4.1"; None if the node is no caption."""
    if not isinstance(node, nodes.paragraph):
        return None
    first = next((child for child in node if child.astext()), None)  # MyST leaves an empty text
    if not isinstance(first, nodes.strong):
        return None
    found = NUMBER.fullmatch(first.astext())
    return found and found[1]


def join(picture, paragraph, anchor):
    """Replace a picture and the paragraph below it by a figure with a caption."""
    caption = nodes.caption("", "", *paragraph.children)
    figure = nodes.figure("", ids=[anchor])
    picture.replace_self(figure)
    figure += [picture, caption]
    paragraph.parent.remove(paragraph)


def frame(figure):
    """Put the picture with which a figure begins into a frame that may scroll."""
    picture = figure[0] if len(figure) else None
    if isinstance(picture, nodes.image):
        box = nodes.container("", classes=["figure-frame"])
        picture.replace_self(box)
        box += picture
