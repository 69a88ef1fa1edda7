"""Rewrites: the same function in a form that can be converted.

Some layers are right in Keras and reach tf2onnx as something that it cannot read. In the
inference graph another operation takes their place, which computes the same:

1. `DirectConvolution`: Keras compiles grouped convolutions and channels-first Conv3D with XLA,
   because TensorFlow has no CPU kernel for them; ONNX has.
2. `Flattened`: a TimeDistributed layer is its inner layer on all steps of all samples at once.
   Keras writes one call per step, or a loop if their number is free.
3. `Lookup`: the table of an IntegerLookup or a StringLookup lies in a resource of TensorFlow's;
   here it lies in the graph.

They run while a graph is converted, and never on numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from .graph import Graph, Node

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
LOOKUPS = (keras.layers.IntegerLookup, keras.layers.StringLookup)


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


class Lookup(_Form):
    """A lookup layer whose table is an operation of the graph."""

    def call(self, x: Any) -> Any:
        with _standing_in(self.layer):
            return self.layer.call(x)


@contextmanager
def _standing_in(layer: Any) -> Iterator[None]:
    table, mask_token = layer.lookup_table, layer.mask_token
    masked = None if mask_token is None else (layer._mask_key, layer._mask_value)
    layer.lookup_table, layer.mask_token = _Table(table, masked), None
    try:
        yield
    finally:
        layer.lookup_table, layer.mask_token = table, mask_token


class _Table:
    """A table of TensorFlow's with its content in the name, for `handlers/tables.py` to read.

    What the mask token stands for is one more entry.
    """

    def __init__(self, table: Any, masked: tuple[Any, Any] | None) -> None:
        self.table, self.masked = table, masked

    def size(self) -> Any:
        return self.table.size()

    def lookup(self, keys: Any) -> Any:
        with tf.init_scope():
            keys_and_values = (np.asarray(part).tolist() for part in self.table.export())
            entries = dict(zip(*keys_and_values, strict=True))
            if self.masked is not None:
                key, value = (np.asarray(part).tolist() for part in self.masked)
                entries[key.encode() if isinstance(key, str) else key] = value
        content = {
            "keys": [_text(key) for key in entries],
            "values": [_text(value) for value in entries.values()],
            "kinds": [
                "O" if dtype == tf.string else "i"
                for dtype in (self.table.key_dtype, self.table.value_dtype)
            ],
        }
        table = tf.raw_ops.HashTableV2(
            key_dtype=self.table.key_dtype,
            value_dtype=self.table.value_dtype,
            shared_name=json.dumps(content),
        )
        values = tf.raw_ops.LookupTableFindV2(
            table_handle=table,
            keys=tf.cast(keys, self.table.key_dtype),
            default_value=self.table._default_value,
        )
        return tf.ensure_shape(values, keys.shape)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _is_compiled(node: Node) -> bool:
    layer = node.operation
    if type(layer) not in CONVOLUTIONS or layer.quantization_mode is not None or layer.lora_enabled:
        return False
    return layer.groups > 1 or (layer.rank == 3 and layer.data_format == "channels_first")


def _is_distributed(node: Node) -> bool:
    """Masks reach the inner layer step by step; those with one stay as they are."""
    layer = node.operation
    return type(layer) is keras.layers.TimeDistributed and node.keywords.get("mask") is None


def _is_lookup(node: Node) -> bool:
    return type(node.operation) in LOOKUPS


REWRITES: tuple[tuple[Callable[[Node], bool], Callable[[Any], Any]], ...] = (
    (_is_compiled, DirectConvolution),
    (_is_distributed, Flattened),
    (_is_lookup, Lookup),
)
