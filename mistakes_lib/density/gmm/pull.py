"""Where a mixture draws a point, from the few components that share it."""

import torch
from torch.nn import functional as F

from mistakes_lib.density.gmm.candidates import with_squares
from mistakes_lib.density.gmm.products import Affine

__all__ = ["Pull"]

FEW = 1 / 8  # share of pairs of rows and components up to which a sum over those alone pays


class Pull:
    """(x, y) ↦ Σ_k r_k (μ_k − y) / σ_k² and Σ_k r_k / σ_k², with the responsibilities r of x.

    With y = x the first is the gradient of log p(x). In hundreds of dimensions a row has one or two
    components with a responsibility that its dtype can tell from 0: a product of all rows with all
    components finds these, and the sums then run over them alone.

    Args:
        mixture: :class:`~mistakes_lib.density.gmm.em.Mixture` about a centre.
        centre: (d,), which its means lack.
        dtype: torch.dtype of the computation and of the results.
        device: torch.device.

    Example:
        >>> from mistakes_lib.density.gmm.em import Mixture
        >>> one = (torch.tensor(each, dtype=torch.float64) for each in ([1.0], [[0.0]], [[2.0]]))
        >>> pull = Pull(Mixture(*one), [3.0], torch.float64, "cpu")  # N(3, 2)
        >>> x = torch.zeros(1, 1, dtype=torch.float64)
        >>> pull(x, x)
        (tensor([[1.5000]], dtype=torch.float64), tensor([[0.5000]], dtype=torch.float64))
    """

    def __init__(self, mixture, centre, dtype, device):
        weight, constant = (part.to(device, dtype) for part in mixture.log_joint_terms())
        self.log_joint = Affine(weight.T, constant)
        precisions = 1 / mixture.variances
        terms = torch.cat([mixture.means * precisions, precisions], dim=1)
        self.terms = terms.to(device, dtype)  # (K, 2d)
        self.centre = torch.as_tensor(centre, dtype=dtype, device=device)
        self.negligible = torch.finfo(dtype).eps ** 2

    @torch.no_grad()
    def __call__(self, x, y):
        """Two tensors (n, d), of rows x and y, (n, d) each."""
        responsibilities = self.log_joint(with_squares(x - self.centre)).softmax(dim=1)  # (n, K)
        drawn, stiffness = self._mean_terms(responsibilities).tensor_split(2, dim=1)
        return torch.addcmul(drawn, y - self.centre, stiffness, value=-1), stiffness

    def _mean_terms(self, responsibilities):
        """Σ_k r_k [μ_k / σ_k², 1 / σ_k²], (n, 2d)."""
        matters = ~(responsibilities <= self.negligible)  # what is not a number does, too
        if matters.count_nonzero() > FEW * matters.numel():
            return responsibilities @ self.terms
        row, component = matters.nonzero(as_tuple=True)
        return F.embedding_bag(
            component,
            self.terms,
            torch.searchsorted(row, torch.arange(len(matters), device=row.device)),
            mode="sum",
            per_sample_weights=responsibilities[row, component],
        )
