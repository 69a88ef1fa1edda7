"""Mean and covariance of data that come in batches, in float64.

Two sets of n_a and n_b rows with means μ_a, μ_b and sums of squared deviations S_a, S_b merge
without cancellation into

    μ = μ_a + δ n_b/n        S = S_a + S_b + δδᵀ n_a n_b/n        δ = μ_b − μ_a,  n = n_a + n_b

(Chan, Golub & LeVeque 1979), whatever the batches are. S is a matrix, or only its diagonal.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Moments:
    """Count, mean, S, smallest and largest value of the rows so far.

    Attributes:
        count: n, the number of rows.
        mean: μ, of shape (features,).
        scatter: S, of shape (features, features), or (features,) if only its diagonal.
        smallest: The smallest value of each feature.
        largest: The largest value of each feature.
    """

    def __init__(self, features: int, diagonal: bool) -> None:
        self.count = 0
        self.mean: Array = np.zeros(features)
        self.scatter: Array = np.zeros(features if diagonal else (features, features))
        self.smallest: Array = np.full(features, np.inf)
        self.largest: Array = np.full(features, -np.inf)
        self._square: Callable[[Array], Array] = _squares if diagonal else _products

    def add(self, rows: Array) -> None:
        """Merge one or more rows, of shape (n, features)."""
        mean = rows.mean(axis=0)
        total = self.count + len(rows)
        δ = mean - self.mean
        between = self._square(δ[np.newaxis]) * (self.count * len(rows) / total)
        self.scatter = self.scatter + self._square(rows - mean) + between
        self.mean = self.mean + δ * (len(rows) / total)
        self.smallest = np.minimum(self.smallest, rows.min(axis=0))
        self.largest = np.maximum(self.largest, rows.max(axis=0))
        self.count = total

    def constant(self) -> Any:
        """Whether each feature had one value only. Their scatter may not be exactly zero."""
        return self.smallest == self.largest


def _squares(deviations: Array) -> Array:
    return np.einsum("ij,ij->j", deviations, deviations)


def _products(deviations: Array) -> Array:
    return deviations.T @ deviations
