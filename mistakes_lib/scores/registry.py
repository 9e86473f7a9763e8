"""The one list of scorers: what tables compare, what ``mistakes fit --method`` takes.

Importing it loads no network library: a class is loaded when its scorer is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

__all__ = ["METHODS", "Method", "find_method"]


def _nothing(density, num_classes):
    return {}


def _the_density(density, num_classes):
    return {"density": density}


def _its_share(density, num_classes):
    """The mixtures of the classes share the components of one mixture evenly, and its floor."""
    per_class = max(1, round(density.n_components / num_classes))
    own = {"n_components": per_class, "random_state": density.random_state}
    return own | {"reg_covar": density.reg_covar} if hasattr(density, "reg_covar") else own


@dataclass(frozen=True)
class Method:
    """One scorer of the library.

    Args:
        key: its name on the command line.
        module: its file in this folder.
        kind: its class.
        arguments: what its constructor gets, as a function of a density of features, fitted or
            not, with ``n_components`` and ``random_state``, and of the number of classes.
        label: its name in tables, where ``{density.n_components}`` may stand; by default the
            ``name`` of its class.

    Example:
        >>> from sklearn.mixture import GaussianMixture
        >>> find_method("zheng-hong").make(GaussianMixture(100, random_state=0), 10)
        ZhengHong(random_state=0)
    """

    key: str
    module: str
    kind: str
    arguments: Callable = _nothing
    label: str | None = None

    def make(self, density, num_classes):
        """The unfitted scorer, given a density of features and the number of classes."""
        module = import_module(f"mistakes_lib.scores.{self.module}")
        return getattr(module, self.kind)(**self.arguments(density, num_classes))

    def label_of(self, scorer, density):
        """The name in tables of a scorer that :meth:`make` returned for this density."""
        return self.label.format(density=density) if self.label else scorer.name


# In the order of the tables; the paper's own score comes first.
METHODS = (
    Method(
        "likelihood", "likelihoods", "LogLikelihood", _the_density, "GMM-{density.n_components}"
    ),
    Method("nearest-neighbors", "distances", "NearestNeighbors"),
    Method("mahalanobis", "distances", "Mahalanobis"),
    Method("relative-mahalanobis", "distances", "RelativeMahalanobis"),
    Method("zheng-hong", "likelihoods", "ZhengHong", _its_share),
    Method("vim", "vim", "ViM"),
    Method("calibrated", "logits", "TemperatureScaling", label="Calibrated"),
    Method("max-softmax", "logits", "MaxSoftmax"),
    Method("max-logit", "logits", "MaxLogit"),
    Method("energy", "logits", "Energy"),
)


def find_method(key):
    """The method of that name.

    Args:
        key: its name on the command line, such as "mahalanobis".

    Returns:
        Method.

    Raises:
        ValueError: an unknown name; all are listed.

    Example:
        >>> find_method("energy").make(density=None, num_classes=10)
        Energy()
    """
    for method in METHODS:
        if method.key == key:
            return method
    known = ", ".join(method.key for method in METHODS)
    raise ValueError(f"unknown method {key!r}: choose from {known}")
