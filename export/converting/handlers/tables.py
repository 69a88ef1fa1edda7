"""Lookup tables.

The table of a Keras layer lies in a resource of TensorFlow's. While a graph is traced another one
stands in, whose content is part of its name. Tables of the user's are read where they lie.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager.context import eager_mode

from .formula import HANDLERS, Formula, converts

KINDS = {"float32": "floats", "int64": "int64s", "object": "strings"}
"""What a LabelEncoder may give."""
KINDS_OF_ONNX = {"floats": 1, "int64s": 7, "strings": 8}
"""ONNX's numbers of the types, which tf2onnx does not infer."""


@contextmanager
def table_in_graph(layer: Any) -> Iterator[None]:
    """Let an IntegerLookup or a StringLookup be traced with its table in the graph."""
    table, mask_token = layer.lookup_table, layer.mask_token
    masked = None if mask_token is None else (layer._mask_key, layer._mask_value)
    start = layer._oov_start_index()
    layer.lookup_table, layer.mask_token = _Table(table, masked), None
    # Keras counts it anew, and without a mask token would begin one too early.
    vars(layer)["_oov_start_index"] = lambda: start
    try:
        yield
    finally:
        layer.lookup_table, layer.mask_token = table, mask_token
        del vars(layer)["_oov_start_index"]


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


_captured: dict[str, Any] = {}
"""Tables by the names that stand for them in the graph that is converted."""


@contextmanager
def tables_of(function: Any) -> Iterator[None]:
    """Let the tables that a concrete function captured be read."""
    _captured.update(
        (placeholder.op.name, table)
        for table, placeholder in function.graph.captures
        if placeholder.dtype == tf.resource
    )
    try:
        yield
    finally:
        _captured.clear()


@converts("LookupTableFindV2")
def _lookup(f: Formula, table: str, keys: str, default: str) -> Any:
    """The table travels in the `shared_name` that `_Table` gives it, or has been captured."""
    source = f.graph.get_node_by_output(table)
    content = source.get_attr_value("shared_name") if source is not None else None
    if content:
        entries = json.loads(content.decode() if isinstance(content, bytes) else content)
        kinds = [{"i": "int64s", "u": "int64s", "O": "strings"}[k] for k in entries["kinds"]]
        other = f.value(default).item()
        return _encoded(f, keys, (entries["keys"], entries["values"]), kinds, other)
    if source is None or source.name not in _captured:
        raise ValueError("a lookup table whose content is not known")
    dtypes = [f.dtype_of(name) for name in (keys, f.node.output[0])]
    return _found(f, keys, _content(_captured[source.name], dtypes), f.value(default))


def _content(table: Any, dtypes: list[np.dtype[Any]]) -> list[np.ndarray]:
    """Keys and values."""
    kinds = [tf.string if dtype.kind == "O" else tf.as_dtype(dtype) for dtype in dtypes]
    with eager_mode():
        try:
            content = tf.raw_ops.LookupTableExportV2(
                table_handle=table, Tkeys=kinds[0], Tvalues=kinds[1]
            )
        except tf.errors.OpError as error:
            raise ValueError("a lookup table that cannot be read") from error
        return [part.numpy() for part in content]


def _found(f: Formula, keys: str, content: list[np.ndarray], default: np.ndarray) -> Any:
    """What the keys stand for; what ONNX has no tables of, by its place among the values."""
    known, values = content
    if not len(known):
        raise ValueError("a lookup table without entries")
    if known.dtype.kind != "O":
        keys = f.cast(keys, np.int64)
    key = "strings" if known.dtype.kind == "O" else "int64s"
    entries = [_text(entry) for entry in known.tolist()]
    value = KINDS.get(values.dtype.name)
    if value is not None and values.ndim == 1:
        texts = [_text(entry) for entry in values.tolist()]
        return _encoded(f, keys, (entries, texts), [key, value], default.item())
    if values.dtype.kind == "O":
        raise ValueError("a lookup table of several texts per key")
    places = range(len(known))
    place = _encoded(f, keys, (entries, places), [key, "int64s"], len(known))
    return f.Gather(np.concatenate([values, default[np.newaxis]]), place, axis=0)


def _encoded(f: Formula, keys: str, entries: Any, kinds: list[str], default: Any) -> Any:
    attributes = {
        f"keys_{kinds[0]}": entries[0],
        f"values_{kinds[1]}": entries[1],
        f"default_{kinds[1].removesuffix('s')}": default,
    }
    result = f.LabelEncoder(keys, domain="ai.onnx.ml", **attributes)
    f.graph.set_dtype(result, KINDS_OF_ONNX[kinds[1]])
    f.graph.copy_shape(keys, result)
    return result


def _leave(graph: Any, node: Any, name: str, args: Any) -> None:
    """A table is read by its lookups, and leaves with them."""


HANDLERS["HashTableV2"] = (_leave, [])
