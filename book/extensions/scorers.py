"""A Sphinx extension: the reference pages list the scorers that the library's registry lists."""

from sklearn.mixture import GaussianMixture

from mistakes_lib.scores.registry import METHODS

CLASSES = "   @scorers\n"  # a line of a page that the names of their classes replace
TABLE = "@methods\n"  # a line that the table of :func:`methods_table` replaces
OTHERS = ("Combined", "Scorer")  # of the same room: what combines scorers, and what all derive from


def setup(app):
    """Let Sphinx ask :func:`fill_in` for every page that it reads."""
    app.connect("source-read", lambda app, page, source: source.append(fill_in(source.pop())))
    return {"parallel_read_safe": True}


def fill_in(text):
    """Return a page's text with the two lines replaced, where it has them."""
    names = sorted([*OTHERS, *(method.kind for method in METHODS)])
    text = text.replace(CLASSES, "".join(f"   {name}\n" for name in names))
    return text.replace(TABLE, methods_table())


def methods_table():
    """Return a Markdown table: what each scorer is called, looks at and learns from."""
    density = GaussianMixture(100)
    lines = [
        "| `--method` | in tables | class | reads | class-agnostic | fitted on |",
        "|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        scorer = method.make(density, num_classes=10)
        cells = (
            f"`{method.key}`",
            method.label_of(scorer, density),
            f"{{py:class}}`~mistakes_lib.scores.{method.kind}`",
            ", ".join(scorer.reads),
            "yes" if scorer.class_agnostic else "no",
            scorer.fits_on + (" and its labels" if scorer.needs_labels else ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
