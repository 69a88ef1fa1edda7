"""Layers of several inputs that maps pass, in either direction; the layers stay as they are.

Concatenation splits a map or joins several, sums split and join shifts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from ..graphs.graph import Graph, Node, Value
from ..graphs.maps import Map, spread, varies
from .absorb import absorbs
from .linear import is_activated

Wanted = list[tuple[Value, Map]]


class Joining:
    """Concatenate: each part has its piece of the map."""

    def forward(self, graph: Graph, node: Node, given: Mapping[int, Map]) -> Map | str:
        rank = len(node.outputs[0].shape)
        maps = [given.get(id(value), Map.identity(rank)) for value in node.inputs]
        axis = node.operation.axis % rank
        joined = []
        for arrays in ([m.scale for m in maps], [m.shift for m in maps]):
            pieces = [spread(a, v.shape, [axis]) for a, v in zip(arrays, node.inputs, strict=True)]
            known = [piece for piece in pieces if piece is not None]
            if len(known) < len(pieces):
                return f"`{node.name}` joins axes of unknown size"
            shape = np.max([piece.shape for piece in known], axis=0)
            full = [_broadcast(piece, shape, axis) for piece in known]
            joined.append(np.concatenate(full, axis))
        return Map.of(*joined)

    def backward(self, graph: Graph, node: Node, wanted: Map) -> Wanted | str:
        axis = node.operation.axis % len(node.outputs[0].shape)
        sizes = [value.shape[axis] for value in node.inputs]
        if axis not in wanted.axes:
            return [(value, wanted) for value in node.inputs]
        ends = list(itertools.accumulate(size or 0 for size in sizes))
        pieces = []
        for value, end, size in zip(node.inputs, ends, sizes, strict=True):
            part = range(end - (size or 0), end)
            pieces.append(
                (value, Map.of(*(_piece(a, axis, part) for a in (wanted.scale, wanted.shift))))
            )
        return pieces


def _broadcast(piece: np.ndarray, shape: np.ndarray, axis: int) -> np.ndarray:
    target = [piece.shape[axis] if i == axis else int(size) for i, size in enumerate(shape)]
    return np.broadcast_to(piece, target)


def _piece(array: np.ndarray, axis: int, part: range) -> np.ndarray:
    return np.take(array, part, axis) if array.shape[axis] > 1 else array


class Sum:
    """Add and Subtract: an equal scale passes, and shifts are summed as their values are.

    Backwards the shift may go into any one of the inputs.
    """

    def signs(self, count: int) -> list[float]:
        return [1.0] * count

    def forward(self, graph: Graph, node: Node, given: Mapping[int, Map]) -> Map | str:
        refused = self._refusal(node)
        if refused:
            return refused
        rank = len(node.outputs[0].shape)
        maps = [given.get(id(value), Map.identity(rank)) for value in node.inputs]
        if any(not np.array_equal(m.scale, maps[0].scale) for m in maps):
            return f"`{node.name}` ({node.kind}) lets only equal scales pass"
        shift = np.zeros((1,) * rank)
        for sign, one in zip(self.signs(len(maps)), maps, strict=True):
            shift = shift + sign * one.shift
        return Map.of(maps[0].scale, shift)

    def backward(self, graph: Graph, node: Node, wanted: Map) -> Wanted | str:
        refused = self._refusal(node)
        if refused:
            return refused
        shape = node.outputs[0].shape
        if any(not _has(value, varies(wanted.scale), shape) for value in node.inputs):
            return f"`{node.name}` ({node.kind}) broadcasts an axis along which the map changes"
        if not wanted.shifts:
            return [(value, wanted) for value in node.inputs]
        takers = [i for i, v in enumerate(node.inputs) if _has(v, varies(wanted.shift), shape)]
        if not takers:
            return f"`{node.name}` ({node.kind}) broadcasts an axis along which the map changes"
        taker = max(takers, key=lambda i: _takes_shift(graph, node.inputs[i]))
        sign = self.signs(len(node.inputs))[taker]
        return [
            (value, Map(wanted.scale, sign * wanted.shift) if i == taker else wanted.only_scale())
            for i, value in enumerate(node.inputs)
        ]

    def _refusal(self, node: Node) -> str | None:
        leaves = keras.tree.flatten((node.arguments, node.keywords))
        ranks = {len(value.shape) for value in (*node.inputs, *node.outputs)}
        if len(leaves) != len(node.inputs) or len(ranks) > 1:
            return f"`{node.name}` ({node.kind}) takes something else besides"
        return None


class Difference(Sum):
    """x − y."""

    def signs(self, count: int) -> list[float]:
        return [1.0, -1.0]


class Mean(Sum):
    """The mean of values: a map that all of them have, and shares of shifts."""

    def signs(self, count: int) -> list[float]:
        return [1.0 / count] * count

    def backward(self, graph: Graph, node: Node, wanted: Map) -> Wanted | str:
        refused = self._refusal(node)
        shape = node.outputs[0].shape
        if refused or any(not _has(value, wanted.axes, shape) for value in node.inputs):
            return refused or f"`{node.name}` broadcasts an axis along which the map changes"
        return [(value, wanted) for value in node.inputs]


def _has(value: Value, axes: set[int], shape: Sequence[int | None]) -> bool:
    """Whether a summand is as long as the sum along these axes."""
    return all(value.shape[axis] == shape[axis] for axis in axes)


def _takes_shift(graph: Graph, value: Value) -> bool:
    """Whether what computes a value has a bias, or can have one."""
    source = graph.producer(value)
    if source is None or len(graph.consumers(value)) > 1 or not absorbs(source.operation):
        return False
    return not hasattr(source.operation, "activation") or not is_activated(source.operation)
