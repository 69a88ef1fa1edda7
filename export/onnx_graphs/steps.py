"""Steps: recurrent operators as a Scan over time, where onnxruntime is faster or wrong without.

onnxruntime's LSTM is fast for every batch. Its GRU is for small ones: beside a Scan it takes a
fifth of the time at a batch of 1, as long at 16 to 32, and more from there on, with two threads a
multiple. Its RNN is behind from a batch of 4 or 8 on. So

    RNN → Scan          GRU → If(0 < batch ≤ 16, GRU, Scan)

or one of the two where the batch is fixed. A step is written in as few nodes as can be, since each
of them costs time at every step. `benchmarks/latency.py` measures them.

On an empty batch onnxruntime's GRU and LSTM end the whole process, and so does its GRU on no time
at all. A Scan takes an empty batch, and refuses to have no time, as Keras does. Without a Scan

    LSTM → If(0 < batch, LSTM, the first states)

which takes 2 to 5 µs. In float16 onnxruntime has none of these operators, and computes them in
float32. So does the file, but with the conversions in front, where those of the weights are done
once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .onnx_values import constant, shapes_read

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST = {"GRU": 16, "RNN": 0}
"""The largest batch for which the operator is left, if there are steps instead."""
ENDING = {"GRU": (0, 1), "LSTM": (1,)}
"""Axes of an input, (time, batch, features), with which onnxruntime ends the process if empty."""
LENGTHS = 4
"""The input with the lengths of sequences, the only one of whole numbers; behind it the states."""
DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}
"""Whether time runs backwards in each direction."""
USUAL = {"GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Relu": (),
    "Sigmoid": (),
    "Softsign": (),
    "Tanh": (),
}
"""Activations that are operators of the same name, and the numbers that they take."""

Function = Callable[["_Nodes", "ir.Value"], "ir.Value"]
Extents = tuple[int | None, ...]
Step = Callable[["_Nodes", "ir.Value", "ir.Value"], "ir.Value"]
"""The next state, from what comes in and the state."""


def write_steps(model: ir.Model) -> None:
    """Write down the steps of recurrent operators, in place."""
    kinds = {*LARGEST, *ENDING}
    for node, shape in shapes_read(model, lambda node: node.op_type in kinds):
        layer = _Layer.of(node, shape)
        if layer is not None:
            _replace(layer, model.graph)


@dataclass(frozen=True)
class _Layer:
    """A GRU, LSTM or RNN operator.

    Attributes:
        node: The operator.
        inputs: What it reads, in float32.
        extents: Time and batch, as far as they are fixed.
        dtype: In what it computes otherwise.
        units: Its `hidden_size`.
        backwards: Per direction, whether time runs backwards.
        functions: Per direction, the activations: of the gates, if there are any, and of the rest.
            Empty where steps of ours would not compute the same.
        used: Which results are read: 0 for all steps, 1 for the last state, 2 for that of cells.
    """

    node: ir.Node
    inputs: Sequence[ir.Value | None]
    extents: tuple[int | None, ...]
    dtype: ir.DataType
    units: int
    backwards: tuple[int, ...]
    functions: Sequence[Sequence[Function]]
    used: tuple[int, ...]

    @classmethod
    def of(cls, node: ir.Node, shape: ir.Shape | None) -> _Layer | None:
        """None where the operator has to stay as it is."""
        import onnx_ir as ir

        dtypes = {value.dtype for value in node.inputs[1:3] if value is not None}
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        if len(dtypes) != 1 or dtypes - {ir.DataType.FLOAT, ir.DataType.FLOAT16}:
            return None
        if attributes.get("layout"):
            return None
        backwards = DIRECTIONS[attributes.get("direction", "forward")]
        return cls(
            node,
            node.inputs,
            tuple(size if isinstance(size, int) else None for size in (shape or (None, None))[:2]),
            dtypes.pop() or ir.DataType.FLOAT,
            attributes["hidden_size"],
            backwards,
            _functions_of(node, attributes, len(backwards)),
            tuple(i for i, y in enumerate(node.outputs) if y.uses() or y.is_graph_output()),
        )


def _functions_of(node: ir.Node, attributes: dict[str, Any], ways: int) -> list[list[Function]]:
    """The activations of each direction; none where there are no steps of ours."""
    biased = len(node.inputs) > 3 and node.inputs[3] is not None
    if node.op_type not in STEPS or not biased:
        return []
    if any(node.inputs[LENGTHS : LENGTHS + 1]) or attributes.get("clip"):
        return []
    functions = _functions(
        attributes.get("activations") or USUAL[node.op_type] * ways,
        attributes.get("activation_alpha", ()),
        attributes.get("activation_beta", ()),
    )
    if functions is None:
        return []
    count = len(USUAL[node.op_type])
    return [functions[i : i + count] for i in range(0, len(functions), count)]


def _functions(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float]
) -> list[Function] | None:
    """What the activations compute; None if one is unknown, or its numbers are left out."""
    given = {"alpha": iter(alpha), "beta": iter(beta)}
    found: list[Function] = []
    for name in names:
        wanted = ("alpha", "beta") if name == "Affine" else FUNCTIONS.get(name)
        if wanted is None:
            return None
        numbers = {key: next(given[key], None) for key in wanted}
        if None in numbers.values():
            return None
        if name != "Affine":
            found.append(_operator(name, numbers))
        elif numbers == {"alpha": 1, "beta": 0}:
            found.append(lambda nodes, x: x)
        else:
            return None
    return found


def _operator(name: str, numbers: dict[str, Any]) -> Function:
    return lambda nodes, x: nodes(name, x, **numbers)


def _replace(layer: _Layer, root: ir.Graph) -> None:
    import onnx_ir as ir

    node, steps = layer.node, bool(layer.functions)
    if not steps and node.op_type not in ENDING:
        return
    largest = LARGEST[node.op_type] if steps else None
    batch = layer.extents[1]
    never = batch == 0 or largest == 0 or (largest and batch and batch > largest)
    free = [axis for axis in ENDING.get(node.op_type, ()) if not layer.extents[axis]]
    if not never and not free:
        return
    graph, nodes = node.graph, _Nodes(node.name or node.op_type, root)
    layer = _widened(nodes, layer)
    otherwise = _scans if steps else _nothing
    if never:
        results = otherwise(nodes, layer)
    else:
        shapes = [_shape(layer, place) for place in layer.used]
        results = nodes.several(
            "If",
            [_is_inside(nodes, layer, free, largest)],
            len(layer.used),
            then_branch=nodes.graph(lambda inner: _as_it_is(inner, layer), (), shapes),
            else_branch=nodes.graph(lambda inner: otherwise(inner, layer), (), shapes),
        )
    if layer.dtype != ir.DataType.FLOAT:
        results = [nodes("Cast", result, to=layer.dtype.value) for result in results]
    assert graph is not None  # `model.graph` gave it
    graph.insert_before(node, nodes.made)
    for place, new in zip(layer.used, results, strict=True):
        old = node.outputs[place]
        name, new.type, new.shape = old.name, ir.TensorType(layer.dtype), old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = None, name
    graph.remove(node, safe=True)


def _widened(nodes: _Nodes, layer: _Layer) -> _Layer:
    """The layer with inputs in float32."""
    import onnx_ir as ir

    if layer.dtype == ir.DataType.FLOAT:
        return layer
    inputs = [
        value
        if value is None or place == LENGTHS
        else nodes("Cast", value, to=ir.DataType.FLOAT.value)
        for place, value in enumerate(layer.inputs)
    ]
    return replace(layer, inputs=inputs)


def _is_inside(nodes: _Nodes, layer: _Layer, free: Sequence[int], largest: int | None) -> ir.Value:
    """Whether none of these axes is empty, and the batch is not too large either."""
    import onnx_ir as ir

    shape, found = nodes("Shape", layer.inputs[0]), []
    for axis in free:
        extent = nodes("Gather", shape, np.array(axis))
        if axis == 1 and largest is not None:
            inside = nodes("Clip", extent, np.array(1), np.array(largest))
            found.append(nodes("Equal", inside, extent))
        else:
            found.append(nodes("Cast", extent, to=ir.DataType.BOOL.value))
    return found[0] if len(found) == 1 else nodes("And", *found)


def _shape(layer: _Layer, place: int) -> Extents:
    """Of a result, as far as the operator says; onnxruntime wants ranks of a branch's results."""
    state = (len(layer.backwards), None, layer.units)
    return state if place else (None, *state)


def _as_it_is(nodes: _Nodes, layer: _Layer) -> list[ir.Value]:
    node = layer.node
    made = nodes.several(node.op_type, layer.inputs, len(node.outputs), **node.attributes)
    return [made[place] for place in layer.used]


def _nothing(nodes: _Nodes, layer: _Layer) -> list[ir.Value]:
    """The results of no steps: the first states."""
    shape = nodes("Shape", layer.inputs[0])
    time, batch = (nodes("Gather", shape, np.array([axis])) for axis in (0, 1))
    ways, units = np.array([len(layer.backwards)]), np.array([layer.units])
    results = []
    for place in layer.used:
        given = layer.inputs[LENGTHS + place : LENGTHS + place + 1] if place else ()
        if any(given):
            results.append(nodes("Identity", *given))
            continue
        extents = [ways, batch, units] if place else [time, ways, batch, units]
        results.append(nodes("ConstantOfShape", nodes("Concat", *extents, axis=0)))
    return results


def _scans(nodes: _Nodes, layer: _Layer) -> list[ir.Value]:
    """The results of the operator that are read, from one Scan per direction."""
    parts = [_scan(nodes, layer, direction) for direction in range(len(layer.backwards))]
    results = []
    for place in layer.used:
        axis = 1 - place  # (time, directions, batch, units) and (directions, batch, units)
        each = [nodes("Unsqueeze", part[place], np.array([axis])) for part in parts]
        results.append(each[0] if len(each) == 1 else nodes("Concat", *each, axis=axis))
    return results


def _scan(nodes: _Nodes, layer: _Layer, direction: int) -> dict[int, ir.Value]:
    """All steps (time, batch, units), if they are read, and the last state (batch, units)."""
    step = STEPS[layer.node.op_type](nodes, layer, direction)
    every, backwards = 0 in layer.used, layer.backwards[direction]

    def body(inner: _Nodes, h: ir.Value, x: ir.Value) -> list[ir.Value]:
        state = step(inner, x, h)
        return [state, inner("Identity", state)] if every else [state]

    attributes: dict[str, Any] = {"num_scan_inputs": 1, "scan_input_directions": [backwards]}
    if every:
        attributes["scan_output_directions"] = [backwards]
    state: Extents = (None, layer.units)
    last, *steps = nodes.several(
        "Scan",
        [_first_state(nodes, layer, direction), layer.inputs[0]],
        1 + every,
        body=nodes.graph(body, ("h", "x"), [state] * (1 + every)),
        **attributes,
    )
    return {1: last, **dict(enumerate(steps))}


def _first_state(nodes: _Nodes, layer: _Layer, direction: int) -> ir.Value:
    given = layer.inputs[5] if len(layer.inputs) > 5 else None
    if given is not None:
        return nodes("Gather", given, np.array(direction))
    batch = nodes("Gather", nodes("Shape", layer.inputs[0]), np.array([1]))
    return nodes("ConstantOfShape", nodes("Concat", batch, np.array([layer.units]), axis=0))


def _weights(nodes: _Nodes, layer: _Layer, direction: int) -> list[ir.Value]:
    """W, R and both biases of one direction."""
    return [nodes("Gather", y, np.array(direction)) for y in layer.inputs[1:4]]


def _simple(nodes: _Nodes, layer: _Layer, direction: int) -> Step:
    """h' = f(W x + R h + b)."""
    w, r, both = _weights(nodes, layer, direction)
    parts = nodes.several("Split", [both, np.array(2 * [layer.units])], 2, axis=0)
    b = nodes("Add", *parts)
    (f,) = layer.functions[direction]

    def step(inner: _Nodes, x: ir.Value, h: ir.Value) -> ir.Value:
        return f(inner, _product(inner, x, w, _product(inner, h, r, b)))

    return step


def _gated(nodes: _Nodes, layer: _Layer, direction: int) -> Step:
    """h' = z h + (1 - z) g(...), with the gates z and r = f(W x + R h + b)."""
    w, r, both = _weights(nodes, layer, direction)
    units = layer.units
    w_gates, w_rest, r_gates, r_rest = (
        part
        for y in (w, r)
        for part in nodes.several("Split", [y, np.array([2 * units, units])], 2, axis=0)
    )
    sizes = np.array([2 * units, units, 2 * units, units])
    bw_gates, bw_rest, br_gates, br_rest = nodes.several("Split", [both, sizes], 4, axis=0)
    b_gates = nodes("Add", bw_gates, br_gates)
    after = layer.node.attributes.get_int("linear_before_reset", 0)
    b_rest = None if after else nodes("Add", bw_rest, br_rest)
    f, g = layer.functions[direction]

    def step(inner: _Nodes, x: ir.Value, h: ir.Value) -> ir.Value:
        gates = f(inner, _product(inner, h, r_gates, _product(inner, x, w_gates, b_gates)))
        z, reset = inner.several("Split", [gates, np.array([units, units])], 2, axis=1)
        if b_rest is None:
            kept = inner("Mul", reset, _product(inner, h, r_rest, br_rest))
            new = g(inner, inner("Add", kept, _product(inner, x, w_rest, bw_rest)))
        else:
            kept = inner("Mul", reset, h)
            new = g(inner, _product(inner, kept, r_rest, _product(inner, x, w_rest, b_rest)))
        rest = inner("Sub", np.array(1, "float32"), z)
        return inner("Add", inner("Mul", z, h), inner("Mul", rest, new))

    return step


def _product(nodes: _Nodes, x: ir.Value, matrix: ir.Value, added: ir.Value) -> ir.Value:
    return nodes("Gemm", x, matrix, added, transB=1)


STEPS = {"GRU": _gated, "RNN": _simple}


class _Nodes:
    """New nodes in the order in which they were asked for; arrays become constants."""

    def __init__(self, name: str, root: ir.Graph, numbers: Iterator[int] | None = None) -> None:
        self.name, self.root = name, root
        self.numbers = numbers or itertools.count()
        self.made: list[ir.Node] = []

    def __call__(self, operator: str, *inputs: Any, **attributes: Any) -> ir.Value:
        return self.several(operator, inputs, 1, **attributes)[0]

    def several(
        self, operator: str, inputs: Sequence[Any], count: int, **attributes: Any
    ) -> list[ir.Value]:
        """The results of an operator that has several."""
        import onnx_ir as ir

        given = [self._constant(x) if isinstance(x, np.ndarray) else x for x in inputs]
        name = f"{self.name}/{operator}__{next(self.numbers)}"
        node = ir.node(operator, given, attributes, num_outputs=count, name=name)
        for place, y in enumerate(node.outputs):
            y.name = f"{name}:{place}"
        self.made.append(node)
        return list(node.outputs)

    def graph(
        self,
        content: Callable[..., Sequence[ir.Value]],
        inputs: Sequence[str],
        shapes: Sequence[Extents],
    ) -> ir.Graph:
        """A graph inside a node, all in float32, and the shapes of its results."""
        import onnx_ir as ir

        inner = _Nodes(self.name, self.root, self.numbers)
        float32 = ir.TensorType(ir.DataType.FLOAT)
        given = [
            ir.Value(name=f"{self.name}/{name}__{next(self.numbers)}", type=float32)
            for name in inputs
        ]
        outputs = content(inner, *given)
        for value, shape in zip(outputs, shapes, strict=True):
            value.type, value.shape = float32, ir.Shape(shape)
        return ir.Graph(given, outputs, nodes=inner.made, name=f"{self.name}/inner")

    def _constant(self, array: np.ndarray) -> ir.Value:
        return constant(self.root, f"{self.name}/constant__{next(self.numbers)}", array)
