"""Steps: recurrent operators as a Scan over time, where onnxruntime is faster at that.

onnxruntime's LSTM is fast for every batch. Its GRU is for small ones: beside a Scan it takes a
fifth of the time at a batch of 1, as long at 16 to 32, and more from there on, with two threads a
multiple. Its RNN is behind from a batch of 4 or 8 on. So

    RNN → Scan          GRU → If(0 < batch ≤ 16, GRU, Scan)

or one of the two where the batch is fixed. The Scan also has the empty batch, on which
onnxruntime's GRU ends the whole process. A step is written in as few nodes as can be, since each
of them costs time at every step. `benchmarks/latency.py` measures them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST = {"GRU": 16, "RNN": 0}
"""The largest batch for which the operator is left."""
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
Step = Callable[["_Nodes", "ir.Value", "ir.Value"], "ir.Value"]
"""The next state, from what comes in and the state."""


def write_steps(model: ir.Model) -> None:
    """Write down the steps of recurrent operators, in place."""
    for node in list(model.graph.all_nodes()):
        layer = _Layer.of(node) if node.op_type in LARGEST else None
        if layer is not None:
            _replace(layer, model.graph)


@dataclass(frozen=True)
class _Layer:
    """A GRU or RNN operator.

    Attributes:
        node: The operator.
        units: Its `hidden_size`.
        backwards: Per direction, whether time runs backwards.
        functions: Per direction, the activations: of the gates, if there are any, and of the rest.
        used: Which results are read: 0 for all steps, 1 for the last state.
    """

    node: ir.Node
    units: int
    backwards: tuple[int, ...]
    functions: Sequence[Sequence[Function]]
    used: tuple[int, ...]

    @classmethod
    def of(cls, node: ir.Node) -> _Layer | None:
        """None where steps of ours would not compute the same."""
        import onnx_ir as ir

        constants, lengths = node.inputs[1:4], node.inputs[4:5]
        if any(value is None or value.dtype != ir.DataType.FLOAT for value in constants):
            return None
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        if any(lengths) or attributes.get("clip") or attributes.get("layout"):
            return None
        backwards = DIRECTIONS[attributes.get("direction", "forward")]
        functions = _functions(
            attributes.get("activations") or USUAL[node.op_type] * len(backwards),
            attributes.get("activation_alpha", ()),
            attributes.get("activation_beta", ()),
        )
        if functions is None or len(constants) < 3:
            return None
        count = len(USUAL[node.op_type])
        return cls(
            node,
            attributes["hidden_size"],
            backwards,
            [functions[i : i + count] for i in range(0, len(functions), count)],
            tuple(i for i, y in enumerate(node.outputs) if y.uses() or y.is_graph_output()),
        )


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
    node, largest = layer.node, LARGEST[layer.node.op_type]
    graph, nodes = node.graph, _Nodes(node.name or node.op_type, root)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    batch = shape[1] if shape is not None else None
    if isinstance(batch, int) and 0 < batch <= largest:
        return
    if isinstance(batch, int) or not largest:
        results = _scans(nodes, layer)
    else:
        extent = nodes("Gather", nodes("Shape", node.inputs[0]), np.array(1))
        # 0 < extent <= largest
        inside = nodes("Equal", nodes("Clip", extent, np.array(1), np.array(largest)), extent)
        results = nodes.several(
            "If",
            [inside],
            len(layer.used),
            then_branch=nodes.graph(lambda inner: _as_it_is(inner, layer)),
            else_branch=nodes.graph(lambda inner: _scans(inner, layer)),
        )
    assert graph is not None  # `model.graph` gave it
    graph.insert_before(node, nodes.made)
    for place, new in zip(layer.used, results, strict=True):
        old = node.outputs[place]
        name, new.type, new.shape = old.name, _float32(), old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = None, name
    graph.remove(node, safe=True)


def _as_it_is(nodes: _Nodes, layer: _Layer) -> list[ir.Value]:
    node = layer.node
    made = nodes.several(node.op_type, node.inputs, len(node.outputs), **node.attributes)
    return [made[place] for place in layer.used]


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
    last, *steps = nodes.several(
        "Scan",
        [_first_state(nodes, layer, direction), layer.node.inputs[0]],
        1 + every,
        body=nodes.graph(body, "h", "x"),
        **attributes,
    )
    return {1: last, **dict(enumerate(steps))}


def _first_state(nodes: _Nodes, layer: _Layer, direction: int) -> ir.Value:
    given = layer.node.inputs[5] if len(layer.node.inputs) > 5 else None
    if given is not None:
        return nodes("Gather", given, np.array(direction))
    batch = nodes("Gather", nodes("Shape", layer.node.inputs[0]), np.array([1]))
    return nodes("ConstantOfShape", nodes("Concat", batch, np.array([layer.units]), axis=0))


def _weights(nodes: _Nodes, layer: _Layer, direction: int) -> list[ir.Value]:
    """W, R and both biases of one direction."""
    return [nodes("Gather", y, np.array(direction)) for y in layer.node.inputs[1:4]]


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


def _float32() -> ir.TensorType:
    import onnx_ir as ir

    return ir.TensorType(ir.DataType.FLOAT)


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

    def graph(self, content: Callable[..., Sequence[ir.Value]], *inputs: str) -> ir.Graph:
        """A graph inside a node, of float32 inputs."""
        import onnx_ir as ir

        inner = _Nodes(self.name, self.root, self.numbers)
        given = [
            ir.Value(name=f"{self.name}/{name}__{next(self.numbers)}", type=_float32())
            for name in inputs
        ]
        outputs = content(inner, *given)
        return ir.Graph(given, outputs, nodes=inner.made, name=f"{self.name}/inner")

    def _constant(self, array: np.ndarray) -> ir.Value:
        import onnx_ir as ir

        name = f"{self.name}/constant__{next(self.numbers)}"
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        self.root.register_initializer(value)
        return value
