"""Traced functions traced anew, without what tf2onnx cannot read.

Complex numbers become pairs of real ones (`complex_pairs.py`), functions that are compiled are
entered, as a SavedModel has them of convolutions in groups, and a choice among many branches
becomes choices between two. All else stays as it is, names included.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from ..programs.walk import CALLS, CASES, CONTROL, LOOPS, Walk, inner_functions
from .complex_pairs import PARTS, Pair, copied, is_complex, of_pairs
from .control_flow import switch


def is_closed(graph: Any) -> bool:
    """Whether a graph, or a function that it calls, has what tf2onnx cannot read."""
    for operation in graph.get_operations():
        if is_complex(operation) or operation.type in CASES:
            return True
        if operation.type not in CONTROL:
            continue
        if _is_compiled(operation):
            return True
        for name in inner_functions(operation):
            inner = getattr(graph._get_function(name), "graph", None)  # older ones have none
            if inner is not None and is_closed(inner):
                return True
    return False


def opened(function: Any, tensors: Sequence[Any]) -> list[Any]:
    """What a traced function gives, computed anew without it.

    Args:
        function: A concrete function.
        tensors: Its arguments.

    Raises:
        ConversionError: An operation on complex numbers has no such form.
    """
    for variable in function.graph.variables:  # whose values are constants of the file
        tf.compat.v1.get_default_graph().watch_variable(variable)
    captured = [outside for outside, _ in function.graph.captures]
    results = _Opened(function.graph).run(function.graph, [*tensors, *captured])
    return [tf.complex(*y.parts) if isinstance(y, Pair) else y for y in results]


class _Opened(Walk):
    """A walk that makes every operation anew; complex tensors are pairs."""

    def results(self, operation: Any, inputs: list[Any]) -> list[Any]:
        with tf.name_scope(operation.name):
            if self._is_closed(operation):
                return self._called(operation, inputs)
            if is_complex(operation):
                return of_pairs(operation, inputs)
        graph = tf.compat.v1.get_default_graph()
        for name in inner_functions(operation):
            graph._add_function_recursive(self.graph._get_function(name))
        return copied(operation, inputs)

    def _is_closed(self, operation: Any) -> bool:
        if operation.type not in CONTROL:
            return False
        if operation.type in CASES or _is_compiled(operation):
            return True
        return any(is_closed(self.named(name)) for name in inner_functions(operation))

    def _called(self, operation: Any, inputs: list[Any]) -> list[Any]:
        """Of an operation that calls functions: they are traced anew, too."""
        if operation.type in CALLS:
            return self.run(self.inner(operation, "f"), inputs)
        if operation.type in LOOPS:
            return self._looped(operation, inputs)
        if operation.type in CASES:
            graphs, place = self.branches(operation), inputs[0]
            outside = tf.logical_or(place < 0, place >= len(graphs))
            place = tf.where(outside, len(graphs) - 1, place)
        else:
            graphs = [self.inner(operation, name) for name in ("else_branch", "then_branch")]
            place = tf.cast(tf.cast(inputs[0], tf.bool), tf.int32)
        branches = [partial(self._nested, graph, inputs[1:]) for graph in graphs]
        return _from_nest(switch(place, branches))

    def _looped(self, operation: Any, inputs: list[Any]) -> list[Any]:
        condition, body = (self.inner(operation, name) for name in ("cond", "body"))
        found = tf.while_loop(
            lambda *values: self.run(condition, _from_nest(values))[0],
            lambda *values: self._nested(body, _from_nest(values)),
            _as_nest(inputs),
            [(y.shape, y.shape) if y.dtype in PARTS else y.shape for y in operation.outputs],
        )
        return _from_nest(found)

    def _nested(self, graph: Any, inputs: list[Any]) -> list[Any]:
        return _as_nest(self.run(graph, inputs))


def _is_compiled(operation: Any) -> bool:
    return bool(operation.node_def.attr["_XlaMustCompile"].b)


def _as_nest(values: Sequence[Any]) -> list[Any]:
    return [x.parts if isinstance(x, Pair) else x for x in values]


def _from_nest(values: Sequence[Any]) -> list[Any]:
    return [Pair(*x) if isinstance(x, tuple | list) else x for x in values]
