"""Weights travel beside the graph, not through it.

Most of tf2onnx's time is weights that are copied from one GraphDef to the next. Here a large
weight is an input of the traced function, so the GraphDefs stay small. In the ONNX graph the
input becomes an initializer, and what is computed from weights alone (the transpose of a kernel)
is computed once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from .recurrent import has_operator

if TYPE_CHECKING:
    import onnx_ir as ir

LARGE = 256
"""Elements from which on a weight is an input."""
NAME = "weight_{}"


class Weights:
    """The variables of layers: large ones, which are inputs, and others, which are constants.

    By small ones tf2onnx may choose how it converts a layer, a bias it adds to its layer's node
    only if it is constant, and a recurrent layer that is no operator yet (`recurrent.py`) it
    knows for one by its constants.
    """

    def __init__(self, layers: Iterable[keras.Layer] = ()) -> None:
        layers = list(layers)
        found = {id(variable): variable for layer in layers for variable in layer.variables}
        recurrent = [
            layer
            for layer in layers
            if isinstance(layer, keras.layers.RNN) and not has_operator(layer)
        ]
        constant = {id(variable) for layer in recurrent for variable in layer.variables}
        self.large = [
            variable
            for variable in found.values()
            if len(variable.shape) > 1
            and math.prod(variable.shape) >= LARGE
            and _is_float(variable)
            and id(variable) not in constant
        ]
        large = set(map(id, self.large))
        # Read here, for there are no numbers to be had while a function is traced.
        self.small = [(v, _view(v)) for v in found.values() if id(v) not in large]

    @contextmanager
    def given(self, tensors: Sequence[Any]) -> Iterator[None]:
        """Let the layers read these tensors in place of the large ones."""
        with keras.StatelessScope() as scope:
            for variable, tensor in zip(self.large, tensors, strict=True):
                scope.add_update((variable, tensor))
            for variable, value in self.small:
                scope.add_update((variable, tf.constant(value)))
            yield


def bind(model: ir.Model, weights: Weights) -> None:
    """Make the inputs `weight_0`, ... initializers with the values of the weights, in place."""
    import onnx_ir as ir

    values = {NAME.format(i): weight for i, weight in enumerate(weights.large)}
    inputs = list(model.graph.inputs)
    model.graph.inputs[:] = [value for value in inputs if value.name not in values]
    for value in inputs:
        if value.name in values:
            value.const_value = ir.tensor(_view(values[value.name]), name=value.name)
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
    # It warns of shapes in files that are refused later, by the name of the layer.
    logger = logging.getLogger(fold_constants.__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        fold_constants(
            model,
            onnx_shape_inference=False,
            input_size_limit=unlimited,
            output_size_limit=unlimited,
        )
    finally:
        logger.setLevel(level)


def _is_float(variable: keras.Variable) -> bool:
    return "float" in keras.backend.standardize_dtype(variable.dtype)


def _view(variable: keras.Variable) -> np.ndarray:
    """The numbers themselves, not a copy: nothing changes them while a file is written."""
    return np.asarray(tf.convert_to_tensor(variable.value))
