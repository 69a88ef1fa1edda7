"""Int8: products of integers by onnxruntime's tools, with ranges of each batch or measured ones."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats import Format

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from ..programs.program import Arrays

PRODUCTS = ["MatMul", "Gemm", "Conv"]
"""Operators that int8 is for."""


def to_int8(
    model: ir.Model, calibration: Sequence[Arrays], spared: Container[str]
) -> onnx.ModelProto:
    """A float32 model whose products with weights are of integers; see `quantize.quantize`."""
    import onnx
    import onnx_ir as ir
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    proto = ir.to_proto(model)
    if not any(node.op_type in PRODUCTS for node in proto.graph.node):
        return proto  # in which onnxruntime would measure everything, for nothing
    # Weights of 7 bits: without VNNI, sums of two products of 8 bits overflow 16.
    options: dict[str, Any] = {
        "op_types_to_quantize": PRODUCTS,
        "per_channel": True,
        "reduce_range": True,
        "nodes_to_exclude": [*_halves(proto), *_without_weights(proto, spared)],
    }
    stacked = _stacked(proto)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if calibration:
            # What is multiplied without a sign. On x86 onnxruntime makes it so in any case, after
            # it has noted the type of the nodes that it adds, and from opset 21 on refuses those.
            options["activation_type"] = QuantType.QUInt8
            whole = [{"quant_type": QuantType.QInt8, "reduce_range": True}]
            overrides = {node.input[1]: whole for node in stacked}
            # Units that measure different things do not share a range, as last ones would.
            options["extra_options"] = {
                "TensorQuantOverrides": overrides,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            }
            quantize_static(proto, path, _reader(calibration), **options)
        else:
            names = [node.name for node in stacked]
            options["nodes_to_exclude"] += names
            quantize_dynamic(proto, path, **options)
            if stacked:
                options |= {"nodes_to_exclude": [], "per_channel": False}
                quantize_dynamic(path, path, nodes_to_quantize=names, **options)
        return onnx.load(path)


def lost_channels(model: ir.Model, stored: Format) -> dict[str, int]:
    """How many channels of a convolution int8 makes zero, by the name of its node.

    Where no ranges are measured onnxruntime has one for a whole kernel, in 128 steps.
    """
    if not stored.results.steps or stored.folds_into_convolutions:
        return {}
    found = {}
    for node in model.graph:
        kernel = node.inputs[1].const_value if node.op_type == "Conv" and node.inputs[1] else None
        if kernel is None or not kernel.size:
            continue
        tops = np.max(np.abs(kernel.numpy()), axis=tuple(range(1, len(kernel.shape))))
        lost = int(np.sum((tops > 0) & (tops < np.max(tops) / 128)))
        if lost:
            found[str(node.name)] = lost
    return found


def _halves(proto: onnx.ModelProto) -> list[str]:
    """The products of float16, for which onnxruntime has no ranges: they stay what they are."""
    import onnx

    typed = onnx.shape_inference.infer_shapes(proto).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    kinds |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    half = onnx.TensorProto.FLOAT16
    return [n.name for n in typed.node if half in (kinds.get(name) for name in n.input)]


def _without_weights(proto: onnx.ModelProto, spared: Container[str]) -> list[str]:
    """Products of two results, and with matrices that are no weights, such as those of Fourier
    transforms and of mel scales."""
    from ..converting.handlers.formula import is_of_formula

    names = {tensor.name for tensor in proto.graph.initializer}
    products = (node for node in proto.graph.node if node.op_type in PRODUCTS)
    return [
        node.name
        for node in products
        if not names & set(node.input) or any(map(is_of_formula, node.input)) or node.name in spared
    ]


def _stacked(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Products with a stack of matrices, for which onnxruntime knows one range, not channels."""
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    products = (node for node in proto.graph.node if node.op_type == "MatMul")
    return [node for node in products if ranks.get(node.input[1], 0) > 2]


def _reader(calibration: Sequence[Arrays]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    feeds = iter({f"input_{i}": array for i, array in enumerate(arrays)} for arrays in calibration)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    return Reader()
