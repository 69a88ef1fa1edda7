"""What stays of a map: one multiplication, one addition, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..graphs.graph import Graph
from ..graphs.maps import Map


@keras.saving.register_keras_serializable("kerasdl")
class Remainder(keras.layers.Layer):
    """y = scale · x + shift with arrays that broadcast against x.

    Args:
        scale_shape: Shape of the scale; None, if there is none.
        shift_shape: Shape of the shift; None, if there is none.
        **kwargs: `name`, `dtype` of any Keras layer.
    """

    def __init__(
        self,
        scale_shape: Sequence[int] | None = None,
        shift_shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.scale = self._constant("scale", scale_shape)
        self.shift = self._constant("shift", shift_shape)
        self.built = True

    def _constant(self, name: str, shape: Sequence[int] | None) -> Any:
        if shape is None:
            return None
        return self.add_weight(name=name, shape=tuple(shape), initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        """Return scale · x + shift."""
        outputs = inputs if self.scale is None else inputs * self.scale
        return outputs if self.shift is None else outputs + self.shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        shapes = {
            f"{name}_shape": None if variable is None else tuple(variable.shape)
            for name, variable in (("scale", self.scale), ("shift", self.shift))
        }
        return {**super().get_config(), **shapes}


def remainder(graph: Graph, kept: Map, name: str, policy: Any) -> Remainder:
    """The layer of a map, its numbers kept in float64 besides."""
    if policy.variable_dtype == "bfloat16":
        policy = "float32"  # what moves is stored in float32 at least
    layer = Remainder(
        kept.scale.shape if kept.scales else None,
        kept.shift.shape if kept.shifts else None,
        name=name,
        dtype=policy,
    )
    for variable, exact in ((layer.scale, kept.scale), (layer.shift, kept.shift)):
        if variable is not None:
            graph.exact.assign(variable, exact)
    return layer
