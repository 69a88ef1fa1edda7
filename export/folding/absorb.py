"""Layers that absorb a map: its numbers enter theirs, and it is gone.

1. linear layers, on either side (`linear.py`), also inside TimeDistributed
2. recurrent layers, at their input, also inside Bidirectional
3. multi-head attention, at query, key, value and output
4. Embedding and the normalizations with weights of their own, at their output
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ..graphs.graph import Graph, Node, Value, flatten_layers
from ..graphs.maps import Map, vector
from .linear import LINEAR, Absorbed, Absorber, Call, Weights
from .rebuild import weights_of


class OverTime:
    """TimeDistributed around a linear layer."""

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        inner = self._inner(call, given)
        return inner if isinstance(inner, str) else self._outer(inner[0].forward(*inner[1:]))

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        inner = self._inner(call, wanted)
        return inner if isinstance(inner, str) else self._outer(inner[0].backward(*inner[1:]))

    def _inner(self, call: Call, outer: Map) -> tuple[Absorber, Call, Map] | str:
        layer = call.layer.layer
        if type(layer) not in LINEAR:
            return f"`{call.name}` distributes a {type(layer).__name__}, which is not linear"
        if 1 in outer.axes:
            return f"the map changes along the time axis of `{call.name}`"
        shapes = (call.given[0], *call.given[2:]), (call.result[0], *call.result[2:])
        inner = Call(layer, call.name, *shapes, lambda: _inside("layer.", call.weights()))
        return LINEAR[type(layer)], inner, Map(outer.scale[:, 0], outer.shift[:, 0])

    def _outer(self, inner: Absorbed | str) -> Absorbed | str:
        if isinstance(inner, str):
            return inner
        rest = inner.rest
        if rest is not None:
            rest = Map(rest.scale[:, np.newaxis], rest.shift[:, np.newaxis])
        return _under("layer.", replace(inner, rest=rest))


def _inside(prefix: str, weights: Weights) -> Weights:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _under(prefix: str, inner: Absorbed) -> Absorbed:
    weights = {prefix + name: value for name, value in inner.weights.items()}
    config = {prefix + name: value for name, value in inner.config.items()}
    return replace(inner, weights=weights, config=config)


class Recurrent:
    """LSTM, GRU and SimpleRNN: x enters them as W x + c alone."""

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        weights = call.weights()
        kernel = weights["cell.kernel"]
        scale, shift = (vector(array, 2, len(kernel)) for array in (given.scale, given.shift))
        if scale is None or shift is None:
            return f"the map changes along an axis that is not the channels of `{call.name}`"
        weights = {**weights, "cell.kernel": scale[:, np.newaxis] * kernel}
        if not given.shifts:
            return Absorbed(weights)
        split = getattr(call.layer, "reset_after", False)
        rows = 2 if split else 1  # the second one is inside the reset gate
        added = np.zeros((rows, kernel.shape[1]))
        added[0] = shift @ kernel
        bias = weights.get("cell.bias", 0.0) + (added if split else added[0])
        return Absorbed({**weights, "cell.bias": bias}, {"use_bias": True})

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        return f"`{call.name}` ({type(call.layer).__name__}) is not linear"


class BothWays:
    """Bidirectional around recurrent layers."""

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        both = Absorbed({})
        for name, target in (("forward_layer.", "layer."), ("backward_layer.",) * 2):
            layer = getattr(call.layer, name[:-1])
            if type(layer) not in RECURRENT:
                return f"`{call.name}` runs a {type(layer).__name__}, whose weights are not known"
            weights = _inside(name, call.weights())
            inner = Call(layer, call.name, call.given, call.result, lambda w=weights: w)  # type: ignore[misc]
            part = Recurrent().forward(inner, given)
            if isinstance(part, str):
                return part
            both = Absorbed(
                {**both.weights, **_under(name, part).weights},
                {**both.config, **_under(target, part).config},
            )
        return both

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        return f"`{call.name}` ({type(call.layer).__name__}) is not linear"


class Table:
    """Embedding: the map of every row."""

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        return f"`{call.name}` takes indices"

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        table = call.weights()["embeddings"]
        last = len(call.result) - 1
        scale, shift = (
            vector(array, last, table.shape[1]) for array in (wanted.scale, wanted.shift)
        )
        if scale is None or shift is None:
            return f"the map changes along an axis that is not the last one of `{call.name}`"
        return Absorbed({"embeddings": scale * table + shift})


class Normalized:
    """A normalization with γ and β: γ' = a ⊙ γ, β' = a ⊙ β + b."""

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        return f"`{call.name}` ({type(call.layer).__name__}) is not linear"

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        layer, rank = call.layer, len(call.result)
        given = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        axes = sorted(axis % rank for axis in given)
        if not wanted.axes <= set(axes):
            return f"the map changes along an axis over which `{call.name}` has no weights"
        only_scale = type(layer) is keras.layers.RMSNormalization or getattr(
            layer, "rms_scaling", False
        )
        if only_scale and wanted.shifts:
            return f"`{call.name}` has no offset"
        extents = [call.result[axis] for axis in axes]
        scale, shift = (
            np.broadcast_to(array.reshape([array.shape[axis] for axis in axes]), extents)
            for array in (wanted.scale, wanted.shift)
        )
        weights = call.weights()
        if type(layer) is keras.layers.RMSNormalization:
            return Absorbed({"scale": weights["scale"] * scale})
        weights["gamma"] = weights.get("gamma", 1.0) * scale
        if only_scale:
            return Absorbed(weights)
        weights["beta"] = weights.get("beta", 0.0) * scale + shift
        return Absorbed(weights, {"scale": True, "center": True})


RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
ABSORBERS: dict[type, Absorber] = {
    **LINEAR,
    **dict.fromkeys(RECURRENT, Recurrent()),
    keras.layers.TimeDistributed: OverTime(),
    keras.layers.Bidirectional: BothWays(),
    keras.layers.Embedding: Table(),
    keras.layers.LayerNormalization: Normalized(),
    keras.layers.RMSNormalization: Normalized(),
    keras.layers.GroupNormalization: Normalized(),
}
ATTENTION = keras.layers.MultiHeadAttention


def absorbs(operation: Any) -> bool:
    """Whether a layer's class is one of those that absorb maps."""
    return type(operation) in ABSORBERS or type(operation) is ATTENTION


def forward(graph: Graph, node: Node, given: Mapping[int, Map]) -> Absorbed | str:
    """Maps in front of an absorbing layer, by id of the value."""
    refused = _refusal(node)
    if refused:
        return refused
    if type(node.operation) is ATTENTION:
        return _attend(graph, node, given)
    if any(id(value) in given for value in node.inputs[1:]):
        return f"`{node.name}` takes it as another argument than its first"
    return ABSORBERS[type(node.operation)].forward(_call(graph, node), given[id(node.inputs[0])])


def backward(graph: Graph, node: Node, wanted: Map) -> Absorbed | str:
    """A map behind an absorbing layer."""
    refused = _refusal(node)
    if refused:
        return refused
    if type(node.operation) is ATTENTION:
        return _project(graph, node, "_output_dense", wanted, forwards=False)
    return ABSORBERS[type(node.operation)].backward(_call(graph, node), wanted)


def _call(graph: Graph, node: Node) -> Call:
    layer, shapes = node.operation, (node.inputs[0].shape, node.outputs[0].shape)
    return Call(layer, node.name, *shapes, lambda: weights_of(graph, layer))


def _refusal(node: Node) -> str | None:
    for layer in flatten_layers(node.operation):
        if getattr(layer, "quantization_mode", None) is not None:
            return f"`{node.name}` is quantized"
        if getattr(layer, "lora_enabled", False):
            return f"`{node.name}` has LoRA weights"
    return None


def _attend(graph: Graph, node: Node, given: Mapping[int, Map]) -> Absorbed | str:
    """Query, key and value are projected first, each by a layer of its own."""
    arguments = arguments_of(node)
    roles = {name: arguments.pop(name, None) for name in ("query", "value", "key")}
    roles["key"] = roles["value"] if roles["key"] is None else roles["key"]
    others = keras.tree.flatten(arguments)
    if any(isinstance(value, Value) and id(value) in given for value in others):
        return f"`{node.name}` takes it as something else than query, key or value"
    changed: Weights = {}
    for role, value in roles.items():
        if id(value) not in given:
            continue
        part = _project(graph, node, f"_{role}_dense", given[id(value)], forwards=True)
        if isinstance(part, str):
            return part
        prefix = f"_{role}_dense."
        changed |= {name: w for name, w in part.weights.items() if name.startswith(prefix)}
    return Absorbed({**weights_of(graph, node.operation), **changed})


def _project(graph: Graph, node: Node, name: str, outer: Map, *, forwards: bool) -> Absorbed | str:
    """A map at one of the four projections of multi-head attention."""
    attention: Any = node.operation
    if getattr(attention, "_use_gate", False):
        return f"`{node.name}` has a gate"
    layer, prefix = getattr(attention, name), f"{name}."
    everything = weights_of(graph, attention)
    own = _inside(prefix, everything)
    if forwards:
        given = _shape_of(node, name)
        call = Call(layer, node.name, given, layer.compute_output_shape(given), lambda: own)
        part = LINEAR[type(layer)].forward(call, outer)
    else:
        result = node.outputs[0].shape
        # All that matters of the input is its rank.
        given = (*result[:-1], None, None)
        part = LINEAR[type(layer)].backward(
            Call(layer, node.name, given, result, lambda: own), outer
        )
    if isinstance(part, str):
        return part
    axes = set(part.config.get("bias_axes", layer.bias_axes or ""))
    if part.rest is not None or axes != set(layer.bias_axes or ""):
        return f"`{node.name}` has no bias that could hold its shift"
    return Absorbed({**everything, **_under(prefix, part).weights})


def _shape_of(node: Node, projection: str) -> Any:
    arguments = arguments_of(node)
    role = projection.strip("_").removesuffix("_dense")
    value = arguments.get(role)
    return (arguments["value"] if value is None else value).shape


def arguments_of(node: Node) -> dict[str, Any]:
    """Arguments of a call by the names that the layer gives them."""
    signature = inspect.signature(node.operation.call)
    return dict(signature.bind_partial(*node.arguments, **node.keywords).arguments)
