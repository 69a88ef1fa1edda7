"""Owners: the Keras layers in whose place the nodes and the constants of a file stand.

Most have the layer in their name. The others are told by what reads them, what computes them, and
what lies in front of them and behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from ..graphs.graph import Node, layer_of
from ..programs.program import KerasProgram, Program

if TYPE_CHECKING:
    import onnx_ir as ir


class Owners:
    """The Keras layers in whose place nodes and constants of a file stand."""

    def __init__(self, graph: ir.Graph, program: Program) -> None:
        self.names = program.layer_names()
        self.keras = program.graph if isinstance(program, KerasProgram) else None
        self.outputs = {value: place for place, value in enumerate(graph.outputs)}
        nodes = graph.all_nodes()
        self.outside = {id(inner): node for node in nodes for inner in inner_graphs(node)}

    def of(self, holder: ir.Value | ir.Node) -> str | None:
        """The layer of a constant, or of the node that has a number as an attribute."""
        import onnx_ir as ir

        own = layer_of(holder.name or "", self.names)
        if own is not None or self.keras is None:
            return own
        if isinstance(holder, ir.Value):
            readers = (self.of(node) for node, _ in holder.uses())
            found = self._of_output(holder) or next(filter(None, readers), None)
        elif all(map(is_constant, holder.inputs)):  # Cast, Reshape and the like of a constant
            found = next(filter(None, map(self.of, holder.outputs)), None)
        else:
            found = self._between(holder)
        around = self.outside.get(id(holder.graph))
        return found or (None if around is None else self.of(around))

    def _of_output(self, value: ir.Value) -> str | None:
        place = self.outputs.get(value)
        if place is None or self.keras is None:
            return None
        node = self.keras.producer(self.keras.outputs[place])
        return None if node is None else node.name

    def _between(self, node: ir.Node) -> str | None:
        """The layer of a node without a name, by those in front of it and behind it.

        Of several the only one that has a matrix, or else any weight, as tf2onnx forgets the names
        of convolutions.
        """
        if self.keras is None:
            return None
        front = self._next(node, lambda one: [x.producer() for x in one.inputs if x is not None])
        behind = self._next(node, lambda one: [y for x in one.outputs for y in x.consumers()])
        if front & behind:
            return next(name for name in self.names if name in front & behind)
        found = [
            one
            for one in self.keras.nodes
            if all(one.name in self._computed[name] for name in front)
            and all(name in self._computed[one.name] for name in behind)
        ]
        for ranks in (2, 1, 0):
            some = [one for one in found if _rank(one) >= ranks]
            if some:
                return some[0].name if len(some) == 1 else None
        return None

    @cached_property
    def _computed(self) -> dict[str, set[str]]:
        """By the name of each layer, the layers that are computed from it."""
        nodes = [] if self.keras is None else self.keras.nodes
        read: dict[int, list[str]] = {}
        for node in nodes:
            for value in node.inputs:
                read.setdefault(id(value), []).append(node.name)
        found: dict[str, set[str]] = {}
        for node in reversed(nodes):
            names = [name for value in node.outputs for name in read.get(id(value), ())]
            found[node.name] = {*names}.union(*(found[name] for name in names))
        return found

    def _next(self, node: ir.Node, step: Callable[[ir.Node], Iterable[ir.Node | None]]) -> set[str]:
        """The layers that are met first on all ways from a node."""
        found, seen, todo = set(), {node}, [node]
        while todo:
            for one in step(todo.pop()):
                if one is None or one in seen:
                    continue
                seen.add(one)
                layer = layer_of(one.name or "", self.names)
                if layer is None:
                    todo.append(one)
                else:
                    found.add(layer)
        return found


def _rank(node: Node) -> int:
    """Axes of the largest weight of a layer."""
    weights = getattr(node.operation, "weights", ())
    return max((len(weight.shape) for weight in weights), default=0)


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is the same for all inputs of a file."""
    if value is None or value.is_initializer():
        return True
    node = value.producer()
    return node is not None and bool(node.inputs) and all(map(is_constant, node.inputs))


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Branches and bodies of a node, in the order of their names."""
    for _, attribute in sorted(node.attributes.items()):
        if attribute.type.name == "GRAPH":
            yield attribute.as_graph()
        elif attribute.type.name == "GRAPHS":
            yield from attribute.as_graphs()
