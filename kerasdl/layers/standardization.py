"""Mean subtraction and division by the standard deviation."""

from typing import Any

import numpy as np

from kerasdl.layers._adaptable import Adaptable
from kerasdl.layers._moments import Moments


class Standardization(Adaptable):
    """Give every feature mean 0 and standard deviation 1.

        y = (x − μ) / σ        μ = (1/n) Σ x        σ² = (1/n) Σ (x − μ)²

    per feature on the last axis, so per channel of an image. `adapt` computes μ and σ from
    the training inputs, batch by batch in float64.

    A feature that is constant in the data keeps its scale (σ = 1) and is named in a warning.
    Let this be the first layer of a network; the statistics are saved with the model and go
    into the ONNX file.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        (samples, ..., features). Output: the same.

    Raises:
        RuntimeError: The layer is called on data before `adapt` (`predict` on JAX: all is NaN).

    Example:

    >>> layer = Standardization()
    >>> layer.adapt(np.array([[0.0, 1.0], [2.0, 7.0]]))
    >>> np.asarray(layer(np.array([[2.0, 4.0]]))).tolist()
    [[1.0, 0.0]]

    References:
        N4 (data preprocessing), N0 (recipe); LeCun et al., "Efficient BackProp", 1998; Chan,
        Golub & LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances", 1979.
    """

    diagonal = True

    def _build_map(self, features: int) -> None:
        self.mean = self._add_fixed("mean", (features,))
        self.stddev = self._add_fixed("stddev", (features,), "ones")

    def _assign_map(self, moments: Moments) -> None:
        self._say_constant(moments, "they are centered, and keep their scale")
        stddev = np.sqrt(moments.scatter / moments.count)
        self.mean.assign(moments.mean)
        self.stddev.assign(np.where(moments.constant(), 1.0, stddev))

    def _map(self, x: Any) -> Any:
        return (x - self.mean) / self.stddev
