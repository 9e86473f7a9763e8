"""Which parameters each chapter gets from a parameters file."""

from book.building.places import BuildError
from mistakes_lib.book.notebooks import default_values
from mistakes_lib.support.suggestions import did_you_mean

__all__ = ["check_known", "choose_parameters", "declared_parameters"]


def declared_parameters(notebook):
    """Return the names and default values in the notebook's cell tagged ``parameters``."""
    values = default_values(notebook)
    if not values:
        raise BuildError(f"{notebook.name} needs one cell tagged `parameters`, has none.")
    return values


def choose_parameters(parameters, declared):
    """Give each notebook those parameters that it declares with another default.

    Args:
        parameters: shared ones and exceptions, as ``load_parameters`` of
            :mod:`mistakes_lib.book.notebooks` returns them.
        declared: what each chapter declares, path → (name → default).

    Returns:
        dict: path → (name → value).

    Raises:
        BuildError: no chapter declares a shared parameter, or a chapter not its own exception.
    """
    shared, exceptions = parameters
    check_known(shared, {name for defaults in declared.values() for name in defaults}, "parameter")
    check_known(exceptions, {notebook.stem for notebook in declared}, "chapter")
    chosen = {}
    for notebook, defaults in declared.items():
        own = exceptions.get(notebook.stem, {})
        check_known(own, defaults, f"parameter of {notebook.stem}")
        wanted = {name: value for name, value in shared.items() if name in defaults} | own
        chosen[notebook] = {n: value for n, value in wanted.items() if value != defaults[n]}
    return chosen


def check_known(names, known, what):
    """Raise a BuildError that names the nearest known name if one of the names is not known."""
    for name in names:
        if name not in known:
            raise BuildError(f"There is no {what} {name!r}{did_you_mean(name, known)}")
