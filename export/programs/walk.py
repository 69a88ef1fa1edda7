"""A walk through the operations of a traced function, and of the functions that it calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
BRANCHES = ("If", "StatelessIf")
CASES = ("Case", "StatelessCase")
LOOPS = ("While", "StatelessWhile")
CONTROL = (*CALLS, *BRANCHES, *CASES, *LOOPS)
"""Operations that call functions."""


class Walk(ABC):
    """Gives every operation its inputs, one after the other; a subclass says what becomes of it.

    Args:
        graph: The graph of a traced function.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def run(self, graph: Any, given: Sequence[Any]) -> list[Any]:
        """The results of a graph, given its arguments and behind them what it captured."""
        values = {id(one): value for one, value in zip(graph.inputs, given, strict=True)}
        for operation in graph.get_operations():
            if operation.type == "Placeholder":
                continue
            inputs = [values[id(tensor)] for tensor in operation.inputs]
            results = self.results(operation, inputs)
            for tensor, value in zip(operation.outputs, results, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in graph.outputs]

    @abstractmethod
    def results(self, operation: Any, inputs: list[Any]) -> list[Any]:
        """The results of one operation."""

    def inner(self, operation: Any, attribute: str) -> Any:
        """The graph of the function under this attribute."""
        return self.named(operation.get_attr(attribute).name)

    def branches(self, operation: Any) -> list[Any]:
        """The graphs that one of CASES chooses from."""
        return [self.named(each.name) for each in operation.get_attr("branches")]

    def named(self, name: str) -> Any:
        """The graph of a function."""
        return self.graph._get_function(name).graph


def inner_functions(operation: Any) -> Iterator[str]:
    """Names of the functions that an operation calls."""
    for value in operation.node_def.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (each.name for each in value.list.func)
