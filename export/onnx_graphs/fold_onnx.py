"""Folding in the ONNX graph, for what lies inside models and layers whose Keras graph is closed.

There a batch normalization is a run of multiplications and additions with constants, y = a·x + b.

1. MatMul, Conv or ConvTranspose → run: a enters the weights; b the bias of a convolution, or one
   addition behind a MatMul.
2. run → MatMul, or Conv without padding, wherever its result is read: a enters the weights, and
   W b is added behind.

Nothing is done that does not save nodes. Constants are computed in float64 and rounded once. A
constant must change along the channels only, by its shape; where the shape does not say, nothing
is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..folding.folding import Fold
from ..formats import FLOAT32, Format
from ..graphs.graph import Graph, Node, flatten_layers, layer_of, scope_of
from .onnx_channels import (
    along,
    bias_behind,
    by_channel,
    constant_of,
    data_of,
    fits,
    is_private,
    numbers,
    reader_of,
    source_of,
)
from .onnx_values import constant

if TYPE_CHECKING:
    import onnx_ir as ir

ARITHMETIC = {"Mul", "Add", "Sub", "Div"}


def fold_onnx(
    model: ir.Model, graph: Graph, folds: Sequence[Fold], stored: Format = FLOAT32
) -> list[Fold]:
    """Fold the runs inside closed layers, in place; return the report with what has changed."""
    closed = [node for node in graph.nodes if _is_closed(node)]
    scopes = tuple(scope_of(node.name) for node in closed)
    moved = list(_Pass(model, scopes, _norms(closed), stored).run()) if scopes else []
    return [_told(entry, model, graph, closed, moved) for entry in folds]


def _norms(closed: Sequence[Node]) -> re.Pattern[str]:
    """What the names of ONNX nodes of a batch normalization begin with."""
    parts = [
        _inside(node, layer)
        for node in closed
        for layer in flatten_layers(node.operation)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    return re.compile("|".join(parts))


def _inside(node: Node, layer: keras.Layer) -> str:
    """The scope of a layer in that of a node; TensorFlow may have numbered it."""
    scope = re.escape(scope_of(node.name))
    if layer is node.operation:
        return scope
    return rf"{scope}(?:.*/)?{re.escape(layer.name)}(?:_\d+)?/"


def _told(
    entry: Fold,
    model: ir.Model,
    graph: Graph,
    closed: Sequence[Node],
    moved: Sequence[tuple[list[str], list[ir.Node]]],
) -> Fold:
    """The entry of one layer after the pass."""
    for node in closed:
        for layer in flatten_layers(node.operation):
            own = node.name if layer is node.operation else f"{node.name}/{layer.name}"
            if entry.layer != own:
                continue
            pattern = re.compile(_inside(node, layer))
            if any(pattern.match(n.name or "") for n in model.graph if n.op_type in ARITHMETIC):
                return entry
            ends = [end for names, into in moved if any(map(pattern.match, names)) for end in into]
            # TensorFlow may have folded it already; then its constants are another node's.
            ends = ends or [end for end in model.graph if any(map(pattern.match, _constants(end)))]
            into = dict.fromkeys(_layer(end, graph, closed) for end in ends)
            return replace(entry, into=tuple(into), reason=None) if into else entry
    return entry


def _constants(node: ir.Node) -> list[str]:
    given = [value for value in node.inputs if value is not None and value.const_value is not None]
    return [value.name or "" for value in given]


def _layer(node: ir.Node, graph: Graph, closed: Sequence[Node]) -> str:
    """The Keras layer that an ONNX node comes from, by its name or those of its constants."""
    names = [node.name or "", *_constants(node)]
    found = [
        f"{outer.name}/{layer.name}"
        for name in names
        for outer in closed
        for layer in flatten_layers(outer.operation)[1:]
        if not isinstance(layer, keras.layers.BatchNormalization)
        and re.match(_inside(outer, layer), name)
    ]
    every = [each.name for each in graph.nodes]
    found += [layer for name in names if (layer := layer_of(name, every)) is not None]
    return max(found, key=len, default=node.name or node.op_type)


def _is_closed(node: Node) -> bool:
    """Whether batch normalizations may lie inside it, or it may be one of another class."""
    if not isinstance(node.operation, keras.Layer):
        return False
    inner = flatten_layers(node.operation)
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in inner)


@dataclass(frozen=True)
class _Run:
    """y = scale · x + shift, as a chain of nodes each of which is read by the next one only."""

    nodes: tuple[ir.Node, ...]
    x: ir.Value
    y: ir.Value
    scale: np.ndarray
    shift: np.ndarray


class _Pass:
    """Fold every run that a linear node can absorb."""

    def __init__(
        self, model: ir.Model, scopes: tuple[str, ...], norms: re.Pattern[str], stored: Format
    ) -> None:
        self.graph = model.graph
        self.scopes = scopes
        self.norms = norms
        self.stored = stored

    def run(self) -> Iterator[tuple[list[str], list[ir.Node]]]:
        """Names of the nodes of each run that was folded, and the nodes that it went into."""
        for node in list(self.graph):
            if node.graph is None or not self._is_step(node):
                continue
            found = self._run_from(node)
            if found is None:
                continue
            into = self._into_preceding(found) or self._into_following(found)
            if into:
                yield [step.name or "" for step in found.nodes], into

    # Runs

    def _is_step(self, node: ir.Node) -> bool:
        if node.op_type not in {"Mul", "Add"} or constant_of(node) is None:
            return False
        return (node.name or "").startswith(self.scopes) or self._is_bias(node)

    def _is_bias(self, node: ir.Node) -> bool:
        return node.op_type == "Add" and source_of(data_of(node)) is not None

    def _run_from(self, first: ir.Node) -> _Run | None:
        """The run that begins with a node, if it does not begin before it."""
        x = data_of(first)
        before = x.producer()
        if before is not None and self._is_step(before) and is_private(x):
            return None
        nodes = [first]
        while is_private(nodes[-1].outputs[0]):
            following = next(iter(nodes[-1].outputs[0].uses())).node
            if not self._is_step(following):
                break
            nodes.append(following)
        if not any((node.name or "").startswith(self.scopes) for node in nodes):
            return None
        scale, shift = np.ones(()), np.zeros(())
        for node in nodes:
            constant = numbers(constant_of(node))
            if node.op_type == "Mul":
                scale, shift = scale * constant, shift * constant
            else:
                shift = shift + constant
        return _Run(tuple(nodes), x, nodes[-1].outputs[0], scale, shift)

    # Case 1

    def _into_preceding(self, run: _Run) -> list[ir.Node]:
        source = source_of(run.x)
        if source is None:
            return []
        node, place = source
        scale, shift = (by_channel(array, place) for array in (run.scale, run.shift))
        if scale is None or shift is None:
            return []
        is_product = node.op_type == "MatMul"
        if not is_product and not self.stored.folds_into_convolutions:
            return []
        if is_product and len(run.nodes) < 2 and run.nodes[0].op_type == "Add":
            return []
        weights = numbers(node.inputs[1])
        outputs = {"MatMul": -1, "Conv": 0, "ConvTranspose": 1}[node.op_type]
        new = [weights * along(scale, outputs, weights.ndim)]
        if not is_product:
            bias = numbers(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(())
            new.append(bias * scale + shift)
        if not self._replace_weights(node, new):
            return []
        if is_product and np.any(shift != 0.0):
            label = f"{node.name}/folded"
            self._bypass(run, self._addition(run.x, run.nodes[0], run.shift, label))
        else:
            self._bypass(run, run.x)
        return [node]

    # Case 2

    def _into_following(self, run: _Run) -> list[ir.Node]:
        own = all(self.norms.match(node.name or "") for node in run.nodes)
        # Any other constant could have more channels than x.
        if not self.stored.folds_forwards or not own or run.y.is_graph_output():
            return []
        plans = []
        for use in run.y.uses():
            if use.node.op_type == "Shape":
                continue
            plan = self._reader_plan(run, use.node, use.idx)
            if plan is None or not all(fits(a, plan.node.inputs[1]) for a in plan.arrays):
                return []
            plans.append(plan)
        if not plans or sum(plan.adds for plan in plans) >= len(run.nodes):
            return []
        for plan in plans:
            self._read(plan)
        self._bypass(run, run.x)
        return [plan.node for plan in plans]

    def _reader_plan(self, run: _Run, node: ir.Node, index: int) -> _Reading | None:
        found = reader_of(node, index) if index == 0 else None
        if found is None:
            return None
        node, place = found
        known = max(run.scale.size, run.shift.size)
        if (place.rank is None and place.axis != -1) or known not in {1, place.size}:
            return None
        weights = numbers(node.inputs[1])
        scale, shift = (by_channel(array, place) for array in (run.scale, run.shift))
        if scale is None or shift is None:
            return None
        if node.op_type == "MatMul":
            new, image = weights * scale[:, np.newaxis], shift @ weights
            return _Reading(node, new, image, bias_behind(node))
        new = weights * along(scale, 1, weights.ndim)
        image = np.sum(weights, axis=tuple(range(2, weights.ndim))) @ shift
        return _Reading(node, new, image, None, is_convolution=True)

    def _read(self, plan: _Reading) -> None:
        node = plan.node
        if plan.is_convolution:
            bias = numbers(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(())
            self._replace_weights(node, [plan.weights, bias + plan.image])
            return
        self._replace_weights(node, [plan.weights])
        if plan.bias is not None:
            constant = constant_of(plan.bias)
            index = list(plan.bias.inputs).index(constant)
            new = self._new_constant(numbers(constant) + plan.image, constant)
            plan.bias.replace_input_with(index, new)
        elif plan.adds:
            old = node.outputs[0]
            users = list(old.uses())
            new = self._addition(old, node, plan.image, f"{node.name}/folded", behind=True)
            self._take_over(old, new, users)

    # Changes

    def _replace_weights(self, node: ir.Node, arrays: Sequence[np.ndarray]) -> bool:
        if not all(fits(array, node.inputs[1]) for array in arrays):
            return False
        old = [*node.inputs[1:], node.inputs[1]]
        values = [self._new_constant(array, like) for array, like in zip(arrays, old, strict=False)]
        node.replace_input_with(1, values[0])
        if len(values) > 1:
            if len(node.inputs) < 3:
                node.resize_inputs(3)
            node.replace_input_with(2, values[1])
        return True

    def _new_constant(self, array: np.ndarray, like: Any) -> ir.Value:
        """Another constant in the dtype of one that there is."""
        base = f"{like.name}/folded"
        names = (f"{base}_{i}" for i in range(len(self.graph.initializers) + 1))
        name = next(name for name in names if name not in self.graph.initializers)
        dtype = like.const_value.numpy().dtype
        return constant(self.graph, name, np.ascontiguousarray(array, dtype))

    def _addition(
        self, x: ir.Value, node: ir.Node, shift: np.ndarray, name: str, *, behind: bool = False
    ) -> ir.Value:
        """x + shift, in front of a node or behind it."""
        import onnx_ir as ir

        constant = self._new_constant(shift, constant_of(node) or node.inputs[1])
        addition = ir.Node("", "Add", [x, constant], name=name)
        addition.outputs[0].name, addition.outputs[0].type = f"{name}:0", x.type
        (self.graph.insert_after if behind else self.graph.insert_before)(node, addition)
        return addition.outputs[0]

    def _bypass(self, run: _Run, new: ir.Value) -> None:
        """Let what reads a run read something else, and take its nodes out."""
        self._take_over(run.y, new, list(run.y.uses()))
        for node in reversed(run.nodes):
            self.graph.remove(node, safe=True)

    def _take_over(self, old: ir.Value, new: ir.Value, users: Sequence[Any]) -> None:
        """Another value for these users; it gets the name if the graph returns it."""
        new.type = new.type or old.type
        for use in users:
            use.node.replace_input_with(use.idx, new)
        if old.is_graph_output():
            outputs = self.graph.outputs
            outputs[:] = [new if value is old else value for value in outputs]
            old.name, new.name = f"{old.name}:folded", old.name


@dataclass(frozen=True)
class _Reading:
    """How a linear node reads x in place of a·x + b."""

    node: ir.Node
    weights: np.ndarray
    image: np.ndarray
    bias: ir.Node | None
    is_convolution: bool = False

    @property
    def adds(self) -> bool:
        """Whether an addition has to be written behind it."""
        return self.bias is None and not self.is_convolution and bool(np.any(self.image != 0.0))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.weights, self.image
