"""Whitening: uncorrelated features of equal variance."""

import warnings
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_real, require
from kerasdl.layers._adaptable import Adaptable
from kerasdl.layers._directions import principal_directions
from kerasdl.layers._moments import Moments


class Whitening(Adaptable):
    """Turn the data into a round cloud: the identity as covariance.

        C = (1/(n−1)) Σ (x − μ)(x − μ)ᵀ = V diag(λ) Vᵀ

        1. method="pca":   y = Λ Vᵀ (x − μ)
        2. method="zca":   y = V Λ Vᵀ (x − μ)        Λ = diag(1/√(λ + ε))

    Case 1 is PCA, each direction divided by its standard deviation; case 2 turns the result
    back, so that y stays as near to x as whitened data can be (images remain images). `adapt`
    computes μ and C from the training inputs, batch by batch in float64. The signs of V are
    those of `PCA`.

    ε keeps directions of little variance, which are mostly noise, from being blown up: 1e-5
    for standardized features, 0.01 to 0.1 for images. Directions in which the data do not vary
    at all keep their scale, Λ = 1; a warning names constant features, and counts the other
    directions of this kind.

    Args:
        method: `"pca"` or `"zca"`. Default `"pca"`.
        epsilon: ε ≥ 0, in the square of the input's unit. Default 1e-5.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        (samples, ..., features). Output: the same.

    Raises:
        ValueError: `method` is none of the two, `epsilon` is negative or not finite, or
            `adapt` gets no more samples than features.
        RuntimeError: The layer is called on data before `adapt` (`predict` on JAX: all is NaN).

    Example:

    >>> x = np.random.default_rng(0).normal(size=(50, 2)) @ [[3.0, 1.0], [0.0, 0.1]]
    >>> layer = Whitening("zca", epsilon=0.0)
    >>> layer.adapt(x)
    >>> bool(np.allclose(np.cov(np.asarray(layer(x)).T), np.eye(2), atol=1e-3))
    True

    References:
        N4 (whitening); LeCun et al., "Efficient BackProp", 1998; Bell & Sejnowski, "The
        Independent Components of Natural Scenes are Edge Filters", 1997.
    """

    def __init__(self, method: str = "pca", epsilon: float = 1e-5, **kwargs: Any) -> None:
        require(
            method in ("pca", "zca"),
            "method",
            method,
            "'pca' or 'zca'",
            "Pass 'zca' to stay near the original features.",
        )
        require(
            is_real(epsilon) and epsilon >= 0,
            "epsilon",
            epsilon,
            "0 or a positive number",
            "Typical values are 1e-5 to 0.1.",
        )
        super().__init__(**kwargs)
        self.method = method
        self.epsilon = epsilon

    def _build_map(self, features: int) -> None:
        self.mean = self._add_fixed("mean", (features,))
        self.matrix = self._add_fixed("matrix", (features, features))

    def _assign_map(self, moments: Moments) -> None:
        features = len(moments.mean)
        require(
            moments.count > features,
            "data",
            moments.count,
            f"more than {features} samples",
            "Fewer samples than features have no full covariance; reduce with PCA first.",
        )
        self._say_constant(moments, "they are centered, and keep their scale")
        λ, V = principal_directions(moments)
        flat = λ <= λ[0] * features * np.finfo("float64").eps
        dependent = int(flat.sum() - moments.constant().sum())
        if dependent > 0:
            warnings.warn(
                f"`{self.name}`: {dependent} directions have no variance beyond rounding, and "
                "keep their scale: features depend linearly on others, or differ too much in "
                "scale.",
                stacklevel=2,
            )
        scale = 1 / np.sqrt(np.where(flat, 1.0, λ + self.epsilon))
        self.mean.assign(moments.mean)
        self.matrix.assign(V * scale if self.method == "pca" else (V * scale) @ V.T)

    def _map(self, x: Any) -> Any:
        return keras.ops.matmul(x - self.mean, self.matrix)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "method": self.method, "epsilon": self.epsilon}
