"""A Sphinx extension: a chapter's buttons offer its source in Python, and to run it elsewhere."""

CHAPTERS = "book/chapters/"
BINDER = "https://mybinder.org/v2/gh"
COLAB = "https://colab.research.google.com/github"


def setup(app):
    """Let Sphinx ask :func:`add_buttons` for every page, after the theme has made its buttons."""
    app.connect("html-page-context", add_buttons, priority=600)
    return {"parallel_read_safe": True}


def add_buttons(app, pagename, templatename, context, doctree):
    """Add to a chapter's buttons the download of its source, and those of :func:`launch_links`.

    The source lies beside the notebook (``publish`` of book/building puts it there). A page can be
    run elsewhere only if ``repository`` in _config.yml says where the book is.
    """
    if not pagename.startswith(CHAPTERS):
        return
    chapter, buttons = pagename.removeprefix(CHAPTERS), context["header_buttons"]
    (downloads,) = [group for group in buttons if group["label"] == "download-buttons"]
    source = link(".py", f"{context['pathto']('_sources', 1)}/{pagename}.py", "fab fa-python")
    downloads["buttons"].insert(1, source | {"tooltip": "Download the source in Python"})
    options = app.config.html_theme_options
    links = launch_links(options["repository_url"], options["repository_branch"], chapter)
    if links:
        places = [
            link(place, url, f"_static/images/logo_{place.lower()}.{kind}")
            for (place, url), kind in zip(links.items(), ("svg", "png"), strict=True)
        ]
        group = {"type": "group", "label": "launch-buttons", "buttons": places}
        buttons.insert(0, group | {"tooltip": "Run this chapter", "icon": "fas fa-rocket"})


def link(text, url, icon):
    """Return a button of the theme's that leads to ``url``."""
    return {"type": "link", "text": text, "url": url, "icon": icon}


def launch_links(repository, branch, chapter):
    """Return where a chapter's notebook can be run in a browser.

    Args:
        repository: its address, ``https://github.com/OWNER/NAME``; empty if it has none.
        branch: the one that holds the committed notebooks.
        chapter: name of the chapter, such as ``04_mistakes``.

    Returns:
        dict: name of the place → address; empty without a repository.
    """
    if not repository:
        return {}
    name = repository.removeprefix("https://github.com/").strip("/")
    path = f"notebooks/{chapter}.ipynb"
    return {
        "Binder": f"{BINDER}/{name}/{branch}?urlpath=lab/tree/{path}",
        "Colab": f"{COLAB}/{name}/blob/{branch}/{path}",
    }
