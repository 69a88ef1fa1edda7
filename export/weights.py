"""Weights travel beside the graph, not through it.

Most of tf2onnx's time is weights that are copied from one GraphDef to the next. Here a large
weight is an input of the traced function, so the GraphDefs stay small. In the ONNX graph the
input becomes an initializer, and what is computed from weights alone (the transpose of a kernel)
is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

LARGE = 256
"""Elements from which on a weight is an input; by small ones tf2onnx chooses operators."""
NAME = "weight_{}"


def large_weights(layers: Iterable[keras.Layer]) -> list[keras.Variable]:
    """The variables of the layers whose numbers tf2onnx need not see."""
    found = {id(variable): variable for layer in layers for variable in layer.variables}
    return [v for v in found.values() if math.prod(v.shape) >= LARGE and "float" in v.dtype]


@contextmanager
def reading(weights: Sequence[keras.Variable], tensors: Sequence[Any]) -> Iterator[None]:
    """Let the layers read tensors in place of these variables."""
    with keras.StatelessScope() as scope:
        for variable, tensor in zip(weights, tensors, strict=True):
            scope.add_update((variable, tensor))
        yield


def bind(model: ir.Model, weights: Sequence[keras.Variable]) -> None:
    """Make the inputs `weight_0`, ... initializers with the values of the weights, in place."""
    import onnx_ir as ir

    values = {NAME.format(i): weight for i, weight in enumerate(weights)}
    inputs = list(model.graph.inputs)
    model.graph.inputs[:] = [value for value in inputs if value.name not in values]
    for value in inputs:
        if value.name in values:
            array = np.asarray(keras.ops.convert_to_numpy(values[value.name]))
            value.const_value = ir.tensor(array, name=value.name)
            model.graph.register_initializer(value)


def fold_constants(model: ir.Model) -> None:
    """Compute every node whose inputs are constants, in place."""
    from onnxscript.optimizer import fold_constants

    # Every weight is in the model already, so that nothing is too large to be computed; and no
    # use is made of the shapes that tf2onnx noted, which are not always right.
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    unlimited = 2**62
    fold_constants(
        model,
        onnx_shape_inference=False,
        input_size_limit=unlimited,
        output_size_limit=unlimited,
    )
