"""Lookup tables.

The table of a Keras layer lies in a resource of TensorFlow's. While a graph is traced another one
stands in, whose content is part of its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from .formula import HANDLERS, Formula, converts


@contextmanager
def table_in_graph(layer: Any) -> Iterator[None]:
    """Let an IntegerLookup or a StringLookup be traced with its table in the graph."""
    table, mask_token = layer.lookup_table, layer.mask_token
    masked = None if mask_token is None else (layer._mask_key, layer._mask_value)
    layer.lookup_table, layer.mask_token = _Table(table, masked), None
    try:
        yield
    finally:
        layer.lookup_table, layer.mask_token = table, mask_token


class _Table:
    """A table of TensorFlow's with its content in the name.

    What the mask token stands for is one more entry.
    """

    def __init__(self, table: Any, masked: tuple[Any, Any] | None) -> None:
        self.table, self.masked = table, masked

    def size(self) -> Any:
        return self.table.size()

    def lookup(self, keys: Any) -> Any:
        """The values; in a ragged tensor Keras looks up the flat values."""
        with tf.init_scope():
            try:
                keys_and_values = [np.asarray(part).tolist() for part in self.table.export()]
            except tf.errors.OpError as error:
                raise ValueError("there is no vocabulary. Give one, or call `adapt`") from error
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


@converts("LookupTableFindV2")
def _lookup(f: Formula, table: str, keys: str, default: str) -> Any:
    """The table travels in the `shared_name` that `_Table` gives it."""
    source = f.graph.get_node_by_output(table)
    content = source.get_attr_value("shared_name") if source is not None else None
    if not content:
        raise ValueError("a lookup table whose content is not known")
    entries = json.loads(content.decode() if isinstance(content, bytes) else content)
    kinds = [{"i": "int64s", "u": "int64s", "O": "strings"}[k] for k in entries["kinds"]]
    default_value = f.value(default).item()
    attributes = {
        f"keys_{kinds[0]}": entries["keys"],
        f"values_{kinds[1]}": entries["values"],
        f"default_{kinds[1].removesuffix('s')}": default_value,
    }
    return f.LabelEncoder(keys, domain="ai.onnx.ml", **attributes)


def _leave(graph: Any, node: Any, name: str, args: Any) -> None:
    """A table is read by its lookups, and leaves with them."""


HANDLERS["HashTableV2"] = (_leave, [])
