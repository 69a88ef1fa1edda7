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
