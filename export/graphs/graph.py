"""The inference graph: values and the nodes that compute them.

A `Value` is a tensor that does not exist yet, a `Node` is one call of one Keras operation, a
`Graph` is a list of nodes in an order in which they can run. The passes in `inference.py` and
`folding.py` edit a graph; `Graph.__call__` runs it on tensors. Layers that no pass touches are the
user's own objects, so nothing is copied; a layer that a pass changes is rebuilt, and its weights
are known in float64 in `Graph.exact` beside the rounded ones in the layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from ..errors import ConversionError, reason
from ..ports import Port
from .exact import Exact

ADVICE = {
    # Where Keras makes a tensor of a shape.
    "partially known TensorShape": " It needs extents that are known. Fix those that are free, the "
    "batch among them, with `dimensions`, such as {'batch': 1} (on the command line "
    "`--dim batch=1`).",
    "is not a valid scope name": " Rename it: TensorFlow, and so `predict`, takes letters, digits "
    "and `_.-/`.",
}
"""What to do about an error, by words of it."""


@dataclass(eq=False)
class Value:
    """A symbolic tensor."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclass(eq=False)
class Node:
    """One call of a Keras layer or operation.

    Attributes:
        operation: What is called.
        arguments: Positional arguments, with Values where tensors go.
        keywords: Keyword arguments, likewise.
        outputs: What the call returns, flattened.
        name: Unique in the graph: the layer's path, numbered from the second call on.
    """

    operation: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: tuple[Value, ...]
    name: str

    @property
    def inputs(self) -> list[Value]:
        leaves = tree.flatten((self.arguments, self.keywords))
        return [leaf for leaf in leaves if isinstance(leaf, Value)]

    @property
    def kind(self) -> str:
        return type(self.operation).__name__

    def substitute(self, table: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keywords with each Value replaced by what `table` holds for its id."""
        filled = tree.map_structure(
            lambda leaf: table.get(id(leaf), leaf) if isinstance(leaf, Value) else leaf,
            (self.arguments, self.keywords),
        )
        return filled[0], filled[1]


After = Callable[[Node, list[Any], list[Any]], list[Any]]


@dataclass
class Graph:
    """Nodes from inputs to outputs.

    Attributes:
        name: The model's name.
        inputs, outputs: Ends of the graph.
        input_ports, output_ports: Their names, shapes and dtypes as the user knows them.
        nodes: In an order in which they can run.
        exact: The variables of rebuilt layers, and their values in float64.
    """

    name: str
    inputs: list[Value]
    outputs: list[Value]
    input_ports: list[Port]
    output_ports: list[Port]
    nodes: list[Node]
    exact: Exact = field(default_factory=Exact)

    def producer(self, value: Value) -> Node | None:
        return next((node for node in self.nodes if value in node.outputs), None)

    def consumers(self, value: Value) -> list[Node]:
        return [node for node in self.nodes if any(value is used for used in node.inputs)]

    def is_output(self, value: Value) -> bool:
        return any(value is output for output in self.outputs)

    def replace(self, old: Value, new: Value) -> None:
        """Let everything that reads `old` read `new`."""
        for node in self.nodes:
            node.arguments, node.keywords = node.substitute({id(old): new})
        self.outputs = [new if output is old else output for output in self.outputs]

    def bypass(self, node: Node) -> None:
        """Take out a node that hands its first input on unchanged."""
        self.nodes.remove(node)
        self.replace(node.outputs[0], node.inputs[0])

    def layers(self) -> list[keras.Layer]:
        """Every layer that takes part, inner ones included, each once."""
        found: dict[int, keras.Layer] = {}
        for node in self.nodes:
            if isinstance(node.operation, keras.Layer):
                for layer in flatten_layers(node.operation):
                    found[id(layer)] = layer
        return list(found.values())

    def calls(self, operation: object) -> int:
        return sum(node.operation is operation for node in self.nodes)

    def __call__(self, *tensors: Any, after: After | None = None) -> list[Any]:
        """Run the graph in inference mode.

        Args:
            *tensors: One per input, or arrays, which some operations do not take.
            after: Called with each node, what it is given and its results; what it returns
                replaces these.
        """
        given = map(tf.convert_to_tensor, tensors)
        table = {id(value): tensor for value, tensor in zip(self.inputs, given, strict=True)}
        last = {id(value): node for node in self.nodes for value in node.inputs}
        kept = {id(value) for value in self.outputs}
        for node in self.nodes:
            results = run(node, table)
            if after is not None:
                results = after(node, [table[id(value)] for value in node.inputs], results)
            table.update(zip(map(id, node.outputs), results, strict=True))
            for value in node.inputs:
                if last[id(value)] is node and id(value) not in kept:
                    table.pop(id(value), None)
        return [table[id(value)] for value in self.outputs]


def run(node: Node, table: Mapping[int, Any]) -> list[Any]:
    """Call one node on the tensors in `table`."""
    arguments, keywords = node.substitute(table)
    if takes_training(node.operation):
        # As in `predict`: it overrides a `training=True` given when the model was built.
        keywords = {**keywords, "training": False}
    with tf.name_scope(scope_of(node.name)), naming(node.name):
        return tree.flatten(node.operation(*arguments, **keywords))


@contextmanager
def naming(layer: str) -> Iterator[None]:
    """Say in which layer a Keras error arose."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        advice = next((what for words, what in ADVICE.items() if words in str(error)), "")
        message = f"Layer `{layer}` cannot be traced: {reason(error)}{advice}"
        raise ConversionError(message, layer) from error


def scope_of(name: str) -> str:
    """The TensorFlow name scope of a node; the closing slash keeps it from being renumbered."""
    allowed = re.sub(r"[^A-Za-z0-9_./-]", "_", name).lstrip("_./-")
    return (allowed or "layer") + "/"


def layer_of(tensor_name: str, names: Sequence[str]) -> str | None:
    """The node in whose scope a TensorFlow or ONNX name lies, the innermost if several."""
    inside = [name for name in names if tensor_name.startswith(scope_of(name))]
    return max(inside, key=len, default=None)


def takes_training(operation: object) -> bool:
    # The flag that Keras itself consults: a signature may hide `training` behind **kwargs.
    return isinstance(operation, keras.Layer) and bool(operation._call_has_training_arg)


def flatten_layers(layer: keras.Layer) -> list[keras.Layer]:
    """A layer and all layers inside it."""
    # Keras has no public way to reach the inner layers of a layer that is no model.
    return list(layer._flatten_layers())
