"""Numbers as a page prints them: Python's own text has a hyphen for a minus sign."""

import re

__all__ = ["typeset"]

HYPHEN = re.compile(r"(?<![\w\-–−./])-(?=\d|inf\b)")
PERCENT = re.compile(r"(?<=\d)[ \u00a0]?%(?![0-9A-Fa-f]{2}|[a-z])")


def typeset(text):
    """A text whose negative numbers have a minus sign and whose percentages have a narrow space.

    Neither breaks at the end of a line. Dates and names with hyphens stay as they are.

    Example:
        >>> typeset("-4.2 with GMM-100, on 2026-11-27"), ascii(typeset("5% or 5 %"))
        ('−4.2 with GMM-100, on 2026-11-27', "'5\\\\u202f% or 5\\\\u202f%'")
    """
    return PERCENT.sub("\u202f%", HYPHEN.sub("−", text))
