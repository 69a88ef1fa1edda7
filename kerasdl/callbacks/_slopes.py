"""Slopes of activations, told from what they put out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Slope:
    """φ'(z)/max|φ'| as a function of y = φ(z).

    Attributes:
        rectifies: φ is flat on one side, as ReLU is, so that half of the samples there is
            nothing unusual, but all of them is death.
        of: From outputs to relative slopes, in [0, 1].
    """

    rectifies: bool
    of: Callable[[Array], Array]


def slope_of(layer: Any) -> Slope | None:
    """The slope of the activation whose output is the layer's; None if it has none or another.

    Recurrent layers put out a product with a gate, so their activation is not seen.
    """
    if isinstance(layer, keras.layers.ReLU):
        return rectifier(layer.max_value) if layer.negative_slope == 0 else None
    if isinstance(layer, keras.layers.ELU):
        return elu(float(layer.alpha))
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        return None
    activation = getattr(layer, "activation", None)
    if isinstance(activation, keras.layers.Layer):
        return slope_of(activation)
    return _SLOPES.get(activation)


def rectifier(highest: float | None = None) -> Slope:
    """ReLU, perhaps with a highest value."""
    top = np.inf if highest is None else highest
    return Slope(True, lambda y: ((y > 0) & (y < top)).astype("float64"))


def elu(α: float) -> Slope:
    """φ(z) = α(eᶻ − 1) for z < 0, else z."""
    return Slope(False, lambda y: np.where(y < 0, y + α, 1.0) / max(α, 1.0))


def _selu(y: Array) -> Array:
    scale, α = 1.0507009873554805, 1.6732632423543772
    return np.where(y < 0, y + scale * α, scale) / (scale * α)


def _open(low: float, high: float) -> Slope:
    """A straight line between two bounds, flat outside."""
    return Slope(False, lambda y: ((y > low) & (y < high)).astype("float64"))


_SLOPES: dict[Any, Slope] = {
    keras.activations.relu: rectifier(),
    keras.activations.relu6: rectifier(6.0),
    keras.activations.elu: elu(1.0),
    keras.activations.celu: elu(1.0),
    keras.activations.selu: Slope(False, _selu),
    keras.activations.sigmoid: Slope(False, lambda y: 4 * y * (1 - y)),
    keras.activations.tanh: Slope(False, lambda y: 1 - y**2),
    keras.activations.softsign: Slope(False, lambda y: (1 - abs(y)) ** 2),
    keras.activations.softplus: Slope(False, lambda y: -np.expm1(-y)),
    keras.activations.log_sigmoid: Slope(False, lambda y: -np.expm1(y)),
    keras.activations.hard_sigmoid: _open(0.0, 1.0),
    keras.activations.sparse_sigmoid: _open(0.0, 1.0),
    keras.activations.hard_tanh: _open(-1.0, 1.0),
}
