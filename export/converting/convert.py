"""Convert a program to ONNX with tf2onnx, and refuse what tf2onnx only warns about.

tf2onnx logs "not supported" for an operation it does not know and writes the file all the same.
Here an error in its log, or a node that is no ONNX operator, ends the conversion and names the
Keras layer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ..errors import ConversionError, ExportError, reason
from ..graphs.graph import Graph, Node, layer_of, scope_of
from ..programs.grouped import uncompiled_traces
from ..programs.precision import in_float32
from .calls import shorter_calls
from .control_flow import plain_control_flow
from .mending import (
    Message,
    exact_casts,
    messages_of_tf2onnx,
    named_convolutions,
    one_bias_each,
    optimizers_for,
    sets_in_order,
    sums_in_order,
    whole_limits,
)
from .opset import DEFAULT_OPSET, LAST_OF_TF2ONNX, MAXIMUM_OPSET
from .retrace import is_closed, opened
from .weights import NAME, Weights, bind, fold_constants

if TYPE_CHECKING:
    import keras
    import onnx
    import onnx_ir as ir

    from ..ports import Port


_OF_PYTHON = " It calls Python, which a file cannot: write the layer with `keras.ops`."
ADVICE = dict.fromkeys(("EagerPyFunc", "PyFunc", "PyFuncStateless"), _OF_PYTHON)
"""What to do about operations that a file cannot have."""
NUMBERED = re.compile(r"(.+)_\d+")
"""The scope of a layer."""
TAKEN = "provision more than one single cluster"
"""In what TensorFlow says of a second `Cluster`."""


def convert_graph(graph: Graph, opset: int | None, careful: bool = False) -> ir.Model:
    """Convert an inference graph; a failure names the layer.

    Args:
        graph: The graph.
        opset: As in `convert`.
        careful: As in `convert`.

    Raises:
        ConversionError: A layer has no ONNX form.
    """
    layers = graph.layers()
    with (
        in_float32(layers),
        shorter_calls(layers, opset or DEFAULT_OPSET),
        plain_control_flow(),
        uncompiled_traces(),
    ):
        return _convert_graph(graph, layers, opset, careful)


def _convert_graph(
    graph: Graph, layers: Sequence[keras.Layer], opset: int | None, careful: bool
) -> ir.Model:
    names = [node.name for node in graph.nodes]
    try:
        return convert_fast(graph, graph.input_ports, opset, names, layers, careful)
    except ConversionError as error:
        if error.layer is not None or not graph.nodes:
            raise
        culprit = _first_unconvertible(graph, opset)
        raise ConversionError(
            f"Layer `{culprit.name}` ({culprit.kind}) cannot be converted: {error}",
            culprit.name,
        ) from error


def convert_fast(
    call: Any,
    inputs: Sequence[Port],
    opset: int | None,
    names: Sequence[str] = (),
    layers: Sequence[keras.Layer] = (),
    careful: bool = False,
) -> ir.Model:
    """Convert the fast way if that is possible, else the other.

    The arguments are those of `convert`; `layers` have the weights that are large.
    """
    try:
        return convert(call, inputs, opset, names, Weights(layers), careful)
    except ConversionError:
        return convert(call, inputs, opset, names, careful=careful)


def convert(
    call: Any,
    inputs: Sequence[Port],
    opset: int | None,
    names: Sequence[str] = (),
    weights: Weights | None = None,
    careful: bool = False,
) -> ir.Model:
    """Convert a callable of tensors; inputs are called input_0, ..., outputs output_0, ...

    Args:
        call: Takes one tensor per input and returns a list of tensors.
        inputs: Shapes and dtypes of the inputs.
        opset: ONNX operator set. What is written is at most of the last that tf2onnx knows, but
            for operators that came later; `opset.raise_opset` raises the rest. None for the
            usual one, where later operators may be as well.
        names: Names of the layers, to find the one behind a TensorFlow operation.
        weights: Given for the fast way: large weights are not seen by tf2onnx (some operators
            want constants), and there is no copy of the graph to return to where an optimizer
            of tf2onnx fails.
        careful: Leave out tf2onnx's optimizer of transposes, which now and then changes what is
            computed where an extent is 1.

    Raises:
        ConversionError: tf2onnx cannot convert it; `layer` is set where it is known.
    """
    import onnx_ir as ir

    with messages_of_tf2onnx() as log:
        try:
            function = _traced(call, inputs, weights)
            first = min(opset or DEFAULT_OPSET, LAST_OF_TF2ONNX)
            model = ir.from_proto(_tf2onnx(function, len(inputs), first, weights, careful))
            if weights is not None:
                bind(model, weights)
            fold_constants(model)
            _note_shapes(model, function)
        except ConversionError:
            raise
        # tf2onnx raises whatever its handlers run into.
        except Exception as error:
            if TAKEN in str(error):
                raise ExportError(
                    "TensorFlow's graph optimizer is taken by another part of this process, or was "
                    "left so by an interruption. End that part, or start Python anew."
                ) from error
            missing = "tf2onnx knows nothing of " if isinstance(error, KeyError) else ""
            raise ConversionError(f"{missing}{reason(error)}") from error
    _refuse_foreign(model, opset or DEFAULT_OPSET, log, names)
    _refuse_later(model, opset or MAXIMUM_OPSET, names)
    return model


def _traced(call: Any, inputs: Sequence[Port], weights: Weights | None) -> Any:
    """The concrete TensorFlow function; `identity` keeps outputs apart that are one tensor."""
    count = len(inputs)
    signature = [
        tf.TensorSpec(port.shape, port.dtype, f"input_{i}") for i, port in enumerate(inputs)
    ]
    for i, weight in enumerate(weights.large if weights else ()):
        dtype = "float32" if weight.dtype == "bfloat16" else weight.dtype
        signature.append(tf.TensorSpec(weight.shape, dtype, NAME.format(i)))

    def function(*tensors: Any) -> list[Any]:
        with weights.given(tensors[count:]) if weights else nullcontext():
            return [tf.identity(y) for y in call(*tensors[:count])]

    # Keras' layers are not seen by AutoGraph.
    traced = tf.function(function, autograph=False).get_concrete_function(*signature)
    if not is_closed(traced.graph):
        return traced
    again = tf.function(lambda *tensors: opened(traced, tensors), autograph=False)
    return again.get_concrete_function(*signature)


def _tf2onnx(
    function: Any, inputs: int, opset: int, weights: Weights | None, careful: bool
) -> onnx.ModelProto:
    import tf2onnx.optimizer
    import tf2onnx.tf_loader
    import tf2onnx.tfonnx
    import tf2onnx.utils

    from .handlers import HANDLERS
    from .handlers.tables import tables_of

    # The counter of generated names; from 1, the same model gives the same names.
    tf2onnx.utils.INTERNAL_NAME = 1
    # Behind the arguments, `inputs` lists captured tensors, which are constants.
    count = inputs + (len(weights.large) if weights else 0)
    given = [tensor.name for tensor in function.inputs[:count]]
    output_names = [tensor.name for tensor in function.outputs]
    renamed = {name: f"input_{i}" for i, name in enumerate(given[:inputs])}
    renamed |= {name: NAME.format(i) for i, name in enumerate(given[inputs:])}
    renamed |= {name: f"output_{i}" for i, name in enumerate(output_names)}
    with (
        tf.device("/cpu:0"),
        sets_in_order(),
        exact_casts(),
        whole_limits(),
        sums_in_order(),
        one_bias_each(),
        named_convolutions(),
        tables_of(function),
    ):
        frozen = _frozen(function, given, output_names)
        with tf.Graph().as_default() as tf_graph:
            tf.import_graph_def(frozen, name="")
            graph = tf2onnx.tfonnx.process_tf_graph(
                tf_graph,
                continue_on_error=True,
                opset=opset,
                custom_op_handlers=HANDLERS,
                input_names=given,
                output_names=output_names,
                tensors_to_rename=renamed,
            )
            graph = tf2onnx.optimizer.optimize_graph(
                graph, catch_errors=weights is None, optimizers=optimizers_for(graph, careful)
            )
            return graph.make_model("model")


def _frozen(function: Any, given: list[str], outputs: list[str]) -> Any:
    """The GraphDef of a function, with what it captured as constants."""
    import tf2onnx.tf_loader

    # Those of tables elsewhere in the process, of which TensorFlow warns.
    function.graph.clear_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS)
    graph_def = function.graph.as_graph_def(add_shapes=True)
    if len(function.inputs) > len(given) or graph_def.library.function:
        return tf2onnx.tf_loader.from_function(function, given, outputs)
    # There is nothing to freeze.
    with function.graph.as_default():
        return tf2onnx.tf_loader.tf_optimize(given, outputs, graph_def)


def _note_shapes(model: ir.Model, function: Any) -> None:
    """Give the outputs the shapes that TensorFlow knows; Keras now and then says others."""
    import onnx_ir as ir

    outputs = {value.name: value for value in model.graph.outputs}
    for i, tensor in enumerate(function.outputs):
        if tensor.shape.rank is not None:
            outputs[f"output_{i}"].shape = ir.Shape(tensor.shape.as_list())


def _refuse_foreign(
    model: ir.Model, opset: int, log: Sequence[Message], names: Sequence[str]
) -> None:
    """Raise ConversionError if the file holds an operator that ONNX does not have."""
    import onnx.defs

    for node in model.graph.all_nodes():
        if not onnx.defs.has(node.op_type, node.domain):
            where, layer = _place(node, names)
            why = next((one.why for one in log if one.why and f"'{node.name}'" in one.text), "")
            since = _first_opset(node.op_type, opset, why)
            if since is not None:
                why = why or f"{node.op_type} needs opset {since}"
                raise _before(since, f"{where} cannot be written in opset {opset}: {why}", layer)
            raise ConversionError(
                f"{where} cannot be converted: ONNX has no form of the TensorFlow operation "
                f"{node.op_type}{f' ({why})' if why else ''}."
                f"{ADVICE.get(node.op_type, '')}",
                layer,
            )
    if log:
        first = log[0]
        found = re.search(r"'(?P<name>[^']+)'|\[(?P<op>[^\]:]+):", first.text)
        layer = layer_of(found["name"] or found["op"], names) if found else None
        raise ConversionError(
            f"{f'Layer `{layer}`' if layer else 'The model'} cannot be converted: "
            f"{first.why or first.text.strip().splitlines()[0]}",
            layer,
        )


def _first_opset(kind: str, opset: int, why: str) -> int | None:
    """The first later operator set in which a TensorFlow operation has a form, if there is one."""
    import tf2onnx.handler

    said = re.search(r"needs opset (\d+)", why)
    if said is not None:
        return int(said[1])
    (forms,) = (sets for domain, sets in tf2onnx.handler.tf_op.get_opsets().items() if not domain)
    return next((n for n in range(opset + 1, len(forms)) if kind in forms[n]), None)


def _place(node: ir.Node, names: Sequence[str]) -> tuple[str, str | None]:
    """Where a node lies, in words, and its layer, if that is known."""
    name = node.name or ""
    layer = layer_of(name, names)
    if layer is None:
        return f"Node `{name}`", None
    # Behind the layer's own scope stand those of layers inside it, which Keras numbers.
    inner = map(NUMBERED.fullmatch, name.removeprefix(scope_of(layer)).split("/")[1:])
    inside = "/".join(part[1] for part in takewhile(bool, inner) if part)
    return f"Layer `{layer}`{inside and f' (in `{inside}`)'}", layer


def _refuse_later(model: ir.Model, opset: int, names: Sequence[str]) -> None:
    """Raise ConversionError if the file holds an operator that came after its operator set."""
    import onnx.defs

    for node in model.graph.all_nodes():
        if node.domain or onnx.defs.has(node.op_type, opset):
            continue
        later = range(opset + 1, MAXIMUM_OPSET + 1)
        first = next(version for version in later if onnx.defs.has(node.op_type, version))
        where, layer = _place(node, names)
        what = f"{where} cannot be written in opset {opset}, which has no {node.op_type}"
        raise _before(first, what, layer)


def _before(opset: int, what: str, layer: str | None) -> ConversionError:
    """The error of what can be written from an operator set on."""
    return ConversionError(f"{what}. Pass opset={opset} or a later one.", layer)


def _first_unconvertible(graph: Graph, opset: int | None) -> Node:
    """The first node with which the conversion fails, by bisection over the node list."""
    good, bad = 0, len(graph.nodes)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            part = prefix(graph, middle)
            convert(part, part.input_ports, opset)
        except ConversionError:
            bad = middle
        else:
            good = middle
    return graph.nodes[bad - 1]


def prefix(graph: Graph, length: int) -> Graph:
    """The first nodes of a graph; every value that they leave unread is an output."""
    part = replace(graph, nodes=graph.nodes[:length])
    part.outputs = [
        value for node in part.nodes for value in node.outputs if not part.consumers(value)
    ]
    return part
