"""How results are written for readers: intervals as text."""

from mistakes_lib.support.signs import typeset

__all__ = ["interval_column", "interval_text"]


def interval_column(confidence, value=""):
    """Heading of a column of intervals: "AUPR 95 % interval".

    Example:
        >>> interval_column(0.95, "AUPR"), interval_column(0.9)
        ('AUPR 95 % interval', '90 % interval')
    """
    return f"{value} {100 * confidence:g} % interval".strip()


def interval_text(low, high, digits=2):
    """An interval as a reader's table has it.

    Example:
        >>> interval_text(0.614, 0.7), interval_text(-0.05, 0.002, digits=3)
        ('0.61 to 0.70', '−0.050 to 0.002')
    """
    return typeset(f"{low:.{digits}f} to {high:.{digits}f}")
