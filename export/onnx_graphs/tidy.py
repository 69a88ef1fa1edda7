"""Tidy: the file a user likes to open.

1. Inputs and outputs bear the names of the Keras model, free first axes are called `batch`.
2. Nodes and constants that nothing reads leave; initializers stand in the order of their names.
3. The file says who wrote it, from what, and what became of each batch normalization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasdl._version import __version__

from ..ports import Port

if TYPE_CHECKING:
    import onnx_ir as ir


def tidy(
    model: ir.Model,
    name: str,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    metadata: Mapping[str, str],
) -> None:
    """Tidy what `convert` returned, in place."""
    import onnx_ir as ir
    import onnx_ir.passes.common as passes

    _restore_inputs(ir, model, inputs)
    _reserve(model, {port.name for port in (*inputs, *outputs)})
    for kind, ports in (("input", inputs), ("output", outputs)):
        ends = model.graph.inputs if kind == "input" else model.graph.outputs
        by_name = {end.name: end for end in ends}
        for index, port in enumerate(ports):
            _present(ir, by_name[f"{kind}_{index}"], port)
    for clean in (passes.RemoveUnusedNodesPass(), passes.RemoveUnusedOpsetsPass()):
        clean(model)
    _sort(model, inputs, outputs)
    model.graph.name, model.graph.doc_string = name, None
    model.producer_name, model.producer_version = "kerasdl", __version__
    model.metadata_props.clear()
    model.metadata_props.update(metadata)


def _restore_inputs(ir: Any, model: Any, inputs: Sequence[Port]) -> None:
    """An input that nothing reads is lost by tf2onnx; the user still expects to pass it."""
    present = {value.name for value in model.graph.inputs}
    for index, port in enumerate(inputs):
        if f"input_{index}" not in present:
            value = ir.Value(name=f"input_{index}")
            value.dtype = _dtype(ir, port)
            model.graph.inputs.append(value)


def _reserve(model: Any, names: set[str]) -> None:
    """Rename inner values that bear a name that an input or output is to have."""
    inner = [value for node in model.graph for value in node.outputs]
    for value in (*inner, *list(model.graph.initializers.values())):
        if value.name in names and not value.is_graph_output():
            value.name = f"{value.name}__inner"


def _present(ir: Any, value: Any, port: Port) -> None:
    value.name = port.name
    value.shape = ir.Shape([symbol or size for size, symbol in port.axes()])


def _sort(model: Any, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    for ends, ports in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        by_name = {value.name: value for value in ends}
        ends[:] = [by_name[port.name] for port in ports]
    initializers = sorted(model.graph.initializers.items())
    model.graph.initializers.clear()
    model.graph.initializers.update(initializers)


def _dtype(ir: Any, port: Port) -> Any:
    return ir.DataType[{"bool": "BOOL", "string": "STRING"}.get(port.dtype, port.dtype.upper())]
