"""What pyproject.toml cannot say: a wheel takes the book's own small files along.

In a clone they lie where people edit them, in notebooks/ and book/. A wheel gets copies of them in
``mistakes_lib/packaged``, in the same places; ``mistakes_lib.support.locations`` looks there.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGED = (
    "notebooks/*.ipynb",
    "notebooks/parameters/*.yml",
    "notebooks/sweeps/*.ipynb",
    "notebooks/sweeps/*.yml",
    "book/claims.yml",
    "book/evidence/*.json",
    "book/reports/*/*/*.json",
    "book/results/*.json",
    "book/sweeps/*/*.parquet",
    "book/sweeps/*/*.csv",
)


class BuildWithTheBooksFiles(build_py):
    """Copy them beside the modules; an editable install reads the clone and gets no copies."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for pattern in PACKAGED:
            found = sorted(Path().glob(pattern))
            if not found:
                raise FileNotFoundError(f"no file {pattern}: build the wheel in a whole clone")
            for source in found:
                target = Path(self.build_lib, "mistakes_lib", "packaged", source)
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))


setup(cmdclass={"build_py": BuildWithTheBooksFiles})
