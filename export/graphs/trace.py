"""From a Keras model to an inference graph.

1. Sequential and Functional models are open: their layers become nodes, nested ones included.
2. Everything else (subclassed models, a nested model with a `call` of its own) is closed: the
   whole of it is one node, and what lies inside cannot be seen by the passes.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional  # Keras exports `Model`, not this class

from ..errors import SourceError, reason
from ..ports import Port, unique
from .graph import Graph, Node, Value
from .plain_names import unnumbered

MOST_GUESSED = 4
"""Inputs of a subclassed model whose types are tried."""


def trace(model: keras.Model) -> Graph:
    """The inference graph of a built model.

    Raises:
        SourceError: The model has never been built, so its input shapes are unknown.
    """
    function = open_function(model)
    return trace_closed(model) if function is None else trace_open(model, function)


def without_bfloat16(graph: Graph) -> Graph:
    """The graph, in place, its bfloat16 values in float32; see `precision.in_float32`."""
    values = [value for node in graph.nodes for value in node.outputs]
    for value in (*graph.inputs, *values):
        if value.dtype == "bfloat16":
            value.dtype = "float32"
    for ports in (graph.input_ports, graph.output_ports):
        ports[:] = [replace(p, dtype="float32") if p.dtype == "bfloat16" else p for p in ports]
    return graph


def open_function(operation: Any) -> Any | None:
    """The Keras function behind a model whose graph can be read, else None."""
    if isinstance(operation, keras.Sequential):
        if type(operation).call is not keras.Sequential.call:
            return None
        # Sequential keeps its graph under this name; `keras.Model(model.inputs, ...)` would
        # build a second one at every look.
        return operation._functional if operation.built else None
    is_open = isinstance(operation, Functional) and type(operation).call is Functional.call
    return operation if is_open else None


def trace_open(model: keras.Model, function: Any) -> Graph:
    free_batch = isinstance(model, keras.Sequential) and not any(
        getattr(layer, "stateful", False) for layer in model.layers
    )
    inputs = [value_of(tensor, free_batch) for tensor in function.inputs]
    nodes: list[Node] = []
    outputs = _walk(model, function, inputs, "", nodes)
    _number(nodes)
    for value in outputs:
        if free_batch and value.shape:
            value.shape = (None, *value.shape[1:])
    input_names = [tensor.name for tensor in function.inputs]
    return _graph(model.name, inputs, input_names, outputs, _output_names(function), nodes)


def _graph(
    name: str,
    inputs: list[Value],
    input_names: Sequence[str],
    outputs: list[Value],
    output_names: Sequence[str],
    nodes: list[Node],
) -> Graph:
    """In an ONNX file, inputs and outputs share one space of names."""
    names = unique((*input_names, *output_names))
    ports = [_port(*pair) for pair in zip(names, (*inputs, *outputs), strict=True)]
    split = len(inputs)
    return Graph(name, inputs, outputs, ports[:split], ports[split:], nodes)


def value_of(tensor: Any, free_batch: bool = False) -> Value:
    """A Value like a KerasTensor; a Sequential built by a call has no real batch extent."""
    shape = tuple(tensor.shape)
    return Value((None, *shape[1:]) if free_batch and shape else shape, tensor.dtype)


def _port(name: str, value: Value) -> Port:
    return Port(name, value.shape, value.dtype)


def _walk(
    model: Any, function: Any, inputs: Sequence[Value], prefix: str, nodes: list[Node]
) -> list[Value]:
    """Append the nodes of a model's function to `nodes`, entering nested open models."""
    table: dict[int, Any] = dict(zip(map(id, function.inputs), inputs, strict=True))
    # The order in which Keras itself runs the function.
    by_depth = function._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        for call in by_depth[depth]:
            if call.is_input:
                continue
            for tensor, value in zip(
                call.output_tensors, _call(model, call, table, prefix, nodes), strict=True
            ):
                table[id(tensor)] = value
    return [table[id(tensor)] for tensor in function.outputs]


def _call(
    model: Any, call: Any, table: dict[int, Any], prefix: str, nodes: list[Node]
) -> Sequence[Value]:
    arguments, keywords = tree.map_structure(
        lambda leaf: table[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf,
        (tuple(call.arguments.args), dict(call.arguments.kwargs)),
    )
    operation = call.operation
    name = prefix + _name(model, operation)
    inner = open_function(operation)
    entries = None if inner is None else _entries(inner, arguments, keywords)
    if entries is not None:
        return _walk(operation, inner, entries, name + "/", nodes)
    outputs = tuple(value_of(tensor) for tensor in call.output_tensors)
    nodes.append(Node(operation, arguments, keywords, outputs, name))
    return outputs


def _name(model: Any, operation: Any) -> str:
    """A Sequential makes the operations of its masks anew each time that it is loaded."""
    own = isinstance(model, keras.Sequential) and not isinstance(operation, keras.Layer)
    return (unnumbered(operation) if own else None) or str(operation.name)


def _entries(
    inner: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> list[Value] | None:
    """What a nested model is called on, in the order of its inputs; None: leave it closed."""
    extras = {key: value for key, value in keywords.items() if key != "training"}
    if len(arguments) != 1 or any(value is not None for value in tree.flatten(extras)):
        return None
    given, structure = arguments[0], inner._inputs_struct
    if isinstance(structure, dict) != isinstance(given, dict):
        return None
    if isinstance(structure, dict):
        if not set(structure) <= set(given):
            return None
        given = {key: given[key] for key in structure}
    entries = tree.flatten(given)
    fits = len(entries) == len(inner.inputs) and all(
        isinstance(value, Value)
        and len(value.shape) == len(tensor.shape)
        and value.dtype == tensor.dtype
        for value, tensor in zip(entries, inner.inputs, strict=True)
    )
    return entries if fits else None


def _number(nodes: Sequence[Node]) -> None:
    """Make the node names unique: calls after the first are numbered."""
    for node, name in zip(nodes, unique(node.name for node in nodes), strict=True):
        node.name = name


def _output_names(function: Any) -> list[str]:
    structure = function._outputs_struct
    if isinstance(structure, dict):
        return [str(path[-1]) for path, _ in tree.flatten_with_path(structure)]
    return list(function.output_names)


def trace_closed(model: keras.Model) -> Graph:
    """A graph of one node: the call of the whole model."""
    structure, outputs_structure = _called(model, closed_inputs(model))
    paths = tree.flatten_with_path(structure)
    inputs = [value_of(tensor) for _, tensor in paths]
    fallback = next(iter(inspect.signature(model.call).parameters), "input")
    input_names = [_path_name(path, fallback) for path, _ in paths]
    if isinstance(model, Functional):
        input_names = [tensor.name for _, tensor in paths]
    outputs = [value_of(tensor) for tensor in tree.flatten(outputs_structure)]
    output_names = [
        _path_name(path, "output") for path, _ in tree.flatten_with_path(outputs_structure)
    ]
    packed = tree.pack_sequence_as(structure, inputs)
    # A file need not hold the name of a subclassed model.
    name = unnumbered(model) or model.name
    node = Node(model, (packed,), {}, tuple(outputs), name)
    return _graph(name, inputs, input_names, outputs, output_names, [node])


def _called(model: keras.Model, structure: Any) -> tuple[Any, Any]:
    """The inputs that a model takes, and its outputs.

    Keras does not keep the types that a subclassed model was called on: where it takes no floats,
    as few inputs as possible are whole numbers.
    """
    floats = [i for i, x in enumerate(tree.flatten(structure)) if "float" in x.dtype]
    free = not isinstance(model, Functional) and len(floats) <= MOST_GUESSED
    counts = range(len(floats) + 1 if free else 1)
    failure: Exception | None = None
    for whole in itertools.chain(*(itertools.combinations(floats, count) for count in counts)):
        leaves = [
            keras.KerasTensor(x.shape, dtype="int32") if i in whole else x
            for i, x in enumerate(tree.flatten(structure))
        ]
        given = tree.pack_sequence_as(structure, leaves)
        try:
            return given, _closed_outputs(model, given)
        except SourceError:
            raise
        # The model's own code may raise anything on a symbolic input.
        except Exception as error:  # noqa: BLE001
            failure = failure or error
    assert failure is not None  # the first choice is the inputs as they are
    raise SourceError(
        f"The `call` of model `{model.name}` ({type(model).__name__}) cannot be traced on its "
        f"inputs: {reason(failure)}. If it takes other types than floats, export it as a model of "
        "inputs that say so: `x = keras.Input(shape, dtype=...)`, `keras.Model(x, model(x))`."
    ) from failure


def _closed_outputs(model: keras.Model, structure: Any) -> Any:
    outputs = model.compute_output_spec(structure)
    if not all(isinstance(tensor, keras.KerasTensor) for tensor in tree.flatten(outputs)):
        raise SourceError(
            f"Model `{model.name}` ({type(model).__name__}) returns something that is no tensor. "
            "Leave out what is None before exporting it."
        )
    return outputs


def closed_inputs(model: keras.Model) -> Any:
    """KerasTensors in the structure that the model's `call` takes, the batch left free.

    Raises:
        SourceError: The model was never called.
    """
    if isinstance(model, Functional):
        return model._inputs_struct
    config = model.get_build_config() if model.built else None
    shapes = None if config is None else config.get("input_shape")
    if config is not None and len(config.get("shapes_dict") or ()) > 1:
        names = [name.removesuffix("_shape") for name in config["shapes_dict"]]
        raise SourceError(
            f"Model `{model.name}` ({type(model).__name__}) takes several arguments, "
            f"{', '.join(names)}. Export it as a model of inputs: with one `keras.Input` each, "
            f"`keras.Model([{', '.join(names)}], model({', '.join(names)}))`."
        )
    if shapes is None:
        raise SourceError(
            f"The input shapes of model `{model.name}` ({type(model).__name__}) are not known. "
            "Call it once on a batch, or give it a `build(input_shape)`, before exporting it."
        )
    dtype = model.input_dtype
    return tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:]), dtype=dtype), shapes
    )


def _path_name(path: tuple[Any, ...], fallback: str) -> str:
    if not path:
        return fallback
    return "_".join(str(p) if isinstance(p, str) else f"{fallback}_{p}" for p in path)
