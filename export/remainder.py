"""What stays of a map: one multiplication, one addition, or both."""

from __future__ import annotations

from typing import Any

import keras

from .graph import Graph
from .maps import Map


class Remainder(keras.layers.Layer):
    """y = scale · x + shift with arrays that broadcast against x, without what is neutral."""

    def __init__(self, kept: Map, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.scale = self._constant("scale", kept.scale.shape) if kept.scales else None
        self.shift = self._constant("shift", kept.shift.shape) if kept.shifts else None
        self.built = True

    def _constant(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        """Return scale · x + shift."""
        outputs = inputs if self.scale is None else inputs * self.scale
        return outputs if self.shift is None else outputs + self.shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input shape."""
        return input_shape


def remainder(graph: Graph, kept: Map, name: str, policy: Any) -> Remainder:
    """The layer of a map, its numbers kept in float64 besides."""
    layer = Remainder(kept, name=name, dtype=policy)
    for variable, exact in ((layer.scale, kept.scale), (layer.shift, kept.shift)):
        if variable is not None:
            variable.assign(exact)
            graph.exact[id(variable)] = (variable, exact)
    return layer
