"""Mending: tf2onnx as it should be, for the length of a conversion.

It goes over sets of nodes in any order, drops casts that round, compares whole numbers as floats,
lets TensorFlow add constants that should stay apart, gives convolutions two biases and no names,
and logs what it cannot do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import reason

CONVOLUTIONS = {"Conv", "ConvTranspose"}
SUMS = {"Add", "AddV2", "Sub"}
UNEVEN = 1e-3
"""Share of a constant below which another one is lost beside it."""
ONLY_FOR = {
    "remove_redundant_upsample": {"Upsample"},
    "const_dequantize_optimizer": {"DequantizeLinear"},
    "loop_optimizer": {"Loop"},
    "reshape_optimizer": {"Reshape", "Transpose"},  # that of transposes makes some reshapes
    "global_pool_optimizer": {"ReduceMean", "ReduceMax"},
    "q_dq_optimizer": {"QuantizeLinear", "DequantizeLinear"},
}
"""Optimizers of tf2onnx that look for nodes of these kinds alone."""


@dataclass(frozen=True)
class Message:
    """An error that tf2onnx logs, and what its handler of an operation said."""

    text: str
    why: str


def optimizers_for(graph: Any, careful: bool) -> dict[str, Any]:
    """Those of tf2onnx's optimizers that a graph of it needs; each takes time to find nothing.

    Args:
        graph: The graph.
        careful: Leave out that of transposes.
    """
    from tf2onnx import optimizer

    kinds = set(graph.dump_node_statistics())
    # It tries every order of the letters, or goes round in a circle.
    left_out = {"einsum_optimizer", *(["optimize_transpose"] if careful else [])}
    left_out |= {name for name, only in ONLY_FOR.items() if not only & kinds}
    found = optimizer._get_optimizers().items()
    return {name: one for name, one in found if name not in left_out}


@contextmanager
def sets_in_order() -> Iterator[None]:
    """tf2onnx goes over sets of nodes; sorted, a model gives the same file in every process."""
    from tf2onnx.graph import Graph as Converted

    nodes, consumers = Converted.extract_sub_graph_nodes, Converted.find_output_consumers

    def nodes_in_order(graph: Any, *arguments: Any, **keywords: Any) -> list[Any]:
        places = {node: place for place, node in enumerate(graph.get_nodes())}
        return sorted(nodes(graph, *arguments, **keywords), key=places.__getitem__)

    def consumers_in_order(graph: Any, name: str) -> list[Any]:
        found = consumers(graph, name)
        if len(found) < 2:
            return list(found)
        inner = [node for node in found if node.graph is not graph]
        own = sorted((node for node in found if node.graph is graph), key=graph.get_nodes().index)
        return [*own, *inner]

    Converted.extract_sub_graph_nodes = nodes_in_order
    Converted.find_output_consumers = consumers_in_order
    try:
        yield
    finally:
        Converted.extract_sub_graph_nodes = nodes
        Converted.find_output_consumers = consumers


@contextmanager
def exact_casts() -> Iterator[None]:
    """tf2onnx drops the first of two casts wherever it is to floats, though it may round, and the
    one to integers in front of one to booleans. Here it goes only where it keeps every number."""
    from tf2onnx.optimizer import back_to_back_optimizer
    from tf2onnx.utils import map_onnx_to_numpy_type

    table = back_to_back_optimizer._func_map

    def drop(graph: Any, node: Any, consumers: list[Any]) -> list[str]:
        kinds = [graph.get_dtype(name) for name in (node.input[0], node.output[0])]
        if None not in kinds and _keeps(*(np.dtype(map_onnx_to_numpy_type(k)) for k in kinds)):
            for consumer in consumers:
                graph.replace_input(consumer, consumer.input[0], node.input[0], 0)
            graph.remove_node(node.name)
        return [consumer.output[0] for consumer in consumers]

    before = table["Cast",]
    table["Cast",] = drop
    try:
        yield
    finally:
        table["Cast",] = before


@contextmanager
def sums_in_order() -> Iterator[None]:
    """TensorFlow's optimizer makes (1 − p) + 1e-12 one addition of a constant, 1 + 1e-12, of which
    nothing is left where p is 1. Sums with so different constants stay apart."""
    from tf2onnx import tf_loader

    own = tf_loader.tf_optimize

    def optimize(inputs: list[str], outputs: list[str], graph_def: Any) -> Any:
        return own(inputs, [*outputs, *_uneven_sums(graph_def)], graph_def)

    tf_loader.tf_optimize = optimize
    try:
        yield
    finally:
        tf_loader.tf_optimize = own


def _uneven_sums(graph_def: Any) -> Iterator[str]:
    """The first ones of two sums with a constant each, the second of which is much smaller."""
    nodes = {node.name: node for node in graph_def.node}
    sums = [node for node in graph_def.node if node.op in SUMS]

    def split(node: Any) -> tuple[Any, Any]:
        """What is added to a constant, and the constant; None where there is none."""
        terms = [nodes.get(name.split(":")[0]) for name in node.input[:2]]
        for one, other in (terms, terms[::-1]):
            if other is not None and other.op == "Const":
                return one, other
        return None, None

    for node in sums:
        first, small = split(node)
        if first is None or first.op not in SUMS:
            continue
        large = split(first)[1]
        if large is None:
            continue
        a, b = (np.abs(tf.make_ndarray(one.attr["value"].tensor)) for one in (small, large))
        if a.dtype.kind == "f" and 0 < a.max(initial=0) < UNEVEN * b.max(initial=0):
            yield f"{first.name}:0"


@contextmanager
def whole_limits() -> Iterator[None]:
    """tf2onnx takes the larger of two whole numbers, the ends of slices, in float32. In a float16
    file that would be float16, to which an open end is infinite."""
    from onnx import TensorProto
    from tf2onnx.onnx_opset import math

    own = math.make_min_or_max_op

    def limit(graph: Any, kind: str, inputs: Any, outputs: Any, *known: Any) -> Any:
        kinds = {graph.get_dtype(name) for name in inputs}
        if len(kinds) > 1 or not kinds <= {TensorProto.INT32, TensorProto.INT64}:
            return own(graph, kind, inputs, outputs, *known)
        return graph.make_node(kind, inputs, outputs=outputs, dtypes=[*kinds])

    math.make_min_or_max_op = limit
    try:
        yield
    finally:
        math.make_min_or_max_op = own


@contextmanager
def one_bias_each() -> Iterator[None]:
    """tf2onnx gives a convolution that has a bias another one, where one more vector is added, as
    Keras does with that of the only row of a batch. The second addition stays one."""
    from tf2onnx import tfonnx

    own = tfonnx.rewrite_biasadd_with_conv2d

    def rewrite(graph: Any, nodes: list[Any]) -> list[Any]:
        later = list(filter(_is_second_bias, nodes))
        for node in later:
            node.type = "Second" + node.type
        rewritten: list[Any] = own(graph, nodes)
        for node in later:
            node.type = node.type.removeprefix("Second")
        return rewritten

    tfonnx.rewrite_biasadd_with_conv2d = rewrite
    try:
        yield
    finally:
        tfonnx.rewrite_biasadd_with_conv2d = own


@contextmanager
def named_convolutions() -> Iterator[None]:
    """Where tf2onnx takes a sum into a convolution as its bias, it makes a new one without a name;
    here it is called as the one whose place it takes."""
    from tf2onnx.graph import Graph as Converted
    from tf2onnx.utils import make_name

    own = Converted.make_node

    def make_node(graph: Any, op_type: str, inputs: Any, *rest: Any, **options: Any) -> Any:
        if op_type in CONVOLUTIONS and not rest and not {"name", "op_name_scope"} & {*options}:
            nodes = (node for node in graph.get_nodes() if node.type == op_type)
            same = next((node for node in nodes if node.input[:2] == inputs[:2]), None)
            if same is not None:
                options["name"] = make_name(same.name)
        return own(graph, op_type, inputs, *rest, **options)

    Converted.make_node = make_node
    try:
        yield
    finally:
        Converted.make_node = own


def _is_second_bias(node: Any) -> bool:
    source = node.inputs[0] if node.type == "BiasAdd" else None
    return source is not None and source.type == "BiasAdd"


def _keeps(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether a cast keeps every number; NumPy calls one from int64 to float64 safe."""
    rounds = source.kind in "iu" and source.itemsize == target.itemsize and target.kind == "f"
    return target.kind != "O" and np.can_cast(source, target, "safe") and not rounds


@contextmanager
def messages_of_tf2onnx() -> Iterator[list[Message]]:
    """Collect the errors that tf2onnx logs, and keep its log off the user's terminal.

    They are all that it says of what it cannot do, so they are heard even where the user has
    switched logging off.
    """
    messages: list[Message] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            why = "" if error is None else reason(error).rstrip(".")
            messages.append(Message(record.getMessage(), why))

    logger = logging.getLogger("tf2onnx")
    everything = {
        one: (one.disabled, one.level, one.propagate, one.handlers)
        for name, one in list(logging.root.manager.loggerDict.items())
        if isinstance(one, logging.Logger) and f"{name}.".startswith("tf2onnx.")
    }
    disabled = logging.root.manager.disable
    try:
        for one in everything:
            one.disabled, one.propagate, one.handlers = False, True, []
            if one.level != logging.NOTSET:  # setting it takes a while
                one.setLevel(logging.NOTSET)
        logger.setLevel(logging.ERROR)
        logger.propagate, logger.handlers = False, [Collector(logging.ERROR)]
        logging.disable(min(disabled, logging.WARNING))
        yield messages
    finally:
        logging.disable(disabled)
        for one, (off, level, propagate, handlers) in everything.items():
            one.disabled, one.propagate, one.handlers = off, propagate, handlers
            if one.level != level:
                one.setLevel(level)
