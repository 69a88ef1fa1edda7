"""Where a wrong file begins to differ, and what it made of each layer.

All inner values of the file are computed once. A layer is *held* if some value of the file has its
numbers: in its own order, or with the axes as converters lay them out (channels or time first).
Names are not looked at. A layer without a value of its own has been absorbed by a neighbour: it is
*open* as long as nothing that is computed from it is held.

If the outputs are wrong, some layers are open, those behind the fault among them. The fault is told
from its consequences by an intervention: a layer's true output is put in the place of a value of
the file, and what depends on it is computed anew. If a wrong output of the file is right then,
and no right one is wrong, that value is the layer's place, and everything behind it is right. The
first layer in the order of the graph for which this works, and the open ones that lead to it, are
the piece that is wrong.

Candidates for the place are values of the same size that hold nothing and lead to a wrong output
past nothing that is held, as a changed weight leaves them; and those that the layer reads, for all
readers or for one, as a dropped layer leaves them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..formats import FLOAT32, Format
from ..graphs.graph import Graph, Node, Value
from ..programs.program import Arrays, KerasProgram
from .checks import Check
from .inner import Forcing, InnerValues
from .layers import Expected, LayerCheck, expected_values

PLACES = 12
"""How many values of the file are tried as the place of one layer."""
FIRM = 0.25
"""A value that uses up more of what is allowed is doubted if something behind it is wrong."""


def check_layers(
    program: KerasProgram,
    file: Path,
    arrays: Arrays,
    stored: Format = FLOAT32,
    *,
    rows: Arrays | None = None,
    complete: bool = True,
    right: Sequence[Check] = (),
) -> list[LayerCheck]:
    """What a file made of each layer; the model runs three times.

    Args:
        program: The model as it was, nothing folded.
        file: The ONNX file.
        arrays: One batch.
        stored: The numbers of the file.
        rows: The batch, and more rows behind it, which the model takes at once and the file does
            not.
        complete: Go on behind the first piece that is wrong, with its values put right.
        right: Where all outputs are right, a comparison for each. Nothing is wrong then, though
            a file whose inner values are looked at may round more than it does otherwise.

    Returns:
        One entry per layer, in the order of the graph.
    """
    expected = expected_values(program, arrays, stored, rows)
    inner = InnerValues(file, program, arrays)
    inner.values.update(_constant_outputs(file, inner))
    search = _Search(program.graph, expected, inner, right)
    while not right and search.repair() and complete:
        continue
    return search.checks()


def first_wrong(checks: Sequence[LayerCheck]) -> tuple[str, ...]:
    """The layers that are one piece in the file, where it begins to differ; none if nowhere."""
    return next((check.group for check in checks if check.passed is False), ())


def _constant_outputs(file: Path, inner: InnerValues) -> dict[str, np.ndarray]:
    """The outputs that no node of a file computes, since they are constants."""
    import onnx_ir as ir

    missing = [name for name in inner.outputs if name not in inner.values]
    constants = ir.load(file).graph.initializers if missing else {}
    tensors = {name: constants[name].const_value for name in missing if name in constants}
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}


@dataclass(frozen=True)
class _Held:
    """A value of the file that has the numbers of a layer's output."""

    name: str
    plain: bool
    error: float
    allowed: float

    @property
    def strain(self) -> float:
        return self.error / self.allowed if self.allowed else 0.0


@dataclass(frozen=True)
class _Attempt:
    """A layer's true output in a place of the file where it may belong."""

    node: Node
    value: Value
    forcing: Forcing


class _Search:
    def __init__(
        self,
        graph: Graph,
        expected: dict[int, Expected],
        inner: InnerValues,
        right: Sequence[Check] = (),
    ) -> None:
        self.graph = graph
        self.expected = expected
        self.inner = inner
        self.held: dict[int, _Held] = {}
        self.wrong: dict[int, tuple[Node, ...]] = {}
        for value, name in zip(graph.inputs, [*self.inner.values], strict=False):
            self.held[id(value)] = _Held(name, True, 0.0, 0.0)
        for value, name, check in zip(graph.outputs, inner.outputs, right, strict=False):
            self.held[id(value)] = _Held(name, True, check.error, check.tolerance)
        self._look()

    # What is held

    def _look(self) -> None:
        """Look for all values that are not held yet among those of the file."""
        sizes: dict[int, list[str]] = {}
        wrong = self._wrong_outputs(self.inner.values)
        pairs = zip(self.graph.outputs, self.inner.outputs, strict=True)
        # The numbers of an output may be another layer's, too, where it does nothing to them.
        missing = {id(value) for value, name in pairs if name in wrong}
        for name in self.inner.values:
            sizes.setdefault(self.inner.values[name].size, []).append(name)
        for node in self.graph.nodes:
            for value in node.outputs:
                expected = self.expected.get(id(value))
                if expected is not None and id(value) not in {*self.held, *missing}:
                    found = self._find(expected, sizes.get(expected.native.size, ()))
                    if found is not None:
                        self.held[id(value)] = found

    def _find(self, expected: Expected, names: Sequence[str]) -> _Held | None:
        """Of the values that agree, the one laid out plainly, and the nearest."""
        found = (held for name in names for held in self._agreeing(expected, name))
        return min(found, key=lambda held: (not held.plain, held.strain), default=None)

    def _agreeing(self, expected: Expected, name: str) -> Iterator[_Held]:
        if expected.native.ndim == 0:
            error, allowed = expected.compare(self.inner.values[name].reshape(()))
            if error <= allowed:
                yield _Held(name, True, error, allowed)
            return
        head = expected.rows(1)
        for number, view in enumerate(_views(self.inner.values[name], expected.native.shape)):
            error, allowed = head.compare(view[:1])
            if error <= allowed:
                error, allowed = expected.compare(view)
                if error <= allowed:
                    yield _Held(name, number == 0, error, allowed)

    def _is_held(self, node: Node) -> bool:
        return all(id(value) in self.held or not self._matters(value) for value in node.outputs)

    def _matters(self, value: Value) -> bool:
        """Whether it can be compared, and is used."""
        used = self.graph.is_output(value) or bool(self.graph.consumers(value))
        return used and id(value) in self.expected

    def _ends(self) -> dict[int, Node]:
        """Per layer that is held, or absorbed by layers that lead to one: the first held one."""
        ends: dict[int, Node] = {}
        for node in reversed(self.graph.nodes):
            if self._is_held(node):
                ends[id(node)] = node
                continue
            if any(map(self.graph.is_output, node.outputs)):
                continue  # what a file has to give, it absorbs nowhere
            readers = [one for value in node.outputs for one in self.graph.consumers(value)]
            end = next((ends[id(one)] for one in readers if id(one) in ends), None)
            if end is not None:
                ends[id(node)] = end
        return ends

    def _wrong_outputs(self, values: Mapping[str, np.ndarray]) -> set[str]:
        """Names of the file's outputs that are not the model's, if these are its values."""
        return {
            name
            for value, name in zip(self.graph.outputs, self.inner.outputs, strict=True)
            if id(value) in self.expected and not self.expected[id(value)].agrees(values[name])
        }

    # What is wrong

    def repair(self) -> bool:
        """Find the first piece that is wrong, and put its end right."""
        wrong = self._wrong_outputs(self.inner.values)
        ends = self._ends()
        open_nodes = [node for node in self.graph.nodes if id(node) not in ends]
        if not wrong or not open_nodes:
            return False
        taken = {held.name for held in self.held.values()}
        leading = self.inner.leading_to(wrong, taken)
        free = [name for name in self.inner.values if name in leading - taken]
        for attempts in self._attempts(self._suspects(open_nodes), free):
            changed = self.inner.with_forced([attempt.forcing for attempt in attempts])
            # Strictly fewer wrong outputs than before, so that this comes to an end.
            if changed and self._wrong_outputs({**self.inner.values, **changed}) < wrong:
                self._settle(attempts, open_nodes)
                return True
        self.wrong[id(open_nodes[0])] = (open_nodes[0],)
        return False

    def _suspects(self, open_nodes: Sequence[Node]) -> list[Node]:
        """In the order of the graph: what is open, or absorbed in front of it, or held badly.

        That is, nearly not, or in an order of the axes which might be a swap that is missing.
        """
        behind = {id(node) for node in open_nodes}
        turned = {id(value) for value in open_nodes[0].inputs}
        found = []
        for node in reversed(self.graph.nodes):
            readers = [one for value in node.outputs for one in self.graph.consumers(value)]
            if not any(id(one) in behind for one in (node, *readers)):
                continue
            behind.add(id(node))
            doubted = not self._is_held(node)
            for value in node.outputs:
                held = self.held.get(id(value))
                if held is not None and id(value) in turned and not held.plain:
                    turned.update(map(id, node.inputs))
                    doubted = True
                doubted = doubted or (held is not None and held.strain > FIRM)
                doubted = doubted or self._is_passed(node, held)
            if doubted:
                found.append(node)
        return found[::-1]

    def _is_passed(self, node: Node, held: _Held | None) -> bool:
        """Whether a layer gives on these data what it is given: then it holds the same value, and
        what the file made of the layer itself is not among what is held."""
        given = (self.held.get(id(value)) for value in node.inputs)
        return held is not None and held.name in {one.name for one in given if one is not None}

    def _attempts(
        self, suspects: Sequence[Node], free: Sequence[str]
    ) -> Iterator[tuple[_Attempt, ...]]:
        """Every suspect by itself, and after its first call all calls of a layer at once."""
        for node in suspects:
            own = list(self._places(node, free))
            yield from ((attempt,) for attempt in own)
            calls = [other for other in suspects if other.operation is node.operation]
            if node is calls[0] and len(calls) > 1:
                others = [list(self._places(call, free)) for call in calls[1:]]
                for attempt in own:
                    alike = [[one for one in each if self._alike(attempt, one)] for each in others]
                    yield from itertools.product([attempt], *alike)

    def _alike(self, one: _Attempt, other: _Attempt) -> bool:
        """Whether these may be the same place in two calls."""
        names = (one.forcing.name, other.forcing.name)
        taken = {held.name for held in self.held.values()}
        if any(name in taken for name in names):
            return all(name in taken for name in names)
        return self.inner.operator(names[0]) == self.inner.operator(names[1])

    def _places(self, node: Node, free: Sequence[str]) -> Iterator[_Attempt]:
        """Where in the file a layer's outputs may belong: `free` are those that hold nothing."""
        for value in node.outputs:
            expected = self.expected.get(id(value))
            if expected is None or expected.native.dtype.kind not in "fiub":
                continue
            held = self.held.get(id(value))
            size = expected.native.size
            names = [name for name in free if self.inner.values[name].size == size][:PLACES]
            if held is not None:
                names, read = names if self._is_passed(node, held) else [], [held.name]
            else:
                inputs = (self.held.get(id(given)) for given in node.inputs)
                read = list(dict.fromkeys(one.name for one in inputs if one is not None))
                read = [name for name in read if self.inner.values[name].size == size]
            readers = [(name, reader) for name in read for reader in self.inner.readers(name)]
            for name, reader in [*((name, None) for name in (*names, *read)), *readers]:
                for array in self._arrays(name, expected, held):
                    yield _Attempt(node, value, Forcing(name, array, reader))

    def _arrays(self, name: str, expected: Expected, held: _Held | None) -> list[np.ndarray]:
        """What would stand in the place of a value, were it this layer's output, and is not."""
        now = self.inner.values[name]
        if now.dtype.kind not in "fiub":
            return []
        near = 0.0 if held is None or held.strain > FIRM else expected.allowed.max()
        found = [now]
        with np.errstate(over="ignore", invalid="ignore"):  # float16 overflows
            for array in _layouts(expected.exact, now.shape):
                array = array.astype(now.dtype)
                if not any(np.allclose(array, one, rtol=0, atol=near) for one in found):
                    found.append(array)
        return found[1:]

    def _settle(self, attempts: Sequence[_Attempt], open_nodes: Sequence[Node]) -> None:
        """Note what is wrong, and go on with it put right."""
        ends = {id(attempt.node) for attempt in attempts}
        between = [node for node in open_nodes if id(node) not in ends]
        for attempt in attempts:
            piece = self._piece(attempt.node, between)
            self.wrong.update((id(node), piece) for node in piece)
            error, allowed = self._error(attempt)
            name = attempt.forcing.name
            self.held[id(attempt.value)] = _Held(name, True, error, allowed)
        self.inner.force([attempt.forcing for attempt in attempts])
        self._look()

    def _error(self, attempt: _Attempt) -> tuple[float, float]:
        """How far the file is off in a place, with its axes as those of what belongs there."""
        expected, forcing = self.expected[id(attempt.value)], attempt.forcing
        pairs = zip(
            _views(self.inner.values[forcing.name], expected.native.shape),
            _views(forcing.array, expected.native.shape),
            strict=True,
        )
        errors = [expected.compare(now) for now, right in pairs if expected.agrees(right)]
        return min(errors, default=(math.inf, 0.0))

    def _piece(self, end: Node, open_nodes: Sequence[Node]) -> tuple[Node, ...]:
        """A layer and the open ones that lead to it, in the order of the graph."""
        inside = {id(end)}
        for node in reversed(self.graph.nodes):
            readers = [one for value in node.outputs for one in self.graph.consumers(value)]
            if any(node is one for one in open_nodes) and any(id(r) in inside for r in readers):
                inside.add(id(node))
        return tuple(node for node in self.graph.nodes if id(node) in inside)

    # The table

    def checks(self) -> list[LayerCheck]:
        ends = self._ends()
        pieces: dict[int, list[Node]] = {}
        for node in self.graph.nodes:
            end = ends.get(id(node))
            if end is not None:
                pieces.setdefault(id(end), []).append(node)
        return [self._check(node, ends, pieces) for node in self.graph.nodes]

    def _check(
        self, node: Node, ends: dict[int, Node], pieces: dict[int, list[Node]]
    ) -> LayerCheck:
        wrong = self.wrong.get(id(node))
        end = ends.get(id(node))
        piece = wrong or (tuple(pieces[id(end)]) if end is not None else (node,))
        entries = [self.held[id(value)] for value in node.outputs if id(value) in self.held]
        own = self._is_held(node) and bool(entries)
        worst = max(entries, key=lambda held: held.strain) if own else None
        return LayerCheck(
            layer=node.name,
            kind=node.kind,
            shape=node.outputs[0].shape,
            held=", ".join(dict.fromkeys(held.name for held in entries)) if own else None,
            group=tuple(one.name for one in piece),
            error=worst.error if worst and math.isfinite(worst.error) else None,
            allowed=None if worst is None else worst.allowed,
            passed=False if wrong else True if end is not None else None,
        )


def _orders(rank: int) -> list[tuple[int, ...]]:
    """How a file may have the axes: as they are, channels first, channels last, time first."""
    plain = tuple(range(rank))
    if rank < 3:
        return [plain]
    return [plain, (0, rank - 1, *plain[1:-1]), (0, *plain[2:], 1), (1, 0, *plain[2:])]


def _views(array: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The numbers of a value of the file as a layer's output, one per order of the axes."""
    return [
        array.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
        for order in _orders(len(shape))
    ]


def _layouts(exact: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """A layer's output in every order of the axes that fits a value of this shape."""
    laid = [exact.transpose(order) for order in _orders(exact.ndim)]
    fitting = [x for x in laid if _bare(x.shape) == _bare(shape)]
    return [x.reshape(shape) for x in fitting or laid[:1]]


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)
