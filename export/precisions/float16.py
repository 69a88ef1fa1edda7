"""Float16: weights and arithmetic by onnxruntime's tool, and what it must leave in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..converting.weights import LARGE

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MAPS = {"Add", "Div", "Mul", "Sub"}
SUMS_OF_INTEGERS = {"ConvInteger", "MatMulInteger"}
TO_HALF = "graph_input_cast"
"""How onnxruntime calls its Casts of inputs."""
CASTS = ("_cast_to_fp16_node", "_cast_to_fp32_node")
"""How onnxruntime calls its Casts behind nodes that stay in float32, and in front of them."""


def to_float16(model: ir.Model) -> onnx.ModelProto:
    """A float32 model in float16, which is changed."""
    import onnx_ir as ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _copy_constant_outputs(model)
    _split_constants(model)
    proto = ir.to_proto(model)
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
