"""Constants: does a file hold the numbers that its model gives?

A wrong weight may move the outputs by less than rounding does, or not at all where it stands
behind a ReLU that is closed; no comparison of outputs can tell. But a model always gives the same
file. So a file that the same versions wrote can be compared with what they would write now: where
the graphs are the same, node by node, each constant must be the same, too, but for one unit in the
last place. Ranges that were measured on data are the data's, and are left out; the biases that are
stored in their units are compared as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..clock import Clock
from ..conversion import convert_program
from ..errors import ConversionError
from ..files.ends import Ends
from ..files.metadata import versions
from ..folding.folding import Fold
from ..formats import Format
from ..onnx_graphs.tidy import tidy
from ..programs.program import Arrays, Program
from .owners import Owners, inner_graphs, is_constant

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
    owners, order = Owners(now.graph, program), program.layer_names()
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
    wrong = [replace(one, folded=_folded_into(one.layer, made.folds, program)) for one in wrong]
    places = {layer: place for place, layer in enumerate(order)}
    wrong.sort(key=lambda one: places.get(one.layer or "", len(order)))
    return Constants(len(pairs) + len(biases), tuple(wrong))


def _folded_into(layer: str | None, folds: Sequence[Fold], program: Program) -> tuple[str, ...]:
    """Names of the layers that are folded into one, at any of its calls."""
    calls = set() if layer is None else {*program.calls_of(layer)}
    return tuple(fold.layer for fold in folds if calls & {*fold.into})


def _measured(graph: ir.Graph) -> set[Any]:
    """The constants that say a range of data, or depend on one: biases, and their units."""
    found: set[Any] = {value for one in _in_units(graph) for value in one.node.inputs}
    for node in graph:
        if node.op_type == "QuantizeLinear" and not is_constant(node.inputs[0]):
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
        if node.op_type != "DequantizeLinear" or not all(map(is_constant, node.inputs)):
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
                [_form(inner, places) for inner in inner_graphs(node)],
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
            for inner in inner_graphs(node):
                walk(inner)
        see(graph.outputs)
        see(graph.initializers.values())

    walk(graph)
    return places


def _in_order(graph: ir.Graph, places: Mapping[ir.Value, int]) -> list[ir.Value]:
    return sorted(graph.initializers.values(), key=places.__getitem__)


def _kind(tensor: Any) -> tuple[Any, ...]:
    return tensor.dtype, *tensor.shape


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
        for inner in inner_graphs(node):
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
