"""Moves: how a map would get from its place to layers that absorb it, and what that costs.

1. Forwards, a map is *owed* behind values: the true value is the map of the one computed. In the
   order of the graph each reader settles all that it is owed: it absorbs it, or owes it behind.
2. Backwards, a map is *wanted* of values by their readers. Against the order of the graph each
   source absorbs what all of its readers want, or wants it of its inputs.

After each step there is a plan: what has been absorbed so far, and remainders wherever a map is
still owed or wanted. The best plan of the whole way is kept. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..formats import FORMATS
from ..graphs.graph import Graph, Node, Value
from ..graphs.maps import Map
from . import absorb
from .carry import CARRIERS
from .linear import Absorbed

Cost = tuple[float, int, float]
"""ONNX nodes, remainders, stored numbers."""
Rest = tuple[Value, Map, tuple[Node, ...]]
"""A map that is left at a value, for these of its readers."""
_Wanted = dict[int, tuple[Value, list[tuple[Node, Map]]]]
UNCENTRED = "its data lie far from zero, and must be centred first"
UNHELD = "float16 does not hold the data in front of it"


@dataclass
class Site:
    """A node that is a map.

    Attributes:
        map: What it computes now.
        names: The layers that it, or what has been merged into it, comes from.
        policy: Of its dtype.
        far: Whether it centres data that lie far from zero and are not rounded yet.
        firm: Whether it makes data fit into the numbers of the file, and stays.
        changed: Whether it is no longer what its layer computes.
        reasons: Why it did not move.
    """

    map: Map
    names: list[str]
    policy: Any
    far: bool = False
    firm: bool = False
    changed: bool = False
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Edit:
    """What one node becomes: a layer that absorbed a map, or a map that joined another one."""

    node: Node
    absorbed: Absorbed | None = None
    merged: Map | None = None


@dataclass(frozen=True)
class Plan:
    """A move, not made yet.

    Attributes:
        edits: In the order of the move.
        rest: Per value: the map that is left there, and the nodes that read it through that.
        staying: What is left of the map at its own place.
    """

    edits: tuple[Edit, ...]
    rest: tuple[tuple[Value, Map, tuple[Node, ...]], ...]
    forwards: bool
    staying: Map


class Index:
    """Who reads what in a graph, as long as it does not change."""

    def __init__(self, graph: Graph) -> None:
        self.given = {id(node): node.inputs for node in graph.nodes}
        self.calls: dict[int, list[Node]] = {}
        self.readers: dict[int, list[Node]] = {}
        for node in graph.nodes:
            self.calls.setdefault(id(node.operation), []).append(node)
            for key in {id(value) for value in self.given[id(node)]}:
                self.readers.setdefault(key, []).append(node)

    def readers_of(self, value: Value) -> list[Node]:
        return self.readers.get(id(value), [])

    def calls_of(self, node: Node) -> list[Node]:
        return self.calls[id(node.operation)]


class Moves:
    """The moves of the maps in a graph, as long as it does not change."""

    def __init__(self, graph: Graph, sites: Mapping[int, Site]) -> None:
        self.graph = graph
        self.sites = sites
        self.index = Index(graph)

    def forward(self, group: Sequence[Node], moving: Map, staying: Map, reasons: list[str]) -> Plan:
        """Carry a map that is owed behind values on to their readers."""
        owed = {id(node.outputs[0]): (node.outputs[0], moving) for node in group}
        settled: set[tuple[int, int]] = set()
        edits: list[Edit] = []
        best = self._plan_ahead(owed, settled, edits, staying)
        for node in group:
            if self.graph.is_output(node.outputs[0]):
                reasons.append("its output is a model output")
            elif not self.index.readers_of(node.outputs[0]):
                reasons.append("nothing reads its output")
                return replace(best, rest=((node.outputs[0], moving, ()),))
        for node in self.graph.nodes:
            inputs = self.index.given[id(node)]
            given = {id(value): owed[id(value)][1] for value in inputs if id(value) in owed}
            if not given:
                continue
            step = self._step_ahead(node, given)
            self._note(node, step, "behind it", reasons)
            if isinstance(step, str):
                continue
            edit, behind = step
            edits.append(edit)
            settled |= {(key, id(node)) for key in given}
            if behind is not None and behind.nodes:
                owed[id(node.outputs[0])] = (node.outputs[0], behind)
            plan = self._plan_ahead(owed, settled, edits, staying)
            best = min(best, plan, key=lambda plan: self.cost(plan, group))
        return best

    def _plan_ahead(
        self,
        owed: dict[int, tuple[Value, Map]],
        settled: set[tuple[int, int]],
        edits: Sequence[Edit],
        staying: Map,
    ) -> Plan:
        rest = []
        for key, (value, one) in owed.items():
            readers = [n for n in self.index.readers_of(value) if (key, id(n)) not in settled]
            if readers or self.graph.is_output(value):
                rest.append((value, one, tuple(readers)))
        return Plan(tuple(edits), tuple(rest), True, staying)

    def _step_ahead(self, node: Node, given: dict[int, Map]) -> tuple[Edit, Map | None] | str:
        """Carry maps in front of a node into it or over it."""
        values = [value for value in self.index.given[id(node)] if id(value) in given]
        if len({value.dtype for value in (*values, node.outputs[0])}) > 1:
            return f"`{node.name}` computes in another dtype"
        own = self.sites.get(id(node))
        if own is not None and own.far:
            return UNCENTRED
        if own is not None:
            return Edit(node, merged=given[id(values[0])].then(own.map)), None
        if absorb.absorbs(node.operation):
            absorbed = absorb.forward(self.graph, node, given)
            if isinstance(absorbed, str):
                return absorbed
            return _out_of_range(node, absorbed) or (Edit(node, absorbed), absorbed.rest)
        carrier = CARRIERS.get(type(node.operation))
        if carrier is None:
            return f"`{node.name}` ({node.kind}) lets no map pass"
        behind = carrier.forward(self.graph, node, given)
        return behind if isinstance(behind, str) else (Edit(node), behind)

    def backward(
        self, group: Sequence[Node], moving: Map, staying: Map, reasons: list[str]
    ) -> Plan:
        """Carry a map that is wanted of values back to what computes them."""
        wanted: _Wanted = {}
        for node in group:
            value = node.inputs[0]
            wanted.setdefault(id(value), (value, []))[1].append((node, moving))
        edits: list[Edit] = []
        best = self._plan_back(wanted, edits, staying)
        for node in reversed(self.graph.nodes):
            for value in node.outputs:
                if id(value) not in wanted:
                    continue
                step = self._step_back(node, value, wanted[id(value)][1])
                self._note(node, step, "in front of it", reasons)
                if isinstance(step, str):
                    continue
                edit, before = step
                edits.append(edit)
                del wanted[id(value)]
                for given, one in before:
                    if one.nodes:
                        wanted.setdefault(id(given), (given, []))[1].append((node, one))
                plan = self._plan_back(wanted, edits, staying)
                best = min(best, plan, key=lambda plan: self.cost(plan, group))
        if any(value is given for value, _ in wanted.values() for given in self.graph.inputs):
            reasons.append("in front of it is the model's input")
        return best

    def _plan_back(self, wanted: _Wanted, edits: Sequence[Edit], staying: Map) -> Plan:
        rest: list[Rest] = []
        for value, wishes in wanted.values():
            while wishes:
                one = wishes[0][1]
                readers = tuple(node for node, other in wishes if other.equals(one))
                rest.append((value, one, readers))
                wishes = [wish for wish in wishes if not wish[1].equals(one)]
        return Plan(tuple(edits), tuple(rest), False, staying)

    def _step_back(
        self, node: Node, value: Value, wishes: list[tuple[Node, Map]]
    ) -> tuple[Edit, list[tuple[Value, Map]]] | str:
        """Carry the map behind a node into it or over it."""
        if self.graph.is_output(value):
            return f"the output of `{node.name}` is also a model output"
        askers = {id(reader) for reader, _ in wishes}
        others = [n.name for n in self.index.readers_of(value) if id(n) not in askers]
        if others:
            return f"`{node.name}` is also read by {_listed(others)}"
        wish = wishes[0][1]
        if not all(other.equals(wish) for _, other in wishes):
            return f"the readers of `{node.name}` need different maps"
        if value is not node.outputs[0]:
            return f"`{node.name}` has several outputs"
        if any(reader.outputs[0].dtype != value.dtype for reader, _ in wishes):
            return f"`{node.name}` computes in another dtype"
        own = self.sites.get(id(node))
        if own is not None and own.far:
            return UNCENTRED
        if own is not None:
            return Edit(node, merged=own.map.then(wish)), []
        if absorb.absorbs(node.operation):
            absorbed = absorb.backward(self.graph, node, wish)
            if isinstance(absorbed, str):
                return absorbed
            return _out_of_range(node, absorbed) or (Edit(node, absorbed), [])
        carrier = CARRIERS.get(type(node.operation))
        if carrier is None:
            return f"`{node.name}` ({node.kind}) lets no map pass"
        if any(given.dtype != value.dtype for given in node.inputs):
            return f"`{node.name}` computes in another dtype"
        before = carrier.backward(self.graph, node, wish)
        if isinstance(before, str):
            return before
        found = {id(given): one for given, one in before}
        if not all(one.equals(found[id(given)]) for given, one in before):
            return f"`{node.name}` reads a value twice, and would need different maps of it"
        return Edit(node), before

    def _note(
        self, node: Node, step: tuple[Edit, Any] | str, where: str, reasons: list[str]
    ) -> None:
        """Why a step is not made, or may not be of use."""
        if isinstance(step, str):
            reasons.append(f"{where}: {step}")
        elif step[0].absorbed is not None and len(self.index.calls_of(node)) > 1:
            reasons.append(f"{where}: `{node.name}` is called more than once")

    def cost(self, plan: Plan, group: Sequence[Node]) -> Cost:
        """ONNX nodes, remainders and stored numbers that a plan leaves or adds."""
        kept = [plan.staying] * len(group)
        for rest in plan.rest:
            own = own_part(rest, plan.forwards, group)
            if own and plan.staying.nodes:
                return np.inf, 0, 0  # a part of the map has not moved at all
            kept += [rest[1]] * (len(own) + (not own or set(map(id, rest[2])) > own))
        nodes: float = sum(one.nodes for one in kept)
        for edit in plan.edits:
            if edit.absorbed is not None:
                nodes += np.inf if self._is_torn(edit, plan) else edit.absorbed.nodes
            if edit.merged is not None:
                nodes += edit.merged.nodes - self.sites[id(edit.node)].map.nodes
        return nodes, sum(one.nodes > 0 for one in kept), sum(one.numbers for one in kept)

    def _is_torn(self, edit: Edit, plan: Plan) -> bool:
        """Whether the calls of one layer would need different weights."""
        calls = self.index.calls_of(edit.node)
        if len(calls) == 1:
            return False
        edits = {id(other.node): other.absorbed for other in plan.edits}
        return not all(_equal(edits.get(id(node)), edit.absorbed) for node in calls)


def own_part(rest: Rest, forwards: bool, group: Sequence[Node]) -> set[int]:
    """The nodes of the group whose map, or a part of it, stays where it is."""
    value, _, readers = rest
    if forwards:
        return {id(node) for node in group if node.outputs[0] is value}
    return {id(node) for node in group if node in readers}


def _equal(one: Absorbed | None, other: Absorbed | None) -> bool:
    if one is None or other is None:
        return False
    return (
        one.weights.keys() == other.weights.keys()
        and all(np.array_equal(value, other.weights[name]) for name, value in one.weights.items())
        and one.config == other.config
    )


def _out_of_range(node: Node, absorbed: Absorbed) -> str | None:
    """Whether rounding to the dtype of the layer would leave a weight that is not finite."""
    half = node.outputs[0].dtype == "float16"
    limit = FORMATS["float16"].largest if half else np.finfo(np.float32).max
    if all(bool(np.all(np.abs(value) <= limit)) for value in absorbed.weights.values()):
        return None
    return f"the weights of `{node.name}` would leave the range of {node.outputs[0].dtype}"


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
