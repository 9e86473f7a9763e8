"""Where the parts of the book lie in a clone, and the error that ends a build."""

from pathlib import Path

__all__ = ["BUILD", "CHAPTERS", "NOTEBOOKS", "PUBLISHED", "ROOT", "BuildError"]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = ROOT / "book" / "chapters"
BUILD = ROOT / "_build"
PUBLISHED = "published"  # the parameters that the committed chapters have


class BuildError(Exception):
    """The book cannot be built; the message says why and what to do."""
