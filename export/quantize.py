"""Quantize: a float32 file in a smaller format (`formats.py`).

- float16: weights and arithmetic; inputs and outputs stay float32.
- bfloat16: matrices are stored in half the space and widened when the file is loaded.
- int8: the products of Dense, Conv and their like; the ranges of what is multiplied are measured
  batch by batch (dynamic), or beforehand on data that is like the user's (static).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConversionError, reason
from .formats import FLOAT32, FORMATS, STATIC_INT8, Format
from .weights import LARGE

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from .program import Arrays

HALVES = ("bfloat16", "float16")
PRODUCTS = ["MatMul", "Gemm", "Conv"]
"""Operators that int8 is for."""
MAPS = {"Add", "Div", "Mul", "Sub"}
SUMS_OF_INTEGERS = {"ConvInteger", "MatMulInteger"}
TO_HALF = "graph_input_cast"
"""How onnxruntime calls its Casts of inputs."""
CASTS = ("_cast_to_fp16_node", "_cast_to_fp32_node")
"""How onnxruntime calls its Casts behind nodes that stay in float32, and in front of them."""


def quantize(
    model: ir.Model, stored: Format, calibration: Sequence[Arrays], spared: Container[str] = ()
) -> ir.Model:
    """The model in another format.

    Args:
        model: In float32, with the inputs input_0, ...; it may be changed.
        stored: The format.
        calibration: Batches, for int8: what the ranges are measured on. None: dynamic ranges.
        spared: Names of nodes that int8 leaves alone.

    Raises:
        ConversionError: onnxruntime's tools refuse the model.
    """
    import onnx_ir as ir

    if stored is FLOAT32:
        return model
    if stored.name == "bfloat16":
        _narrow_matrices(model)
        return model
    try:
        with _quiet():
            if stored.name == "float16":
                _copy_constant_outputs(model)
                _split_constants(model)
            proto = ir.to_proto(model)
            half = stored.name == "float16"
            converted = ir.from_proto(
                _float16(proto) if half else _int8(proto, calibration, spared)
            )
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


def _narrow_matrices(model: ir.Model) -> None:
    import onnx_ir as ir

    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or value.is_graph_output():
            continue
        if tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2 or tensor.size < LARGE:
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


def _copy_constant_outputs(model: ir.Model) -> None:
    """Let outputs that are constants be copies of them, to which onnxruntime's tool is used."""
    import onnx_ir as ir

    for place, output in enumerate(model.graph.outputs):
        if output.const_value is None or not output.is_initializer():
            continue
        name = output.name or ""
        del model.graph.initializers[name]
        output.name = f"{name}__constant"
        model.graph.register_initializer(output)
        copy = ir.node("Identity", [output], name=f"{name}__copy")
        copy.outputs[0].name, copy.outputs[0].type = name, output.type
        copy.outputs[0].shape = output.shape
        model.graph.append(copy)
        model.graph.outputs[place] = copy.outputs[0]


def _split_constants(model: ir.Model) -> None:
    """Give readers that stay in float32 a copy of a small constant that others read, too.

    They would read what float16 makes of it, by a Cast that is larger than the copy.
    """
    import onnx_ir as ir
    from onnxruntime.transformers.float16 import ALWAYS_FLOAT_INPUTS

    kinds = _staying()

    def stays(node: ir.Node, index: int) -> bool:
        return node.op_type in kinds or index in ALWAYS_FLOAT_INPUTS.get(node.op_type, [])

    for graph in (model.graph, *model.graph.subgraphs()):
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size >= LARGE:
                continue
            uses = list(value.uses())
            wide = [(node, index) for node, index in uses if stays(node, index)]
            if len(wide) in (0, len(uses)):
                continue
            array = tensor.numpy()
            copy = ir.Value(name=f"{name}__wide", const_value=ir.tensor(array, name=name))
            copy.dtype, copy.shape = ir.DataType.FLOAT, ir.Shape(array.shape)
            graph.register_initializer(copy)
            for node, index in wide:
                node.replace_input_with(index, copy)


def _float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for graph in (proto.graph, *_inner_graphs(proto.graph)):
        _forget_constants(graph)
    converted: onnx.ModelProto = convert_float_to_float16(
        proto,
        keep_io_types=True,
        op_block_list=_staying(),
        node_block_list=[*_first_maps(proto.graph), *_scattered_sums(proto.graph)],
    )
    _place_casts(converted.graph)
    _read_unrounded(converted.graph)
    return converted


def _first_maps(graph: onnx.GraphProto) -> list[str]:
    """What makes numbers fit into float16: the arithmetic behind sums of integers, and that of the
    inputs with constants."""
    constants = {tensor.name for tensor in graph.initializer}
    data, sums = {value.name for value in graph.input}, set[str]()
    found = []
    for node in graph.node:
        given = [name for name in node.input if name not in constants]
        if node.op_type in SUMS_OF_INTEGERS:
            sums.update(node.output)
        elif node.op_type in {*MAPS, "Cast"} and sums & set(given):
            found.append(node.name)
            sums.update(node.output)
        elif node.op_type in MAPS and len(given) == 1 and given[0] in data:
            found.append(node.name)
            data.update(node.output)
    return found


def _scattered_sums(graph: onnx.GraphProto) -> list[str]:
    """What onnxruntime cannot do in float16: put together what comes to one place."""
    return [
        node.name
        for inner in (graph, *_inner_graphs(graph))
        for node in inner.node
        if node.op_type.startswith("Scatter") and any(a.name == "reduction" for a in node.attribute)
    ]


def _read_unrounded(graph: onnx.GraphProto) -> None:
    """Let nodes in float32 read others in float32, and inputs, as they are, and not by float16."""
    wide = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.name.endswith(CASTS[0]) or node.name.startswith(TO_HALF)
    }
    back = {
        node.output[0]: wide[node.input[0]]
        for node in graph.node
        if node.name.endswith(CASTS[1]) and node.input[0] in wide
    }
    graphs = (graph, *_inner_graphs(graph))
    for node in (node for inner in graphs for node in inner.node):
        for i, name in enumerate(node.input):
            node.input[i] = back.get(name, name)
    while True:
        read = {name for inner in graphs for node in inner.node for name in node.input}
        read |= {value.name for inner in graphs for value in inner.output}
        idle = [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in read]
        if not idle:
            return
        for node in idle:
            graph.node.remove(node)


def _staying() -> list[str]:
    """Operators that stay in float32: IsInf knows float16 only from opset 20 on, and Softplus is
    infinite where its exponential is."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    return [*DEFAULT_OP_BLOCK_LIST, "IsInf", "Softplus"]


def _forget_constants(graph: onnx.GraphProto) -> None:
    """Take the constants off the list of values; on it, those in float32 get a Cast as well."""
    constants = {tensor.name for tensor in graph.initializer}
    others = [info for info in graph.value_info if info.name not in constants]
    del graph.value_info[:]
    graph.value_info.extend(others)


def _place_casts(graph: onnx.GraphProto) -> None:
    """Have each Cast of the converter once, and in the graph that has what it reads.

    It puts all of them at the end, one for each reader, of the same name for the same value, even
    if that is a value of a loop, or of a branch of a condition.
    """
    casts = {}
    while graph.node and graph.node[-1].name.endswith(CASTS):
        node = graph.node.pop()
        casts[node.output[0]] = node
    homes: dict[str, onnx.GraphProto] = {}
    for inner in _inner_graphs(graph):
        homes |= {value.name: inner for value in (*inner.input, *inner.initializer)}
        homes |= {name: inner for node in inner.node for name in node.output}
    # What is cast back may be cast once more by its readers.
    for node in sorted(casts.values(), key=lambda node: node.name.endswith(CASTS[1])):
        home = homes.get(node.input[0], graph)
        homes[node.output[0]] = home
        home.node.append(node)


def _inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Branches of conditions and bodies of loops, at any depth."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield inner
                    yield from _inner_graphs(inner)


def _halves(proto: onnx.ModelProto) -> list[str]:
    """The products of float16, for which onnxruntime has no ranges: they stay what they are."""
    import onnx

    typed = onnx.shape_inference.infer_shapes(proto).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    kinds |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    half = onnx.TensorProto.FLOAT16
    return [n.name for n in typed.node if half in (kinds.get(name) for name in n.input)]


def _int8(
    proto: onnx.ModelProto, calibration: Sequence[Arrays], spared: Container[str]
) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

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


def _without_weights(proto: onnx.ModelProto, spared: Container[str]) -> list[str]:
    """Products of two results, and with matrices that are no weights, such as those of Fourier
    transforms and of mel scales."""
    from .handlers.formula import is_of_formula

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
