"""Layers that maps pass, in either direction; the layers themselves stay as they are.

1. pointwise: relu and leaky relu let positive scales pass
2. rearranging: each number of the result is one of the input, or a zero
3. pooling and interpolation: means let every map pass, maxima those with a positive scale

Layers of several inputs are in `join.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import keras
import numpy as np
from keras.src.ops import numpy as operations  # Keras exports functions, not these classes

from ..graphs.graph import Graph, Node
from ..graphs.maps import Map, Shape, compact, spread, varies
from .join import Difference, Joining, Mean, Sum, Wanted
from .linear import is_activated, is_homogeneous


class Carrier(Protocol):
    """How a class of layers lets a map pass; a string says why it does not."""

    def forward(self, graph: Graph, node: Node, given: Mapping[int, Map]) -> Map | str: ...

    def backward(self, graph: Graph, node: Node, wanted: Map) -> Wanted | str: ...


class Single(ABC):
    """A layer of one input."""

    def forward(self, graph: Graph, node: Node, given: Mapping[int, Map]) -> Map | str:
        if len(node.inputs) != 1:
            return f"`{node.name}` has other inputs, or a mask"
        return self.ahead(node, given[id(node.inputs[0])])

    def backward(self, graph: Graph, node: Node, wanted: Map) -> Wanted | str:
        if len(node.inputs) != 1:
            return f"`{node.name}` has other inputs, or a mask"
        back = self.back(node, wanted)
        return back if isinstance(back, str) else [(node.inputs[0], back)]

    @abstractmethod
    def ahead(self, node: Node, given: Map) -> Map | str:
        """The map behind the layer, of the one in front of it."""

    @abstractmethod
    def back(self, node: Node, wanted: Map) -> Map | str:
        """The map in front of the layer, of the one behind it."""


class Pointwise(Single):
    """f(a·x) = a·f(x) for a > 0."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        layer = node.operation
        is_layer = type(layer) is not keras.layers.Activation
        if not is_layer and not is_activated(layer):
            return given
        if not is_homogeneous(layer if is_layer else layer.activation):
            return f"`{node.name}` ({node.kind}) lets no map pass"
        if given.shifts:
            return f"`{node.name}` ({node.kind}) lets no shift pass"
        if not given.is_positive:
            return f"`{node.name}` ({node.kind}) lets only positive scales pass"
        return given

    def back(self, node: Node, wanted: Map) -> Map | str:
        return self.ahead(node, wanted)


class Same(Single):
    """The identity."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        return given

    def back(self, node: Node, wanted: Map) -> Map | str:
        return wanted


class Rearranging(Single):
    """Reshape and Flatten."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        return self._both(node, given, self._order(node), node.outputs[0].shape)

    def back(self, node: Node, wanted: Map) -> Map | str:
        given = node.inputs[0].shape
        order = self._order(node)
        ordered = tuple(given[axis] for axis in order)
        flat = _reshaped(wanted, node.outputs[0].shape, ordered)
        if flat is None:
            return self._refusal(node)
        inverse = [order.index(axis) for axis in range(len(order))]
        return Map.of(np.transpose(flat.scale, inverse), np.transpose(flat.shift, inverse))

    def _both(self, node: Node, given: Map, order: list[int], result: Shape) -> Map | str:
        shape = tuple(node.inputs[0].shape[axis] for axis in order)
        ordered = Map(np.transpose(given.scale, order), np.transpose(given.shift, order))
        flat = _reshaped(ordered, shape, result)
        return self._refusal(node) if flat is None else flat

    def _refusal(self, node: Node) -> str:
        return f"`{node.name}` ({node.kind}) mixes axes of unknown size"

    def _order(self, node: Node) -> list[int]:
        """Flatten reads images with their channels last, however they come."""
        rank = len(node.inputs[0].shape)
        channels_first = getattr(node.operation, "data_format", None) == "channels_first"
        if type(node.operation) is keras.layers.Flatten and channels_first and rank > 1:
            return [0, *range(2, rank), 1]
        return list(range(rank))


def _reshaped(given: Map, shape: Shape, result: Shape) -> Map | None:
    rank, last = len(result), len(shape) - 1
    if not given.axes:
        return Map(given.scale.reshape((1,) * rank), given.shift.reshape((1,) * rank))
    if given.axes <= {last} and shape[-1] == result[-1]:
        tail = (1,) * (rank - 1) + (-1,)
        return Map(given.scale.reshape(tail), given.shift.reshape(tail))
    if None in shape[1:] or None in result[1:]:
        return None
    target = [size for size in result[1:] if size is not None]
    full = [spread(a, shape, range(1, len(shape))) for a in (given.scale, given.shift)]
    return Map.of(*(a.reshape(len(a), *target) for a in full if a is not None))


class Permuting(Single):
    """Permute."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        order = (0, *node.operation.dims)
        return Map(np.transpose(given.scale, order), np.transpose(given.shift, order))

    def back(self, node: Node, wanted: Map) -> Map | str:
        order = tuple(np.argsort((0, *node.operation.dims)))
        return Map(np.transpose(wanted.scale, order), np.transpose(wanted.shift, order))


class Repeating(Single):
    """RepeatVector."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        return Map(given.scale[:, np.newaxis], given.shift[:, np.newaxis])

    def back(self, node: Node, wanted: Map) -> Map | str:
        if 1 in wanted.axes:
            return f"the map changes along the axis over which `{node.name}` repeats"
        return Map(wanted.scale[:, 0], wanted.shift[:, 0])


class Cropping(Single):
    """What is cut off may have any map."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        return Map(
            *(_cut(array, _margins(node, "cropping")) for array in (given.scale, given.shift))
        )

    def back(self, node: Node, wanted: Map) -> Map | str:
        margins = _margins(node, "cropping")
        return Map(*(_extended(array, margins) for array in (wanted.scale, wanted.shift)))


class Padding(Single):
    """Zeros stay zeros under every scale, and know nothing of a shift."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        margins = _margins(node, "padding")
        scale = _extended(given.scale, margins)
        if not given.shifts:
            return Map(scale, given.shift)
        shift = spread(given.shift, node.inputs[0].shape, margins)
        if shift is None:
            return f"`{node.name}` ({node.kind}) adds zeros that its shift does not enter"
        widths = [margins.get(axis, (0, 0)) for axis in range(shift.ndim)]
        return Map.of(scale, np.pad(shift, widths))

    def back(self, node: Node, wanted: Map) -> Map | str:
        if wanted.shifts:
            return f"`{node.name}` ({node.kind}) adds zeros that its shift does not enter"
        return Map(_cut(wanted.scale, _margins(node, "padding")), wanted.shift)


def _spatial(node: Node) -> list[int]:
    rank = len(node.inputs[0].shape)
    channels_first = getattr(node.operation, "data_format", None) == "channels_first"
    return list(range(2, rank)) if channels_first else list(range(1, rank - 1))


def _margins(node: Node, name: str) -> dict[int, tuple[int, int]]:
    """Numbers in front and behind, by axis; those without any are left out."""
    given = getattr(node.operation, name)
    pairs = [given] if isinstance(given[0], int) else given
    named = zip(_spatial(node), pairs, strict=True)
    return {axis: (pair[0], pair[1]) for axis, pair in named if any(pair)}


def _cut(array: np.ndarray, margins: Mapping[int, tuple[int, int]]) -> np.ndarray:
    for axis in varies(array) & set(margins):
        front, behind = margins[axis]
        array = np.take(array, range(front, array.shape[axis] - behind), axis)
    return compact(array)


def _extended(array: np.ndarray, margins: Mapping[int, tuple[int, int]]) -> np.ndarray:
    varying = varies(array)
    widths = [margins.get(i, (0, 0)) if i in varying else (0, 0) for i in range(array.ndim)]
    return np.pad(array, widths, mode="edge")


class Spatial(Single):
    """Windows and interpolation over space: maps that are the same everywhere pass."""

    def __init__(self, *, maximum: bool = False) -> None:
        self.maximum = maximum

    def ahead(self, node: Node, given: Map) -> Map | str:
        if self.maximum and not given.is_positive:
            return f"`{node.name}` ({node.kind}) lets only positive scales pass"
        if getattr(node.operation, "interpolation", "nearest") not in ("nearest", "bilinear"):
            return f"`{node.name}` ({node.kind}) does not interpolate linearly"
        if given.axes & set(_spatial(node)):
            return f"the map changes along an axis over which `{node.name}` ({node.kind}) goes"
        return given

    def back(self, node: Node, wanted: Map) -> Map | str:
        return Spatial.ahead(self, node, wanted)


class Pooled(Spatial):
    """The global mean or maximum."""

    def ahead(self, node: Node, given: Map) -> Map | str:
        space = tuple(_spatial(node))
        if not self.maximum and not varies(given.scale) & set(space):
            # A mean is taken of a shift that changes, too.
            given = Map.of(given.scale, np.mean(given.shift, space, keepdims=True))
        passed = super().ahead(node, given)
        if isinstance(passed, str) or node.operation.keepdims:
            return passed
        return Map(np.squeeze(passed.scale, space), np.squeeze(passed.shift, space))

    def back(self, node: Node, wanted: Map) -> Map | str:
        space = tuple(_spatial(node))
        if not node.operation.keepdims:
            wanted = Map(np.expand_dims(wanted.scale, space), np.expand_dims(wanted.shift, space))
        return super().back(node, wanted)


def _named(pattern: str, carrier: Carrier, *ranks: str) -> dict[type, Carrier]:
    return {getattr(keras.layers, pattern.format(rank)): carrier for rank in ranks}


_ALL = "1D", "2D", "3D"
CARRIERS: dict[type, Carrier] = {
    keras.layers.Identity: Same(),
    keras.layers.Activation: Pointwise(),
    keras.layers.ReLU: Pointwise(),
    keras.layers.LeakyReLU: Pointwise(),
    keras.layers.PReLU: Pointwise(),
    keras.layers.Flatten: Rearranging(),
    keras.layers.Reshape: Rearranging(),
    keras.layers.Permute: Permuting(),
    keras.layers.RepeatVector: Repeating(),
    keras.layers.Concatenate: Joining(),
    keras.layers.Add: Sum(),
    keras.layers.Subtract: Difference(),
    keras.layers.Average: Mean(),
    operations.Add: Sum(),
    operations.Subtract: Difference(),
    **_named("Cropping{}", Cropping(), *_ALL),
    **_named("ZeroPadding{}", Padding(), *_ALL),
    **_named("UpSampling{}", Spatial(), *_ALL),
    **_named("AveragePooling{}", Spatial(), *_ALL),
    **_named("MaxPooling{}", Spatial(maximum=True), *_ALL),
    **_named("GlobalAveragePooling{}", Pooled(), *_ALL),
    **_named("GlobalMaxPooling{}", Pooled(maximum=True), *_ALL),
}
