"""Where the channels of a value in an ONNX graph lie, and what is constant along all else.

A linear node (MatMul, Conv, ConvTranspose with known weights) says how many channels its result
has and on which axis. Squeeze, Transpose and Reshape move them. Where the rank is not known, only
the last axis is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

KEEPING = {"Squeeze", "Reshape", "Transpose"}


@dataclass(frozen=True)
class Place:
    """Where a value's channels lie.

    Attributes:
        axis: Counted from the end, −1 for the last one.
        rank: None if it is not known.
        size: How many channels.
    """

    axis: int
    rank: int | None
    size: int


def constant_of(node: ir.Node) -> ir.Value | None:
    """The one input of a multiplication or addition that is a floating-point constant."""
    known = [value for value in node.inputs if value is not None and value.const_value is not None]
    if len(node.inputs) != 2 or len(known) != 1 or numbers(known[0]).dtype.kind != "f":
        return None
    return known[0]


def data_of(node: ir.Node) -> ir.Value:
    constant = constant_of(node)
    return next(value for value in node.inputs if value is not None and value is not constant)


def numbers(value: Any) -> np.ndarray:
    """A constant; floats in float64."""
    array = np.asarray(value.const_value.numpy())
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def is_private(value: ir.Value) -> bool:
    """Whether one node reads a value, and nobody else."""
    return len(list(value.uses())) == 1 and not value.is_graph_output()


def is_linear(node: ir.Node) -> bool:
    """Whether a node's weights are known and each output channel has its own."""
    if node.op_type not in {"MatMul", "Conv", "ConvTranspose"}:
        return False
    if any(value is None or value.const_value is None for value in node.inputs[1:]):
        return False
    weights = numbers(node.inputs[1])
    if node.op_type == "MatMul":
        return weights.ndim == 2
    return node.op_type == "Conv" or node.attributes.get_int("group", 1) == 1


def _is_unpadded(node: ir.Node) -> bool:
    attributes = node.attributes
    pads = attributes.get_ints("pads", ())
    named = attributes.get_string("auto_pad", "NOTSET")
    return not any(pads) and named in {"NOTSET", "VALID"} and attributes.get_int("group", 1) == 1


def source_of(value: ir.Value) -> tuple[ir.Node, Place] | None:
    """The linear node that forms a value's channels, and where they are."""
    between: list[ir.Node] = []
    while is_private(value):
        node = value.producer()
        if node is None:
            return None
        if is_linear(node):
            return _placed(node, between)
        if node.op_type not in KEEPING or node.inputs[0] is None:
            return None
        between.append(node)
        value = node.inputs[0]
    return None


def _placed(node: ir.Node, between: Sequence[ir.Node]) -> tuple[ir.Node, Place] | None:
    weights = numbers(node.inputs[1])
    if node.op_type == "MatMul":
        place: Place | None = Place(-1, None, weights.shape[1])
    else:
        size = weights.shape[0 if node.op_type == "Conv" else 1]
        place = Place(1 - weights.ndim, weights.ndim, size)
    for step in reversed(between):
        place = None if place is None else _behind(step, place)
    return None if place is None else (node, place)


def _behind(node: ir.Node, place: Place) -> Place | None:
    """Where the channels are behind a node that only moves numbers."""
    if node.op_type == "Reshape":
        kept = place.axis == -1 and _keeps_last(node, place.size)
        return replace(place, rank=None) if kept else None
    if place.rank is None:
        return None
    channel = place.rank + place.axis
    if node.op_type == "Transpose":
        order = list(node.attributes.get_ints("perm", ()))
        return replace(place, axis=order.index(channel) - place.rank) if order else None
    if len(node.inputs) < 2 or node.inputs[1] is None or node.inputs[1].const_value is None:
        return None
    axes = {int(axis) % place.rank for axis in numbers(node.inputs[1])}
    if channel in axes:
        return None
    rank = place.rank - len(axes)
    return replace(place, axis=channel - sum(a < channel for a in axes) - rank, rank=rank)


def _keeps_last(node: ir.Node, size: int) -> bool:
    """Whether a Reshape leaves a last axis of this size where it is."""
    shape = node.inputs[1]
    source = None if shape is None else shape.producer()
    while source is not None and source.op_type == "Cast":
        shape = source.inputs[0]
        source = None if shape is None else shape.producer()
    if source is not None and source.op_type == "Concat":
        shape = source.inputs[-1]
    if shape is None or shape.const_value is None:
        return False
    return int(numbers(shape).reshape(-1)[-1]) == size


def reader_of(node: ir.Node, index: int) -> tuple[ir.Node, Place] | None:
    """The linear node that reads a value, and where the value has the channels that it sums."""
    between = node if node.op_type in {"Reshape", "Transpose"} else None
    if between is not None:
        if not is_private(between.outputs[0]):
            return None
        use = next(iter(between.outputs[0].uses()))
        node, index = use.node, use.idx
    if index != 0 or not is_linear(node) or node.op_type == "ConvTranspose":
        return None
    weights = numbers(node.inputs[1])
    if node.op_type == "MatMul":
        place = Place(-1, None, weights.shape[0])
    elif _is_unpadded(node):
        place = Place(1 - weights.ndim, weights.ndim, weights.shape[1])
    else:
        return None
    if between is None:
        return node, place
    if between.op_type == "Transpose":
        order = list(between.attributes.get_ints("perm", ()))
        rank = len(order)
        return (node, replace(place, axis=order[place.axis] - rank, rank=rank)) if order else None
    kept = place.axis == -1 and _keeps_last(between, place.size)
    return (node, place) if kept else None


def bias_behind(node: ir.Node) -> ir.Node | None:
    """The addition of a bias behind a MatMul."""
    size, value = numbers(node.inputs[1]).shape[1], node.outputs[0]
    while is_private(value):
        following = next(iter(value.uses())).node
        if following.op_type == "Add" and constant_of(following) is not None:
            known = by_channel(numbers(constant_of(following)), Place(-1, None, size)) is not None
            return following if known else None
        if following.op_type != "Reshape" or not _keeps_last(following, size):
            return None
        value = following.outputs[0]
    return None


def by_channel(array: np.ndarray, place: Place) -> np.ndarray | None:
    """A constant as a vector over the channels; None if it is, or might be, something else."""
    if array.ndim > (1 if place.rank is None else place.rank):
        return None
    if array.size == 1:
        return np.full(place.size, array.reshape(-1)[0])
    if array.ndim < -place.axis or array.shape[place.axis] != array.size:
        return None
    return array.reshape(-1) if array.size == place.size else None


def along(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


def fits(array: np.ndarray, like: Any) -> bool:
    """Whether rounding to the dtype of a constant leaves every number finite."""
    limit = np.finfo(like.const_value.numpy().dtype).max
    return bool(np.all(np.abs(array) <= limit))
