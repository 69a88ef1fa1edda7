"""Constants: does a file hold the numbers that its model gives?

A wrong weight may move the outputs by less than rounding does, or not at all where it stands
behind a ReLU that is closed; no comparison of outputs can tell. But a model always gives the same
file. So a file that the same versions wrote can be compared with what they would write now: where
the graphs are the same, node by node, each constant must be the same, too, but for one unit in the
last place. Ranges that were measured on data are the data's, and are left out; the biases that are
stored in their units are compared as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .clock import Clock
from .conversion import convert_program
from .ends import Ends
from .errors import ConversionError
from .formats import Format
from .graph import Node, layer_of
from .metadata import versions
from .program import Arrays, KerasProgram, Program
from .tidy import tidy

if TYPE_CHECKING:
    import onnx_ir as ir

DTYPES = {
    **dict.fromkeys(("FLOAT", "FLOATS"), np.float32),
    **dict.fromkeys(("INT", "INTS"), np.int64),
    **dict.fromkeys(("STRING", "STRINGS"), np.object_),
}
"""Of the attributes of nodes that hold numbers or texts."""


@dataclass(frozen=True)
class WrongConstant:
    """A constant of a file that is not what its model gives.

    Attributes:
        name: Its name in the file, or that of the node and its attribute.
        layer: The Keras layer in whose place it stands; None where that is not known.
        wrong: How many of its numbers are wrong.
        count: How many it has.
        error: The largest difference, in units of the right number; infinite if that is zero or
            no number.
        folded: Names of the layers that are folded into that one, any of which may be wrong.
    """

    name: str
    layer: str | None
    wrong: int
    count: int
    error: float
    folded: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f", layer {self.place}" if self.layer else ""
        return f"{self.name}{where}: {self.wrong} of {self.count}, relative error {self.error:.1e}"

    @property
    def place(self) -> str:
        """The layer, and what is folded into it."""
        inside = ", ".join(f"`{name}`" for name in self.folded)
        return f"`{self.layer}`{inside and f' (with {inside} folded into it)'}"


@dataclass(frozen=True)
class Constants:
    """All constants of a file, compared with those that its model gives.

    Attributes:
        compared: How many there are.
        wrong: Those that differ, in the order in which their layers compute; those of unknown
            layers last.
    """

    compared: int
    wrong: tuple[WrongConstant, ...] = ()


def is_ours(noted: Mapping[str, str]) -> bool:
    """Whether kerasdl wrote a file with these metadata."""
    return "kerasdl_version" in noted


def other_version(noted: Mapping[str, str]) -> str | None:
    """What a file of ours with these metadata was written with, and runs no longer; or None."""
    pairs = [(name, noted.get(f"{name}_version"), now) for name, now in versions().items()]
    others = (f"{name} {then}, and here is {now}" for name, then, now in pairs if then != now)
    return next((f"the file was written with {other}" for other in others), None)


def check_constants(
    program: Program,
    file: Path,
    opset: int,
    ends: Ends,
    stored: Format,
    clock: Clock,
    careful: bool = False,
    calibration: Sequence[Arrays] = (),
) -> Constants | None:
    """Compare the constants of a file that the same versions wrote.

    Args:
        program: The model, its extents fixed as in the file.
        file: The ONNX file.
        opset: Its operator set.
        ends: How its ends differ from the model's.
        stored: Its numbers.
        clock: Takes the time.
        careful: How it was converted (`convert.convert`).
        calibration: Any data, where its ranges were measured on some.

    Returns:
        None where the model does not give this graph, so that somebody has changed it since.
    """
    import onnx_ir as ir

    try:
        made = convert_program(program, ends, stored, opset, calibration, clock, careful)
    except ConversionError:
        return None
    now = made.model
    inputs, outputs = (
        list(map(ends.in_file, ports)) for ports in (program.inputs, program.outputs)
    )
    tidy(now, program.name, inputs, outputs, {})
    then = ir.load(file)
    if _structure(now.graph) != _structure(then.graph):
        return None
    # Names of nodes may be others, so that constants belong together by their places.
    numbers = (_numbers(graph, _places(graph)) for graph in (now.graph, then.graph))
    measured = _measured(now.graph)
    pairs = [pair for pair in zip(*numbers, strict=True) if pair[0][2] not in measured]
    owners, order = _Owners(now.graph, program), program.layer_names()
    wrong = [
        replace(one, layer=owners.of(holder))
        for (name, right, holder), (_, found, _) in pairs
        if (one := _compare(name, None, right, found)) is not None
    ]
    biases = list(zip(_in_units(now.graph), _in_units(then.graph), strict=True))
    wrong += [
        replace(one, layer=owners.of(right.holder))
        for right, found in biases
        if (one := _compare_in_units(right, found)) is not None
    ]
    folded = {name: tuple(f.layer for f in made.folds if name in f.into) for name in order}
    wrong = [replace(one, folded=folded.get(one.layer or "", ())) for one in wrong]
    places = {layer: place for place, layer in enumerate(order)}
    wrong.sort(key=lambda one: places.get(one.layer or "", len(order)))
    return Constants(len(pairs) + len(biases), tuple(wrong))


def _measured(graph: ir.Graph) -> set[Any]:
    """The constants that say a range of data, or depend on one: biases, and their units."""
    found: set[Any] = {value for one in _in_units(graph) for value in one.node.inputs}
    for node in graph:
        if node.op_type == "QuantizeLinear" and not _is_constant(node.inputs[0]):
            found.update(node.inputs[1:])
    return found


@dataclass(frozen=True)
class _InUnits:
    """A constant of int32, as the biases of integer products are, and the node that reads it."""

    node: ir.Node
    holder: ir.Value
    steps: np.ndarray
    unit: np.ndarray


def _in_units(graph: ir.Graph) -> Iterator[_InUnits]:
    for node in graph:
        if node.op_type != "DequantizeLinear" or not all(map(_is_constant, node.inputs)):
            continue
        value, unit = node.inputs[:2]
        if value is None or unit is None or value.const_value is None or unit.const_value is None:
            continue
        steps = _array(value.const_value)
        if steps.dtype == np.int32:
            yield _InUnits(node, value, steps, _array(unit.const_value).astype(np.float64))


def _compare_in_units(right: _InUnits, found: _InUnits) -> WrongConstant | None:
    """Each of them is rounded to its own units."""
    one, other = right.steps * right.unit, found.steps * found.unit
    wrong = np.abs(one - other) > right.unit + found.unit
    if not wrong.any():
        return None
    error = _relative(one[wrong], other[wrong])
    return WrongConstant(str(right.holder.name), None, int(wrong.sum()), one.size, error)


class _Owners:
    """The Keras layers in whose place nodes and constants of a file stand."""

    def __init__(self, graph: ir.Graph, program: Program) -> None:
        self.names = program.layer_names()
        self.keras = program.graph if isinstance(program, KerasProgram) else None
        self.outputs = {value: place for place, value in enumerate(graph.outputs)}
        nodes = graph.all_nodes()
        self.outside = {id(inner): node for node in nodes for inner in _inner(node)}

    def of(self, holder: ir.Value | ir.Node) -> str | None:
        """The layer of a constant, or of the node that has a number as an attribute."""
        import onnx_ir as ir

        own = layer_of(holder.name or "", self.names)
        if own is not None or self.keras is None:
            return own
        if isinstance(holder, ir.Value):
            readers = (self.of(node) for node, _ in holder.uses())
            found = self._of_output(holder) or next(filter(None, readers), None)
        elif all(map(_is_constant, holder.inputs)):  # Cast, Reshape and the like of a constant
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


def _is_constant(value: ir.Value | None) -> bool:
    """Whether a value is the same for all inputs of a file."""
    if value is None or value.is_initializer():
        return True
    node = value.producer()
    return node is not None and bool(node.inputs) and all(map(_is_constant, node.inputs))


def _structure(graph: ir.Graph) -> list[Any]:
    """All of a graph but its numbers, and names that are nobody's."""
    ends = [value.name for value in (*graph.inputs, *graph.outputs)]
    return [ends, *_form(graph, _places(graph))]


def _form(graph: ir.Graph, places: Mapping[ir.Value, int]) -> list[Any]:
    def place(value: ir.Value | None) -> int | None:
        return None if value is None or not value.name else places[value]

    return [
        [place(value) for value in (*graph.inputs, *graph.outputs)],
        [(places[value], *_kind(value.const_value)) for value in _in_order(graph, places)],
        [
            (
                node.domain,
                node.op_type,
                [place(value) for value in node.inputs],
                [place(value) for value in node.outputs],
                [(n, a.type, a.ref_attr_name) for n, a in sorted(node.attributes.items())],
                [_form(inner, places) for inner in _inner(node)],
            )
            for node in graph
        ],
    ]


def _places(graph: ir.Graph) -> dict[ir.Value, int]:
    """The values of a graph and of those inside it, numbered as they appear."""
    places: dict[ir.Value, int] = {}

    def see(values: Iterable[ir.Value | None]) -> None:
        for value in values:
            if value is not None:
                places.setdefault(value, len(places))

    def walk(graph: ir.Graph) -> None:
        see(graph.inputs)
        for node in graph:
            see(node.inputs)
            see(node.outputs)
            for inner in _inner(node):
                walk(inner)
        see(graph.outputs)
        see(graph.initializers.values())

    walk(graph)
    return places


def _in_order(graph: ir.Graph, places: Mapping[ir.Value, int]) -> list[ir.Value]:
    return sorted(graph.initializers.values(), key=places.__getitem__)


def _kind(tensor: Any) -> tuple[Any, ...]:
    return tensor.dtype, *tensor.shape


def _inner(node: ir.Node) -> Iterator[ir.Graph]:
    for _, attribute in sorted(node.attributes.items()):
        if attribute.type.name == "GRAPH":
            yield attribute.as_graph()
        elif attribute.type.name == "GRAPHS":
            yield from attribute.as_graphs()


def _numbers(
    graph: ir.Graph, places: Mapping[ir.Value, int]
) -> Iterator[tuple[str, np.ndarray, ir.Value | ir.Node]]:
    """Constants with their name, and numbers in attributes with those of node and attribute."""
    for value in _in_order(graph, places):
        yield str(value.name), _array(value.const_value), value
    for node in graph:
        for name, attribute in sorted(node.attributes.items()):
            kind = attribute.type.name
            if kind in DTYPES:
                yield f"{node.name}.{name}", np.asarray(attribute.value, DTYPES[kind]), node
            elif kind == "TENSOR":
                yield f"{node.name}.{name}", _array(attribute.value), node
        for inner in _inner(node):
            yield from _numbers(inner, places)


def _array(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.numpy()
    return array


def _compare(
    name: str, layer: str | None, right: np.ndarray, found: np.ndarray
) -> WrongConstant | None:
    if right.shape != found.shape or right.dtype != found.dtype:
        return WrongConstant(name, layer, right.size, right.size, float("inf"))
    wrong = ~_same(right, found)
    if not wrong.any():
        return None
    return WrongConstant(
        name, layer, int(wrong.sum()), right.size, _relative(right[wrong], found[wrong])
    )


def _same(right: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Where the numbers are the same, but for one unit in the last place."""
    same = right == found
    if right.dtype in (np.int8, np.uint8):
        same = np.abs(right.astype(int) - found.astype(int)) <= 1
    elif _is_float(right):
        with np.errstate(invalid="ignore", over="ignore"):
            one, other = right.astype(np.float64), found.astype(np.float64)
            same |= (np.abs(one - other) <= _unit(right)) | (np.isnan(one) & np.isnan(other))
    return np.asarray(same)


def _unit(right: np.ndarray) -> np.ndarray:
    """One unit in the last place of each number; the largest has none but that below it."""
    size = np.abs(right)
    above = np.spacing(size).astype(np.float64)
    below = (size - np.nextafter(size, np.zeros_like(size))).astype(np.float64)
    return np.where(np.isinf(above), below, above)


def _relative(right: np.ndarray, found: np.ndarray) -> float:
    if not _is_float(right) and right.dtype.kind not in "iu":
        return float("inf")
    with np.errstate(all="ignore"):
        one, other = right.astype(np.float64), found.astype(np.float64)
        errors = np.abs(other - one) / np.abs(one)
    return float(np.max(np.nan_to_num(errors, nan=np.inf, posinf=np.inf)))


def _is_float(array: np.ndarray) -> bool:
    # bfloat16 is a number of another library's, of kind "V".
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
