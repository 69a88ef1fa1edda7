"""Tails: sigmoids whose small values matter.

onnxruntime's Sigmoid is 0 below −18, where Keras' is e^x, and off by 1e-8 before. Added to others
or multiplied by weights that is rounding; but logarithms, quotients and comparisons are wrong then.
Where one of these is computed from a sigmoid, it is written as 1 / (1 + e^−x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .onnx_values import constant

if TYPE_CHECKING:
    import onnx_ir as ir

RELATIVE = {
    *("ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log"),
    *("Pow", "Reciprocal", "Sign", "Sqrt", "TopK"),
}
"""Operators to which small numbers are as good as large ones."""
MIXING = {
    *("BatchNormalization", "Conv", "ConvTranspose", "GRU", "Gemm", "InstanceNormalization"),
    *("LayerNormalization", "LSTM", "LogSoftmax", "MatMul", "RNN", "Scan", "Softmax"),
}
"""Operators behind which small numbers are lost beside large ones."""
NOT_SMALL = 1e-4
"""What is added to a sigmoid so that it is not small any more."""


def write_tails(model: ir.Model) -> None:
    """Write sigmoids whose small values matter by their exponential, in place."""
    import onnx_ir as ir

    for node in list(model.graph.all_nodes()):
        graph, x = node.graph, node.inputs[0] if node.inputs else None
        if node.op_type != "Sigmoid" or x is None or graph is None or not _matters(node):
            continue
        y = node.outputs[0]
        dtype = y.dtype or x.dtype or ir.DataType.FLOAT
        one = constant(graph, f"{y.name}__one", np.ones((), dtype.numpy()))
        value: ir.Value = x
        steps = (("Neg", ()), ("Exp", ()), ("Add", (one,)), ("Reciprocal", ()))
        for kind, others in steps:
            step = ir.node(kind, [value, *others], name=f"{node.name}/{kind}")
            value = step.outputs[0]
            value.name, value.type, value.shape = f"{y.name}__{kind}", y.type, y.shape
            graph.insert_before(node, step)
        name = y.name
        y.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        value.name = name


def _matters(node: ir.Node) -> bool:
    """Whether one of RELATIVE reads what is computed from a node, without a mixing one between."""
    waiting, seen = [node.outputs[0]], set[int]()
    while waiting:
        value = waiting.pop()
        for reader, index in value.uses():
            if reader.op_type in RELATIVE or (reader.op_type == "Div" and index == 1):
                return True
            if reader.op_type in MIXING or id(reader) in seen or _lifts(reader, value):
                continue
            seen.add(id(reader))
            waiting += reader.outputs
    return False


def _lifts(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node adds a number that is not small."""
    if node.op_type != "Add":
        return False
    known = (one.const_value for one in node.inputs if one is not None and one is not value)
    numbers = [constant.numpy() for constant in known if constant is not None]
    return any(bool(np.all(np.abs(array) >= NOT_SMALL)) for array in numbers)
