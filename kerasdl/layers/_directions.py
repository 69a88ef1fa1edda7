"""Principal directions of a covariance matrix, the same on every machine."""

import numpy as np

from kerasdl.layers._moments import Array, Moments

# Entries of a direction this close to its largest count as equally large.
TIE = 1e-6


def principal_directions(moments: Moments) -> tuple[Array, Array]:
    """Return the variances λ, largest first, and the directions V as columns.

    C = S/(n − 1) = V diag(λ) Vᵀ. The sign of a direction is not determined by C: here its
    first entry of (nearly) largest magnitude is positive.
    """
    moving = ~moments.constant()
    covariance = moments.scatter * np.outer(moving, moving) / (moments.count - 1)
    λ, V = np.linalg.eigh(covariance)
    λ, V = λ[::-1], V[:, ::-1]
    size = np.abs(V)
    leading = np.argmax(size >= (1 - TIE) * size.max(axis=0), axis=0)
    signs = np.sign(V[leading, np.arange(V.shape[1])])
    return np.maximum(λ, 0.0), V * signs
