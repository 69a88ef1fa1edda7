"""A layer again with other weights: in float64 beside it, rounded once in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..graphs.exact import float64
from ..graphs.graph import Graph, Node
from ..graphs.maps import Shape
from .linear import Absorbed, Weights, config_of

PARTS = (
    *("", "cell.", "layer.", "forward_layer.cell.", "backward_layer.cell."),
    *("_query_dense.", "_key_dense.", "_value_dense.", "_output_dense."),
)
VARIABLES = (
    *("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "bias"),
    *("gamma", "beta", "scale", "embeddings"),
)


def weights_of(graph: Graph, layer: Any) -> Weights:
    """The weights of a layer in float64, by attribute."""
    weights = {}
    for part in PARTS:
        holder = _inner(layer, part)
        for name in VARIABLES:
            variable = getattr(holder, name, None)
            if isinstance(variable, keras.Variable):
                known = graph.exact.get(id(variable))
                weights[part + name] = float64(variable) if known is None else known[1]
    return weights


def _inner(layer: Any, part: str) -> Any:
    for name in part.split(".")[:-1]:
        layer = getattr(layer, name, None)
    return layer


def rebuild(graph: Graph, nodes: Sequence[Node], absorbed: Absorbed, shapes: list[Shape]) -> None:
    """Give nodes that share a layer a copy of it that has absorbed a map."""
    layer = nodes[0].operation
    config = config_of(layer)
    for path, value in absorbed.config.items():
        *outer, name = path.split(".")
        inner = config
        for step in outer:
            inner = inner[step]["config"]
        inner[name] = value
    copy = type(layer).from_config(config)
    # An activation may be a function without a name, or have weights of its own: it is shared.
    _activate(copy, layer)
    copy.build(*shapes)
    for path, value in absorbed.weights.items():
        *outer, name = path.split(".")
        variable = getattr(_inner(copy, ".".join((*outer, ""))), name)
        graph.exact.assign(variable, _fitted(value, tuple(variable.shape)))
    graph.exact.forget(layer.variables)
    for node in nodes:
        node.operation = copy


def _activate(copy: Any, layer: Any) -> None:
    inner = ("cell", "layer", "forward_layer", "backward_layer")
    parts = [name for name in inner if isinstance(getattr(layer, name, None), keras.Layer)]
    for name in parts:
        _activate(getattr(copy, name), getattr(layer, name))
    if not parts:
        for name in ("activation", "recurrent_activation"):
            if hasattr(layer, name):
                setattr(copy, name, getattr(layer, name))


def _fitted(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A bias has the rank of the result until it gets the shape of its variable."""
    if value.shape == shape:
        return value
    own = (-1,) if len(shape) == 1 else value.shape[value.ndim - len(shape) :]
    return np.array(np.broadcast_to(value.reshape(own), shape))
