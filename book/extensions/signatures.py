"""A Sphinx extension: a signature on the reference pages is Python that Sphinx can read."""


def setup(app):
    """Let Sphinx ask :func:`readable` for every signature."""
    app.connect("autodoc-process-signature", readable)
    return {"parallel_read_safe": True}


def readable(app, what, name, obj, options, signature, return_annotation):
    """Write ``...`` for a dataclass's default that is made anew each time, ``<factory>``.

    Sphinx splits a signature that is no Python at every comma, those inside tuples too.
    """
    if signature:
        return signature.replace("<factory>", "..."), return_annotation
    return None
