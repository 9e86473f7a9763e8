"""A Sphinx extension: a chapter's parameters and imports are one fold of its page.

They are two cells because papermill puts a reader's values after the cell tagged ``parameters``.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

NAME = "Parameters and imports"


def setup(app):
    """Let Sphinx ask :class:`MergeFolds` for every page."""
    app.add_post_transform(MergeFolds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class MergeFolds(SphinxPostTransform):
    """Put folded cells that follow the parameters and show nothing into the parameters' fold."""

    default_priority = 6  # after outputs are chosen, and before myst_nb folds cells, with 199
    formats = ("html",)

    def run(self, **kwargs):
        """Go through the cells of the page."""
        for cell in list(self.document.findall(nodes.container)):
            if "tag_parameters" in cell["classes"] and cell.get("hide_mode") == "input":
                cell["prompt_show"] = NAME
                while is_silent_fold(follower := after(cell)):
                    cell[0].extend(follower[0].children)
                    follower.parent.remove(follower)


def after(node):
    """The next node beside this one, or None."""
    return node.next_node(descend=False, siblings=True, ascend=False)


def is_silent_fold(node):
    """Whether a node is a folded cell without output."""
    if not isinstance(node, nodes.container) or node.get("hide_mode") != "input":
        return False
    return all(child.get("nb_element") == "cell_code_source" for child in node.children)
