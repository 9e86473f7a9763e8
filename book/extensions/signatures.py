"""A Sphinx extension: signatures on the reference pages can be read, by Sphinx and by people."""

import inspect
import re

CONSTANT = re.compile(r"(?<==)[A-Z][A-Z_]+(?=[,)])")


def setup(app):
    """Let Sphinx ask :func:`readable` for every signature."""
    app.connect("autodoc-process-signature", readable)
    return {"parallel_read_safe": True}


def readable(app, what, name, obj, options, signature, return_annotation):
    """Write values for names of constants, and ``...`` for a default that is made anew each time.

    Nobody who reads ``max_iter=MAX_ITER`` knows how many. Where a dataclass has ``<factory>``,
    Sphinx would split the signature, which is no Python, at every comma, those inside tuples too.
    """
    if not signature:
        return None
    known = vars(inspect.getmodule(obj)) if CONSTANT.search(signature) else {}

    def value(found):
        return repr(known[found[0]]) if found[0] in known else found[0]

    return CONSTANT.sub(value, signature).replace("<factory>", "..."), return_annotation
