"""Released: intermediate results that nothing behind them needs.

Keras keeps every result of a Functional model until the last is there: hundreds of megabytes for a
few images, which cost the more time the slower a machine gives its memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras.src.ops.function import Function  # what a Functional model is below
from keras.src.ops.symbolic_arguments import SymbolicArguments


@contextmanager
def releasing() -> Iterator[None]:
    """Let Keras give up each result of a Functional model once its last reader has it."""
    call, fill_in = Function._run_through_graph, SymbolicArguments.fill_in
    running: list[dict[int, list[int]]] = []

    def called(function: Any, *arguments: Any, **keywords: Any) -> Any:
        running.append(_last_read(function))
        try:
            return call(function, *arguments, **keywords)
        finally:
            running.pop()

    def filled_in(arguments: Any, tensors: dict[int, Any]) -> Any:
        filled = fill_in(arguments, tensors)
        for key in running[-1].get(id(arguments), ()) if running else ():
            tensors.pop(key, None)
        return filled

    Function._run_through_graph, SymbolicArguments.fill_in = called, filled_in
    try:
        yield
    finally:
        Function._run_through_graph, SymbolicArguments.fill_in = call, fill_in


def _last_read(function: Any) -> dict[int, list[int]]:
    """Which tensors are read for the last time, by the arguments of the node that reads them."""
    by_depth = function._nodes_by_depth
    readers = {
        id(tensor): id(node.arguments)
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        for tensor in node.input_tensors
    }
    results = set(map(id, function.outputs))
    read: dict[int, list[int]] = defaultdict(list)
    for tensor, reader in readers.items():
        if tensor not in results:
            read[reader].append(tensor)
    return read
