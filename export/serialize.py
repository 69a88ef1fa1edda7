"""Serialize: the bytes of an ONNX file, one weight at a time.

`SerializeToString` needs the weights twice more in memory. A message of the Protocol Buffers is
a row of fields, each a tag, a length and its bytes, so the file can be put together from the
serialized graph without its weights and from each weight's own bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

# Numbers of the fields of these names in onnx.proto.
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
BY_LENGTH = 2
"""Wire type of fields whose length stands in front of them."""


def serialize(model: ir.Model) -> Iterator[bytes | memoryview]:
    """The bytes of the model in pieces; equal models give equal bytes."""
    import onnx_ir as ir

    initializers = dict(model.graph.initializers)
    model.graph.initializers.clear()
    try:
        proto = ir.to_proto(model)
    finally:
        model.graph.initializers.update(initializers)
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    tensors = [_Tensor(value.name, value.const_value) for value in initializers.values()]
    yield proto.SerializeToString(deterministic=True)
    yield _tag(MODEL_GRAPH, len(graph) + sum(tensor.length for tensor in tensors))
    yield graph
    for tensor in tensors:
        yield tensor.head
        yield tensor.data()


class _Tensor:
    """An initializer as a field of the graph: a head, and the bytes of its numbers."""

    def __init__(self, name: Any, tensor: Any) -> None:
        import onnx
        import onnx_ir as ir

        self.tensor = tensor
        if tensor.dtype == ir.DataType.STRING:
            proto = ir.to_proto(tensor)
            proto.name = name
            inner, size = proto.SerializeToString(deterministic=True), 0
        else:
            proto = onnx.TensorProto(dims=tensor.shape, data_type=tensor.dtype.value, name=name)
            size = tensor.nbytes
            inner = proto.SerializeToString(deterministic=True) + _tag(TENSOR_RAW_DATA, size)
        self.head = _tag(GRAPH_INITIALIZER, len(inner) + size) + inner
        self.size = size
        self.length = len(self.head) + size

    def data(self) -> bytes | memoryview:
        if self.size == 0:
            return b""
        array = self.tensor.numpy()
        if array.nbytes != self.size or sys.byteorder == "big":
            return bytes(self.tensor.tobytes())  # packed or turned numbers
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _tag(field: int, length: int) -> bytes:
    return _varint(field << 3 | BY_LENGTH) + _varint(length)


def _varint(number: int) -> bytes:
    """Seven bits to a byte, the lowest first; the eighth says that more follow."""
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*pieces, number])
