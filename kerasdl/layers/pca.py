"""Principal component analysis as a layer."""

from typing import Any

import keras

from kerasdl._checks import is_integer, require
from kerasdl.layers._adaptable import Adaptable
from kerasdl.layers._directions import principal_directions
from kerasdl.layers._moments import Moments


class PCA(Adaptable):
    """Keep the directions in which the data vary most.

        y = Vᵀ (x − μ)        C = (1/(n−1)) Σ (x − μ)(x − μ)ᵀ = V diag(λ) Vᵀ

    with the columns of V that belong to the `components` largest λ, largest first. The values
    of y are uncorrelated in the data, with the variances λ. `adapt` computes μ and C from the
    training inputs, batch by batch in float64. The sign of each direction is chosen such that
    its entry of largest magnitude is positive.

    Standardize first if the features have different units. `explained_variance` holds λ; a
    number of components that keeps 95 to 99 % of their sum is usual. Directions of equal λ are
    determined by the data only together.

    Args:
        components: How many directions are kept, at most the number of features.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        (samples, ..., features). Output: (samples, ..., components).

    Raises:
        ValueError: `components` is no positive integer or more than the features, or `adapt`
            gets no more samples than components.
        RuntimeError: The layer is called on data before `adapt` (`predict` on JAX: all is NaN).

    Example:

    >>> import numpy as np
    >>> layer = PCA(1)
    >>> layer.adapt(np.array([[-3.0, -4.0], [0.0, 0.0], [3.0, 4.0]]))
    >>> float(layer(np.array([[3.0, 4.0]]))[0, 0])
    5.0

    References:
        N4 (PCA); Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space",
        1901; LeCun et al., "Efficient BackProp", 1998.
    """

    def __init__(self, components: int, **kwargs: Any) -> None:
        require(
            is_integer(components) and components > 0,
            "components",
            components,
            "a positive integer",
            "Pass how many directions to keep.",
        )
        super().__init__(**kwargs)
        self.components = int(components)

    def _build_map(self, features: int) -> None:
        require(
            self.components <= features,
            "components",
            self.components,
            f"at most the {features} features of the input",
            "There are no more directions than features.",
        )
        self.mean = self._add_fixed("mean", (features,))
        self.directions = self._add_fixed("directions", (features, self.components))
        self.explained_variance = self._add_fixed("explained_variance", (self.components,))

    def _assign_map(self, moments: Moments) -> None:
        require(
            moments.count > self.components,
            "data",
            moments.count,
            f"more than {self.components} samples",
            f"Fewer samples span no {self.components} directions.",
        )
        self._say_constant(moments, "they take no part in the components")
        λ, V = principal_directions(moments)
        self.mean.assign(moments.mean)
        self.directions.assign(V[:, : self.components])
        self.explained_variance.assign(λ[: self.components])

    def _map(self, x: Any) -> Any:
        return keras.ops.matmul(x - self.mean, self.directions)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Return the input shape with the components on the last axis."""
        return (*input_shape[:-1], self.components)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "components": self.components}
