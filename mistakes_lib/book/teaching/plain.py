"""The chapters' Markdown as any notebook shows it: MyST's directives and roles in plain words."""

import re

__all__ = ["plain_markdown"]

# ```{name} argument, then options such as :label: x, an empty line, the body, and the same fence.
DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,})\{(?P<name>[\w:-]+)\}[ ]*(?P<title>[^\n]*)\n"
    r"(?P<options>(?::[\w-]+:[^\n]*\n)*)(?P<body>.*?)^(?P=fence)[ ]*$",
    flags=re.DOTALL | re.MULTILINE,
)
ROLE = re.compile(r"\{(?P<name>[\w:]+)\}`(?P<words>[^`]*?)(?:\s*<(?P<target>[^>`]*)>)?`")
UNTITLED = {"admonition", "margin"}  # their first words are a title, and no name of a kind
KINDS = {"def": "definition", "thm": "theorem", "prop": "proposition", "alg": "algorithm"}
HIDDEN = {"tableofcontents", "bibliography"}


def plain_markdown(text):
    """Markdown without MyST's own words, so that Jupyter, Colab and others show it alike.

    Args:
        text: Markdown of a chapter.

    Returns:
        str: directives are quotations with a bold head, references are the words or the label that
        they show, an equation's label is its tag.

    Example:
        >>> plain_markdown("The {term}`ROC curve <roc>` of {cite}`guo2017`, see {eq}`eq-u`.")
        'The ROC curve of [guo2017], see (u).'
        >>> print(plain_markdown("```{margin} Why?\\nBecause.\\n```"))
        > **Why?**
        >
        > Because.
    """
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\$\$ \(eq-([\w-]+)\)$", r"\\tag{\1}\n$$", text, flags=re.MULTILINE)
    text = DIRECTIVE.sub(_quotation, text)
    return ROLE.sub(_words, text).strip()


def _quotation(found):
    """A directive as a quotation."""
    name, title = found["name"].rpartition(":")[2], found["title"].strip()
    if name in HIDDEN:
        return ""
    if name == "literalinclude":  # from the place of the chapters, book/chapters
        return f"See `{title.replace('../', 'book/', 1)}` in the book's repository."
    head = title if name in UNTITLED else name.capitalize() + (f" ({title})" if title else "")
    body = DIRECTIVE.sub(_quotation, found["body"])  # one directive may stand in another
    lines = [f"**{head}**", "", *body.strip().splitlines()] if head else [body]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _words(found):
    """What a role shows."""
    name, words, target = found["name"], found["words"], found["target"]
    if name == "cite":
        return f"[{words}]"
    if name == "eq":
        return f"({words.removeprefix('eq-')})"
    if name == "prf:ref" and not target:
        return f"the {KINDS.get(words.partition('-')[0], 'text')} above"
    if name == "doc" and not target:
        return f"`{words.rpartition('/')[2]}`"
    return words or target
