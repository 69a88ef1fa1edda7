"""Rewrites: the same function in a form that can be converted.

Some layers are right in Keras and reach tf2onnx as something that it cannot read. In the
inference graph another operation takes their place, which computes the same:

1. `DirectConvolution`: Keras compiles grouped convolutions and channels-first Conv3D with XLA,
   because TensorFlow has no CPU kernel for them; ONNX has.
2. `Flattened`: a TimeDistributed layer is its inner layer on all steps of all samples at once.
   Keras writes one call per step, or a loop if their number is free.

They run while a graph is converted, and never on numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from .graph import Graph, Node

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def rewrite(graph: Graph) -> None:
    """Put what can be converted in the place of what cannot, in place."""
    for node in graph.nodes:
        for applies, form in REWRITES:
            if applies(node):
                node.operation = form(node.operation)
                break


class _Form(keras.layers.Layer):
    """Another way to compute a layer; a layer itself, so that the weights are found."""

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.supports_masking = layer.supports_masking
        self.built = True

    def compute_output_spec(self, *arguments: Any, **keywords: Any) -> Any:
        return self.layer.compute_output_spec(*arguments, **keywords)


class DirectConvolution(_Form):
    """A convolution as TensorFlow's own operation, on channels-last data."""

    def call(self, x: Any) -> Any:
        layer, rank = self.layer, self.layer.rank
        first = layer.data_format == "channels_first"
        if first:
            x = ops.moveaxis(x, 1, -1)
        padding = layer.padding
        if padding == "causal":
            reach = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            x, padding = ops.pad(x, ((0, 0), (reach, 0), (0, 0))), "valid"
        y = tf.nn.convolution(
            x,
            ops.convert_to_tensor(layer.kernel, layer.compute_dtype),
            list(layer.strides),
            padding.upper(),
            dilations=list(layer.dilation_rate),
        )
        if layer.use_bias:
            y = y + ops.reshape(
                ops.convert_to_tensor(layer.bias, layer.compute_dtype), (1,) * (rank + 1) + (-1,)
            )
        if first:
            y = ops.moveaxis(y, -1, 1)
        return y if layer.activation is None else layer.activation(y)


class Flattened(_Form):
    """The inner layer on (samples · steps, ...)."""

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is not None:
            return self.layer.call(x, training=False, mask=mask)
        shape = ops.shape(x)
        flat = tf.reshape(x, [-1, *shape[2:]])
        inner = self.layer.layer
        keywords = {"training": False} if inner._call_has_training_arg else {}
        y = inner.call(flat, **keywords)
        return tf.reshape(y, [-1, shape[1], *ops.shape(y)[1:]])


def _is_compiled(node: Node) -> bool:
    layer = node.operation
    if type(layer) not in CONVOLUTIONS or layer.quantization_mode is not None or layer.lora_enabled:
        return False
    return layer.groups > 1 or (layer.rank == 3 and layer.data_format == "channels_first")


def _is_distributed(node: Node) -> bool:
    """Masks reach the inner layer step by step; those with one stay as they are."""
    layer = node.operation
    return type(layer) is keras.layers.TimeDistributed and node.keywords.get("mask") is None


REWRITES: tuple[tuple[Callable[[Node], bool], Callable[[Any], Any]], ...] = (
    (_is_compiled, DirectConvolution),
    (_is_distributed, Flattened),
)
