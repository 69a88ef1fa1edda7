"""Guards: what onnxruntime's optimizer gets wrong, written so that it leaves it alone.

1. Padding with zeros in front of a MaxPool is taken into the MaxPool, whose own padding is −∞:
   wrong wherever a whole window is negative but for the zeros. It is not taken if the padding is
   not zero. So it is the number next to zero, 1.4e-45 in float32.
2. A Transpose of the axes in front of the last one, read by a MatMul in float16, ends the process
   as the file is loaded. Behind the MatMul it does not, and computes the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir


def guard(model: ir.Model, half: bool = False) -> None:
    """Change what onnxruntime would change wrongly, in place.

    Args:
        model: The model.
        half: Whether it is to be written in float16.
    """
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Pad" and _pads_maxima_with_zeros(node):
            _pad_with_next_to_zero(node)
        if node.op_type == "MatMul" and _reads_turned(node, half):
            _turn_behind(node)


def _pads_maxima_with_zeros(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    given = node.inputs[2] if len(node.inputs) > 2 else None
    constant = None if given is None else given.const_value
    zero = given is None or (constant is not None and not constant.numpy().any())
    return zero and any(use.node.op_type == "MaxPool" for use in node.outputs[0].uses())


def _pad_with_next_to_zero(node: ir.Node) -> None:
    import onnx_ir as ir

    dtype = _dtype_of(node.inputs[0])
    if dtype is None or not dtype.is_floating_point() or node.graph is None:
        return
    number = np.nextafter(np.zeros((), dtype.numpy()), np.ones((), dtype.numpy()))
    name = f"{node.outputs[0].name}__padding"
    value = ir.Value(name=name, const_value=ir.tensor(number, name=name))
    value.dtype, value.shape = dtype, ir.Shape(())
    node.graph.register_initializer(value)
    node.resize_inputs(max(3, len(node.inputs)))
    node.replace_input_with(2, value)


def _reads_turned(node: ir.Node, half: bool) -> bool:
    """Whether a product with a matrix reads a Transpose that leaves the last axis, in float16."""
    import onnx_ir as ir

    x, matrix = node.inputs
    turn = None if x is None else x.producer()
    if turn is None or turn.op_type != "Transpose" or matrix is None:
        return False
    perm = turn.attributes.get_ints("perm", ())
    if not perm or perm[-1] != len(perm) - 1 or matrix.const_value is None:
        return False
    narrow = half or matrix.dtype == ir.DataType.FLOAT16
    return narrow and len(matrix.const_value.shape) == 2


def _turn_behind(node: ir.Node) -> None:
    import onnx_ir as ir

    turn, y = node.inputs[0].producer(), node.outputs[0]  # type: ignore[union-attr]
    if turn is None or node.graph is None:
        return
    node.replace_input_with(0, turn.inputs[0])
    later = ir.node("Transpose", [y], dict(turn.attributes), name=f"{node.name}/Transpose")
    turned = later.outputs[0]
    name, turned.type, turned.shape = y.name, y.type, y.shape
    y.replace_all_uses_with(turned, replace_graph_outputs=True)
    later.replace_input_with(0, y)
    y.name, turned.name, y.shape = f"{name}__before", name, None
    node.graph.insert_after(node, later)
    if not turn.outputs[0].uses() and not turn.outputs[0].is_graph_output():
        turn.graph.remove(turn, safe=True)  # type: ignore[union-attr]


def _dtype_of(value: ir.Value | None) -> ir.DataType | None:
    """The dtype of a value: its own, or that of the data it was computed from."""
    import onnx_ir as ir

    while value is not None and value.dtype is None:
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "Cast":
            return ir.DataType(node.attributes["to"].as_int())
        value = node.inputs[1 if node.op_type == "Where" else 0]
    return None if value is None else value.dtype
