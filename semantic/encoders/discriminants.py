"""Statistics of features by class, for linear discriminant analysis.

Fisher, "The Use of Multiple Measurements in Taxonomic Problems", 1936; for speech Haeb-Umbach &
Ney, ICASSP 1992.
"""

import torch
from torch import Tensor

from ...errors import QuantizerError

#: Frames that a class needs to count.
_FEWEST = 50
# Of the mean variance within classes: directions with less of it would be noise made large.
_RIDGE = 1e-2


class ClassStatistics:
    """Counts, means and covariances of feature frames by class, in float64.

    Args:
        dim: of the features.
    """

    def __init__(self, dim: int) -> None:
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._sums = torch.zeros(0, dim, dtype=torch.float64)
        self._square = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Count frames (frames, dim) of classes (frames,) int64, from 0."""
        rows = rows.double()
        if (missing := int(labels.max()) + 1 - len(self._counts)) > 0:
            self._counts = torch.cat([self._counts, self._counts.new_zeros(missing)])
            self._sums = torch.cat([self._sums, self._sums.new_zeros(missing, rows.shape[1])])
        self._counts += torch.bincount(labels, minlength=len(self._counts))
        self._sums.index_add_(0, labels, rows)
        self._square += rows.T @ rows

    @property
    def known(self) -> Tensor:
        """(classes,) bool, whether a class has enough frames to count."""
        return self._counts >= _FEWEST

    @property
    def mean(self) -> Tensor:
        """(dim,) of all frames."""
        return self._sums.sum(0) / self._counts.sum()

    @property
    def within(self) -> Tensor:
        """(dim, dim) covariance of frames about the means of their classes."""
        means = self._means
        return (self._square - (means * self._counts[:, None]).T @ means) / self._counts.sum()

    @property
    def apart(self) -> Tensor:
        """(known classes, dim) means of the classes about that of all frames, weighted by the roots
        of their shares: `apart.T @ apart` is the covariance between classes.
        """
        known, share = self.known, self._counts[:, None] / self._counts.sum()
        return (self._means - self.mean)[known] * share[known].sqrt()

    @property
    def _means(self) -> Tensor:
        return self._sums / self._counts.clamp(min=1)[:, None]

    def check(self, dim: int) -> None:
        """Check that classes differ in so many directions.

        Raises:
            QuantizerError: too few of them have enough frames.
        """
        if (count := int(self.known.sum())) <= dim:
            raise QuantizerError(
                f"{dim} directions need {dim + 1} phones of {_FEWEST} frames or more, and there "
                f"are {count}"
            )


def whitening(covariance: Tensor) -> Tensor:
    """Return a map (dim, dim) of features of a covariance (dim, dim) to a variance of about 1 in
    all directions.
    """
    # Channels with huge activations would set the ridge of all.
    scale = covariance.diagonal().clamp(min=1e-12).rsqrt()
    even = covariance * scale * scale[:, None]
    even += _RIDGE * torch.eye(len(even), dtype=even.dtype)
    values, vectors = torch.linalg.eigh(even)
    return vectors * values.rsqrt() @ vectors.T * scale
