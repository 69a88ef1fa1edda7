"""Quantize: a float32 file in a smaller format (`formats.py`).

- float16: weights and arithmetic; inputs and outputs stay float32.
- bfloat16: matrices of weights are stored in half the space and widened when the file is loaded.
- int8: the products of Dense, Conv and their like; the ranges of what is multiplied are measured
  batch by batch (dynamic), or beforehand on data that is like the user's (static).
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..converting.weights import LARGE
from ..errors import ConversionError, reason
from ..formats import FLOAT32, FORMATS, STATIC_INT8, Format
from .float16 import to_float16
from .int8 import to_int8

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from ..programs.program import Arrays

HALVES = ("bfloat16", "float16")


def quantize(
    model: ir.Model, stored: Format, calibration: Sequence[Arrays], spared: Container[str] = ()
) -> ir.Model:
    """The model in another format.

    Args:
        model: In float32, with the inputs input_0, ...; it may be changed.
        stored: The format.
        calibration: Batches, for int8: what the ranges are measured on. None: dynamic ranges.
        spared: Names of nodes that bfloat16 and int8 leave alone.

    Raises:
        ConversionError: onnxruntime's tools refuse the model.
    """
    import onnx_ir as ir

    if stored is FLOAT32:
        return model
    if stored.name == "bfloat16":
        _narrow_matrices(model, spared)
        return model
    try:
        with _quiet():
            half = stored.name == "float16"
            proto = to_float16(model) if half else to_int8(model, calibration, spared)
            converted = ir.from_proto(proto)
            converted.graph.sort()
            return converted
    # onnxruntime's tools raise whatever they run into.
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # onnx_ir wraps what it meets, layer by layer
            cause = cause.__cause__
        raise ConversionError(
            f"The file cannot be written in {stored.name}: {reason(cause)}"
        ) from error


def format_in(proto: onnx.ModelProto) -> Format:
    """The format of a file, as its nodes and weights show it.

    A note that it is float32 counts, too: its model may compute in float16 in places. Other notes
    do not: a file might claim a coarser format than it has, to be judged by that.
    """
    import onnx

    noted = {entry.key: entry.value for entry in proto.metadata_props}.get("precision")
    if noted == FLOAT32.name:
        return FLOAT32
    stored = {tensor.data_type for tensor in proto.graph.initializer}
    if noted == "float16":  # there may be no weights to store, but what it computes is cast
        casts = (node for node in proto.graph.node if node.op_type == "Cast")
        stored |= {onnx.helper.get_node_attr_value(node, "to") for node in casts}
    # bfloat16 first, since the layers of such a file may compute in float16.
    halves = [name for name in HALVES if onnx.TensorProto.DataType.Value(name.upper()) in stored]
    if noted in halves:  # a quantized model, whose products are its own
        return FORMATS[noted]
    kinds = {node.op_type for node in proto.graph.node}
    if kinds & {"DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}:
        return STATIC_INT8 if "QuantizeLinear" in kinds else FORMATS["int8"]
    return FORMATS[halves[0]] if halves else FLOAT32


def holds(model: ir.Model, stored: Format) -> bool:
    """Whether anything was stored in a format, for which there may be too little to store."""
    import onnx_ir as ir

    types = {
        "bfloat16": {ir.DataType.BFLOAT16},
        "int8": {ir.DataType.INT8, ir.DataType.UINT8},
    }
    wanted = types.get(stored.name)
    return wanted is None or any(
        value.dtype in wanted for value in model.graph.initializers.values()
    )


def _narrow_matrices(model: ir.Model, spared: Container[str]) -> None:
    import onnx_ir as ir

    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or value.is_graph_output():
            continue
        if tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2 or tensor.size < LARGE:
            continue
        if any(node.name in spared for node, _ in value.uses()):
            continue
        array = tensor.numpy().astype(ir.DataType.BFLOAT16.numpy())
        narrow = ir.Value(name=f"{name}__bfloat16", const_value=ir.tensor(array, name=name))
        narrow.dtype, narrow.shape = ir.DataType.BFLOAT16, ir.Shape(array.shape)
        cast = ir.node("Cast", [narrow], {"to": ir.DataType.FLOAT.value}, name=f"{name}__widened")
        cast.outputs[0].name = f"{name}__float32"
        value.replace_all_uses_with(cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.register_initializer(narrow)
        model.graph.insert_before(model.graph[0], cast)


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's tools recommend on the root logger what has been done already.

    What overflows is found by the comparison.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with np.errstate(over="ignore"):
            yield
    finally:
        logging.disable(before)
