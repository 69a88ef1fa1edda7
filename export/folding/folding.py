"""Folding: every batch normalization goes where it costs least, wherever that is exact.

At inference it is a map, y = a·x + b, and so are Affine, Rescaling and Normalization layers. A
map can move over a node, backwards or forwards (`carry.py`), until a layer absorbs it
(`absorb.py`); another map does, too. Where it forks, every branch needs an end. What cannot go
further stays there as a remainder: one multiplication, one addition, or both.

For each map all of its moves are planned, the whole map or its scale or its shift alone, and the
plan that leaves the fewest ONNX nodes is carried out, if it leaves fewer than the map itself.
Nothing is changed before. A layer that is called more than once must absorb equal maps in all of
its calls.

One move is exact, but not made: far from zero, W'x + c' loses what (x − E)/σ does not. A
Normalization of the model's own inputs whose mean is more than `FAR` deviations off zero keeps its
shift in front. (A batch normalization is a·x + b in Keras, too, and loses it itself.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from ..formats import FLOAT32, Format
from ..graphs.graph import Graph, Node, Value, flatten_layers
from ..graphs.inference import distance_from_zero, is_batch_normalization, map_of
from ..graphs.maps import Map, Shape
from . import absorb
from .carry import CARRIERS
from .linear import is_convolution
from .moves import UNCENTRED, UNHELD, Cost, Moves, Plan, Site, own_part
from .rebuild import rebuild
from .remainder import remainder

FAR = 8.0
"""At 8 the error was at most 0.3 of what parity allows, at 16 it was all of it."""


@dataclass(frozen=True)
class Fold:
    """What became of one batch normalization, or of another layer that is a map.

    Attributes:
        layer: Its name.
        into: Names of the layers that absorbed it or a part of it; empty if it stayed.
        reason: Why it stayed, or which part did and why; else None.
        closed: Whether it lies inside a layer whose Keras graph is closed.
    """

    layer: str
    into: tuple[str, ...]
    reason: str | None = None
    closed: bool = False

    def __str__(self) -> str:
        if not self.into:
            return f"{self.layer}: kept, {self.reason}"
        rest = "" if self.reason is None else f"; {self.reason}"
        return f"{self.layer}: folded into {', '.join(self.into)}{rest}"


def fold(graph: Graph, stored: Format = FLOAT32) -> list[Fold]:
    """Move every map of the graph to where it costs least, in place.

    Args:
        graph: The graph.
        stored: The numbers of the file; int8 does not bear every fold.
    """
    return _Folding(graph, stored).run()


class _Folding:
    """All maps of one graph."""

    def __init__(self, graph: Graph, stored: Format) -> None:
        self.graph, self.stored = graph, stored
        self.sites: dict[int, Site] = {}
        self.into: dict[str, list[str]] = {}
        for node in graph.nodes:
            found = map_of(node)
            if found is not None:
                far = distance_from_zero(node) > FAR and _is_unrounded(graph, node.inputs[0])
                policy = node.operation.dtype_policy
                first = any(node.inputs[0] is value for value in graph.inputs)
                firm = first and not stored.holds(found.scale, found.shift)
                self.sites[id(node)] = Site(found, [node.name], policy, far, firm)
                self.into[node.name] = []
        self.moves = Moves(graph, self.sites)

    def run(self) -> list[Fold]:
        while sum(self._improve(node) for node in list(self.graph.nodes)):
            continue
        folds = [self._fold(name) for name in self.into]
        for node in list(self.graph.nodes):
            self._settle(node)
        return folds + _closed(self.graph)

    # Plans

    def _improve(self, node: Node) -> bool:
        """Carry out the best plan for one map, if it is better than to do nothing."""
        site = self.sites.get(id(node))
        if site is None or not site.map.nodes:
            return False
        site.reasons = []
        if node.inputs[0].dtype != node.outputs[0].dtype:
            site.reasons = ["it changes the dtype"]
            return False
        for group in self._groups(node):
            best: Plan | None = None
            cost: Cost = (len(group) * site.map.nodes, len(group), np.inf)
            for plan in self._plans(group, site):
                if not self._is_borne(plan, site):
                    continue
                new = self.moves.cost(plan, group)
                if new < cost and (best is not None or new[:2] < cost[:2]):
                    best, cost = plan, new
                if cost[0] == 0:
                    break
            if best is not None:
                self._commit(best, group)
                return True
        return False

    def _is_borne(self, plan: Plan, site: Site) -> bool:
        """Whether the numbers of the file bear a plan."""
        absorbing = (edit.node for edit in plan.edits if edit.absorbed is not None)
        convolutions = [node.name for node in absorbing if is_convolution(node.operation)]
        if not convolutions or self.stored.folds_into_convolutions:
            return True
        site.reasons.append(f"`{convolutions[0]}` rounds its whole kernel in one range")
        return False

    def _groups(self, node: Node) -> Iterator[list[Node]]:
        """The node alone; then all maps that are equal to it, for layers that are called twice."""
        yield [node]
        own = self.sites[id(node)].map
        sites = ((n, self.sites[id(n)].map) for n in self.graph.nodes if id(n) in self.sites)
        twins = [n for n, other in sites if other.equals(own)]
        if len(twins) > 1:
            yield twins

    def _plans(self, group: list[Node], site: Site) -> Iterator[Plan]:
        """Move the whole map; else its scale or its shift, where the other one stays."""
        if any(self.sites[id(node)].firm for node in group):
            site.reasons.append(UNHELD)
            return
        whole, neutral = site.map, Map.identity(site.map.scale.ndim)
        far = any(self.sites[id(node)].far for node in group)
        ahead = self.stored.folds_forwards and not (far and whole.shifts)
        yield self.moves.backward(group, whole, neutral, site.reasons)
        if ahead:
            yield self.moves.forward(group, whole, neutral, site.reasons)
        elif not self.stored.folds_forwards:
            site.reasons.append("what is behind it takes all channels in one range")
        else:
            site.reasons.append(UNCENTRED)
        if whole.nodes < 2:
            return
        scale, shift, first = whole.only_scale(), whole.only_shift(), whole.shift_first()
        yield self.moves.backward(group, scale, shift, [])
        if ahead:
            yield self.moves.forward(group, shift, scale, [])
        if first is not None:
            if self.stored.folds_forwards:
                yield self.moves.forward(group, scale, first, [])
            yield self.moves.backward(group, first, scale, [])

    # Changes

    def _commit(self, plan: Plan, group: Sequence[Node]) -> None:
        sites = [self.sites[id(node)] for node in group]
        site = replace(
            sites[0],
            names=list(dict.fromkeys(name for one in sites for name in one.names)),
            far=any(one.far for one in sites),
        )
        rebuilt: set[int] = set()
        for edit in plan.edits:
            if edit.absorbed is not None:
                for name in site.names:
                    self.into[name].append(edit.node.name)
                if id(edit.node) not in rebuilt:
                    calls = self.moves.index.calls_of(edit.node)
                    rebuild(self.graph, calls, edit.absorbed, _shapes(edit.node))
                    rebuilt |= set(map(id, calls))
            elif edit.merged is not None:
                other = self.sites[id(edit.node)]
                other.map, other.changed = edit.merged, True
                other.names = list(dict.fromkeys((*other.names, *site.names)))
                other.far = other.far or (site.far and not plan.forwards)
        stays: set[int] = set()
        for value, one, readers in plan.rest:
            own = own_part((value, one, readers), plan.forwards, group)
            stays |= own
            others = [node for node in readers if id(node) not in own]
            if plan.forwards and own:
                self._free_settled(value, readers, group)
            elif others or not own:
                self._leave(value, one, others, site, outputs=plan.forwards)
        for node in group:
            if id(node) in stays:
                continue
            if plan.staying.nodes:
                self.sites[id(node)].map = plan.staying
                self.sites[id(node)].changed = True
            else:
                self._remove(node)
        self.moves = Moves(self.graph, self.sites)

    def _free_settled(self, value: Value, readers: Sequence[Node], group: Sequence[Node]) -> None:
        """The readers that have absorbed the map read what is in front of it."""
        source = next(node for node in group if node.outputs[0] is value)
        for node in self.moves.index.readers_of(value):
            if node not in readers:
                table = {id(value): source.inputs[0]}
                node.arguments, node.keywords = node.substitute(table)

    def _leave(
        self, value: Value, one: Map, readers: Sequence[Node], site: Site, *, outputs: bool
    ) -> None:
        """Put a map behind a value, for some of its readers."""
        source = self.graph.producer(value)
        place = 0 if source is None else self.graph.nodes.index(source) + 1
        behind = Value(value.shape, value.dtype)
        node = Node(None, (value,), {}, (behind,), self._name(site.names[0]))
        self.graph.nodes.insert(place, node)
        self.sites[id(node)] = replace(
            site, map=one, far=site.far and one.shifts, changed=True, reasons=[]
        )
        for reader in readers:
            reader.arguments, reader.keywords = reader.substitute({id(value): behind})
        if outputs:
            ends = self.graph.outputs
            self.graph.outputs = [behind if end is value else end for end in ends]

    def _name(self, base: str) -> str:
        taken = {node.name for node in self.graph.nodes}
        tries = (f"{base}.{i}" if i else base for i in itertools.count())
        return next(name for name in tries if name not in taken)

    def _remove(self, node: Node) -> None:
        del self.sites[id(node)]
        self.graph.bypass(node)

    def _settle(self, node: Node) -> None:
        """Give a map that stays its operation.

        A layer that was not touched keeps its own, unless it multiplies by one or adds zero.
        """
        site = self.sites.get(id(node))
        if site is None:
            return
        if not site.map.nodes:
            self._remove(node)
        elif site.changed or site.map.nodes < 2 or is_batch_normalization(node):
            name = node.name.rpartition("/")[2]
            node.operation = remainder(self.graph, site.map, name, site.policy)
            node.arguments, node.keywords = (node.inputs[0],), {}

    def _fold(self, name: str) -> Fold:
        """What became of one layer."""
        into, stayed = list(self.into[name]), []
        for node in self.graph.nodes:
            site = self.sites.get(id(node))
            if site is None or name not in site.names or not site.map.nodes:
                continue
            if site.names[0] == name:
                stayed.append(site)
            else:
                into.append(node.name)
        into = list(dict.fromkeys(into))
        if not stayed:
            return Fold(name, tuple(into), None if into else "it changes nothing")
        reasons = dict.fromkeys(reason for site in stayed for reason in site.reasons)
        text = "; ".join(reasons) or "nothing else needs fewer nodes"
        if into:
            parts = [("its scale", any(site.map.scales for site in stayed))]
            parts += [("its shift", any(site.map.shifts for site in stayed))]
            what = " and ".join(part for part, there in parts if there)
            text = f"{what} kept as a node of its own ({text})"
        return Fold(name, tuple(into), text)


def _shapes(node: Node) -> list[Shape]:
    """Arguments of the layer's `build`."""
    if type(node.operation) is not absorb.ATTENTION:
        return [node.inputs[0].shape]
    arguments = absorb.arguments_of(node)
    values = [arguments.get(name) for name in ("query", "value", "key")]
    return [value.shape for value in values if value is not None]


def _is_unrounded(graph: Graph, value: Value) -> bool:
    """Whether the numbers of a value are those of an input of the model."""
    source = graph.producer(value)
    if source is None:
        return True
    if type(source.operation) not in CARRIERS:
        return False
    return any(_is_unrounded(graph, given) for given in source.inputs)


def _closed(graph: Graph) -> list[Fold]:
    """Batch normalizations that cannot be read: subclasses, and those inside closed layers."""
    folds = []
    for node in graph.nodes:
        if not isinstance(node.operation, keras.Layer):
            continue
        if isinstance(node.operation, keras.layers.BatchNormalization):
            folds.append(Fold(node.name, (), f"its class {node.kind} may compute something else"))
        reason = f"it lies inside `{node.name}` ({node.kind}), whose Keras graph is closed"
        folds += [
            Fold(f"{node.name}/{inner.name}", (), reason, closed=True)
            for inner in flatten_layers(node.operation)[1:]
            if isinstance(inner, keras.layers.BatchNormalization)
        ]
    return folds
