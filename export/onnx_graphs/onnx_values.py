"""Values of an ONNX graph: new constants, and the shapes of what nodes read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    Read = tuple[ir.Node, ir.Shape | None]


def constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new constant of a graph."""
    import onnx_ir as ir

    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def shapes_read(model: ir.Model, wanted: Callable[[ir.Node], bool]) -> list[Read]:
    """The nodes that are wanted, and the shape of what each reads first.

    onnx infers it from the inputs of the model. What tf2onnx noted is not always right.
    """
    from onnx_ir.passes.common.shape_inference import infer_shapes

    nodes = list(model.graph.all_nodes())
    if not any(map(wanted, nodes)):
        return []
    copy = infer_shapes(model.clone(), check_type=False, strict_mode=False)
    return [
        (node, None if same.inputs[0] is None else same.inputs[0].shape)
        for node, same in zip(nodes, copy.graph.all_nodes(), strict=True)
        if wanted(node)
    ]
