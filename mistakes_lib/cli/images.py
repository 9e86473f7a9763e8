"""What is there of the named data sets, in words, and what to do about it."""

__all__ = ["advise", "describe"]

FINDINGS = {
    "original": "the originals",
    "subset": "a part of the originals",
    "other": "not the originals",
    "made here": "made here, from no files",
    "unreadable": "unreadable",
    "missing": "missing",
}
ADVICE = {
    "subset": "put the whole set there to get the published numbers",
    "other": "expect numbers that differ a little from those of the originals",
    "unreadable": "mend these files, or remove them and bring the set again",
    "missing": "copy the images there as {name}/{part}/CLASS/FILE, or let a run that needs them "
    "download torchvision's files",
}
ARCHIVE = "unpack the public archive tiny-imagenet-200.zip there"


def describe(holding):
    """One line about a :class:`~mistakes_lib.data.inventory.Holding`.

    Example:
        >>> from mistakes_lib.data.inventory import Holding
        >>> describe(Holding("svhn", "test", "subset", "class folders", 500, "data/svhn/test"))
        '500 images, a part of the originals (class folders): data/svhn/test'
        >>> describe(Holding("svhn", "test", "missing", "", 0, "neither a nor b"))
        'missing: neither a nor b'
    """
    finding = FINDINGS[holding.status]
    if holding.images:
        finding = f"{holding.images:,} images, {finding}"
    form = f" ({holding.form})" if holding.form else ""
    return f"{finding}{form}{f': {holding.found}' if holding.found else ''}"


def advise(holding):
    """What to do about a :class:`~mistakes_lib.data.inventory.Holding`; "" where all is well.

    Example:
        >>> from mistakes_lib.data.inventory import Holding
        >>> advise(Holding("svhn", "test", "original", "class folders", 26032, "data/svhn/test"))
        ''
        >>> advise(Holding("tiny_imagenet", "test", "missing", "", 0, "data/tiny-imagenet-200"))
        'unpack the public archive tiny-imagenet-200.zip there'
    """
    if holding.status == "missing" and holding.name.startswith("tiny_imagenet"):
        return ARCHIVE
    return ADVICE.get(holding.status, "").format(name=holding.name, part=holding.part)
