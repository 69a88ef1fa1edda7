"""Serialize: the bytes of an ONNX file, one weight at a time.

`SerializeToString` needs the weights twice more in memory. A message of the Protocol Buffers is
a row of fields, each a tag, a length and its bytes, so the file can be put together from the
serialized graph without its weights and from each weight's own bytes. As no message may be larger
than 2 GiB, large weights may lie in another file, `external_data`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

# Numbers of the fields of these names in onnx.proto.
MODEL_GRAPH, MODEL_METADATA, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 14, 5, 9
BY_LENGTH = 2
"""Wire type of fields whose length stands in front of them."""
LARGEST_FILE = 2**31 - 2**20
"""Bytes; what is added to a file later must fit in, too."""
LEAST_EXTERNAL, ALIGNMENT = 1024, 4096
"""Bytes of a weight that lies in another file, and what its place there is a multiple of."""


def needs_external_data(model: ir.Model) -> bool:
    """Whether the model is too large for one file."""
    values = model.graph.initializers.values()
    return sum(value.const_value.nbytes for value in values if value.const_value) > LARGEST_FILE


def serialize(model: ir.Model, location: str = "") -> Iterator[bytes | memoryview]:
    """The bytes of the model in pieces; equal models give equal bytes.

    Args:
        model: The model.
        location: Name of the file with its `external_data`, if it is to have one.
    """
    import onnx_ir as ir

    initializers = dict(model.graph.initializers)
    model.graph.initializers.clear()
    try:
        proto = ir.to_proto(model)
    finally:
        model.graph.initializers.update(initializers)
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    places = dict(_external(model)) if location else {}
    tensors = [
        _Tensor(name, value.const_value, (location, places[name]) if name in places else None)
        for name, value in initializers.items()
    ]
    yield proto.SerializeToString(deterministic=True)
    yield _tag(MODEL_GRAPH, len(graph) + sum(tensor.length for tensor in tensors))
    yield graph
    for tensor in tensors:
        yield tensor.head
        yield tensor.data()


def external_data(model: ir.Model) -> Iterator[bytes | memoryview]:
    """The bytes of the large weights in pieces."""
    end = 0
    for name, offset in _external(model):
        yield bytes(offset - end)
        tensor = model.graph.initializers[name].const_value
        yield _bytes(tensor)
        end = offset + (0 if tensor is None else tensor.nbytes)


def metadata_entry(key: str, value: str) -> bytes:
    """An entry of the metadata, which may be added at the end of a file."""
    import onnx

    entry = onnx.StringStringEntryProto(key=key, value=value).SerializeToString(deterministic=True)
    return _tag(MODEL_METADATA, len(entry)) + entry


def _external(model: ir.Model) -> Iterator[tuple[str, int]]:
    """The large weights, and where they lie in the other file."""
    import onnx_ir as ir

    end = 0
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes < LEAST_EXTERNAL:
            continue
        end = ALIGNMENT * math.ceil(end / ALIGNMENT)
        yield name, end
        end += tensor.nbytes


class _Tensor:
    """An initializer as a field of the graph: a head, and the bytes of its numbers."""

    def __init__(self, name: Any, tensor: Any, place: tuple[str, int] | None) -> None:
        import onnx
        import onnx_ir as ir

        self.tensor = tensor
        if tensor.dtype == ir.DataType.STRING:
            proto = ir.to_proto(tensor)
            proto.name = name
            inner, size = proto.SerializeToString(deterministic=True), 0
        elif place is not None:
            proto = onnx.TensorProto(dims=tensor.shape, data_type=tensor.dtype.value, name=name)
            proto.data_location = onnx.TensorProto.EXTERNAL
            entries = {"location": place[0], "offset": place[1], "length": tensor.nbytes}
            for key, value in entries.items():
                proto.external_data.add(key=key, value=str(value))
            inner, size = proto.SerializeToString(deterministic=True), 0
        else:
            proto = onnx.TensorProto(dims=tensor.shape, data_type=tensor.dtype.value, name=name)
            size = tensor.nbytes
            inner = proto.SerializeToString(deterministic=True) + _tag(TENSOR_RAW_DATA, size)
        self.head = _tag(GRAPH_INITIALIZER, len(inner) + size) + inner
        self.size = size
        self.length = len(self.head) + size

    def data(self) -> bytes | memoryview:
        return b"" if self.size == 0 else _bytes(self.tensor)


def _bytes(tensor: Any) -> bytes | memoryview:
    array = tensor.numpy()
    if array.nbytes != tensor.nbytes or sys.byteorder == "big":
        return bytes(tensor.tobytes())  # packed or turned numbers
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
