"""What the book's Sphinx extensions make of the nodes of a page."""

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.addnodes import desc_signature

from book.extensions.figures import JoinFigures, caption_number
from book.extensions.folds import MergeFolds
from book.extensions.signatures import readable
from book.extensions.signs import Signs
from mistakes_lib.density import DiagonalGMM


def caption(number):
    strong = nodes.strong("", f"Figure {number}.")
    return nodes.paragraph("", "", nodes.Text(""), strong, nodes.Text(" It is so."))


@pytest.fixture
def page():
    document = new_document("page")
    return document


def run(transform, document):
    transform(document).run()
    return document


def test_a_picture_and_its_caption_become_a_figure(page):
    page += [nodes.image(uri="a.png"), caption("4.1"), nodes.image(uri="b.png"), nodes.paragraph()]
    run(JoinFigures, page)
    figure, other, paragraph = page.children
    assert isinstance(figure, nodes.figure) and figure["ids"] == ["figure-4-1"]
    frame, words = figure
    assert frame["classes"] == ["figure-frame"] and frame[0]["uri"] == "a.png"
    assert isinstance(words, nodes.caption)
    assert figure[1].astext() == "Figure 4.1. It is so."
    assert isinstance(other, nodes.image) and isinstance(paragraph, nodes.paragraph)


def test_the_picture_of_any_figure_has_a_frame(page):
    page += [nodes.figure("", nodes.image(uri="a.png")), nodes.figure("", nodes.paragraph())]
    run(JoinFigures, page)
    assert page[0][0]["classes"] == ["figure-frame"]
    assert isinstance(page[1][0], nodes.paragraph)


@pytest.mark.parametrize(
    "node", [None, nodes.paragraph(), nodes.paragraph("", "Figure 4.1."), nodes.image(uri="a.png")]
)
def test_what_is_no_caption_has_no_number(node):
    assert caption_number(node) is None


def cell(text, *classes, output=False, hide="input"):
    parts = [nodes.container("", nodes.literal_block("", text), nb_element="cell_code_source")]
    if output:
        parts.append(nodes.container("", nodes.paragraph("", "out"), nb_element="cell_code_output"))
    found = nodes.container("", *parts, classes=["cell", *classes], prompt_show="Code")
    if hide:
        found["hide_mode"] = hide
    return found


def test_parameters_and_silent_folds_after_them_are_one_fold(page):
    page += [cell("a = 1", "tag_parameters"), cell("import b"), cell("c = 2")]
    page += [cell("d", output=True), cell("e")]
    run(MergeFolds, page)
    first, *others = page.children
    assert first["prompt_show"] == "Parameters and imports"
    assert [block.astext() for block in first.findall(nodes.literal_block)] == [
        "a = 1",
        "import b",
        "c = 2",
    ]
    assert len(others) == 2 and others[0]["prompt_show"] == "Code"


def test_an_open_cell_is_not_swallowed(page):
    page += [cell("a = 1", "tag_parameters"), cell("shown", hide=None)]
    run(MergeFolds, page)
    assert len(page.children) == 2


def test_numbers_are_typeset_but_code_formulas_and_names_stay(page):
    code = nodes.literal("", "", nodes.inline("", "x[-1]", classes=["highlight"]))
    html = '<table title="-1"><td data-x="-2" width="5%">-0.25 to -0.1</td><td>GMM-100</td></table>'
    page += [
        nodes.paragraph("", "", nodes.Text("(-4.2 to -87.3), WRN-16-2, 2026-11-27, 1-2, "), code),
        nodes.paragraph("", "5% and 5 %, %20, 5%20"),
        desc_signature("", "", nodes.emphasis("", "x=-1")),
        nodes.paragraph("", "", nodes.math("", "-1"), nodes.strong("", "-0.5 points")),
        nodes.literal_block("", "-1"),
        nodes.raw("", html, format="html"),
        nodes.raw("", "-1 <td>-1", format="latex"),
    ]
    run(Signs, page)
    assert [node.astext() for node in page] == [
        "(−4.2 to −87.3), WRN-16-2, 2026-11-27, 1-2, x[-1]",
        "5\u202f% and 5\u202f%, %20, 5%20",
        "x=-1",
        "-1−0.5 points",
        "-1",
        '<table title="-1"><td data-x="-2" width="5%">−0.25 to −0.1</td><td>GMM-100</td></table>',
        "-1 <td>-1",
    ]


def test_a_signature_has_the_values_of_constants():
    def shown(obj, signature):
        return readable(None, "class", "", obj, None, signature, None)[0]

    assert shown(DiagonalGMM, "(n_components=100, *, max_iter=MAX_ITER)").endswith(
        f"max_iter={DiagonalGMM().max_iter})"
    )
    assert shown(DiagonalGMM, "(a=NONE_OF_ITS, b=<factory>)") == "(a=NONE_OF_ITS, b=...)"
    assert readable(None, "module", "", None, None, None, None) is None
