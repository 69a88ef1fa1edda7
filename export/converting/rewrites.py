"""Rewrites: the same function in a form that can be converted.

A TimeDistributed layer is its inner layer on all steps of all samples at once. Keras writes one
call per step, or a loop if their number is free, which tf2onnx cannot always read. In the inference
graph `Flattened` takes its place; it runs while a graph is converted, and never on numbers.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ..graphs.graph import Graph, Node


def rewrite(graph: Graph) -> None:
    """Put what can be converted in the place of what cannot, in place."""
    for node in graph.nodes:
        if _is_distributed(node):
            node.operation = Flattened(node.operation)


class Flattened(keras.layers.Layer):
    """The inner layer on (samples · steps, ...); a layer itself, so that its weights are found."""

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.supports_masking = layer.supports_masking
        self.built = True

    def compute_output_spec(self, *arguments: Any, **keywords: Any) -> Any:
        return self.layer.compute_output_spec(*arguments, **keywords)

    def call(self, x: Any, mask: Any = None) -> Any:
        shape = ops.shape(x)
        flat = tf.reshape(x, [-1, *shape[2:]])
        inner = self.layer.layer
        keywords: dict[str, Any] = {"training": False} if inner._call_has_training_arg else {}
        if mask is not None and inner._call_has_mask_arg:
            keywords["mask"] = tf.reshape(mask, [-1, *ops.shape(mask)[2:]])
        y = inner.call(flat, **keywords)
        return tf.reshape(y, [-1, shape[1], *ops.shape(y)[1:]])


def _is_distributed(node: Node) -> bool:
    return type(node.operation) is keras.layers.TimeDistributed
