"""Handlers that take some cases of an operation: others are left to tf2onnx, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .formula import HANDLERS, Formula, Handler


def leave(graph: Any, node: Any) -> None:
    """Convert a node as tf2onnx does without a handler."""
    from tf2onnx.handler import tf_op

    kind, sets = node.type, tf_op.get_opsets()[""][: graph.opset + 1]
    handler, keywords = next(known[kind] for known in reversed(sets) if kind in known)
    node.type = keywords.get("onnx_op", kind)
    handler(graph, node, **{**keywords, "tf_op": kind})


def leave_widened(graph: Any, node: Any, wide: Any) -> None:
    """The same in a wider type: what has the type of the first input is cast, the result is cast
    back."""
    formula, result = Formula(graph, node), node.output[0]
    kind, shape = graph.get_dtype(node.input[0]), graph.get_shape(result)
    for place, x in enumerate(node.input):
        if graph.get_dtype(x) == kind:
            graph.replace_input(node, x, formula.cast(x, wide), place)
    back = graph.insert_new_node_on_output("Cast", result, to=kind).output[0]
    graph.set_dtype(result, graph.get_dtype(node.input[0]))
    graph.set_dtype(back, kind)
    graph.set_shape(back, shape)
    leave(graph, node)


def converts_some(*operations: str) -> Callable[[Handler], Handler]:
    """As `converts`, of a function that returns None for what is left."""

    def register(handler: Handler) -> Handler:
        def run(graph: Any, node: Any, name: str, args: Any) -> None:
            formula = Formula(graph, node)
            results = handler(formula, *node.input)
            if results is None:
                leave(graph, node)
            else:
                formula.finish(results if isinstance(results, list) else [results])

        for operation in operations:
            HANDLERS[operation] = (run, [])
        return handler

    return register
