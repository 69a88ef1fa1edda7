"""Conversion: from a program to an ONNX model in memory.

inference form → fold → convert → fold what is left in ONNX → guard → write recurrent steps →
transpose → quantize → raise the operator set → settle names and orders

In float16 the recurrent steps are written behind the quantization.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras

from .clock import Clock
from .converting.convert import convert_fast, convert_graph
from .converting.opset import raise_opset, raise_to_operators
from .converting.pin_shapes import pin_shapes
from .files.ends import Ends
from .folding.folding import Fold, fold
from .formats import FLOAT32, Format
from .graphs.graph import Graph, layer_of
from .graphs.inference import drop_training_only
from .graphs.plain_names import plain_names
from .graphs.trace import trace, without_bfloat16
from .onnx_graphs.canonical import settle
from .onnx_graphs.fold_onnx import fold_onnx
from .onnx_graphs.guards import guard
from .onnx_graphs.steps import write_steps
from .onnx_graphs.tails import write_tails
from .precisions.int8 import lost_channels
from .precisions.overflow import Halves
from .precisions.quantize import quantize
from .programs.program import Arrays, KerasProgram, Program

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass
class Conversion:
    """What a program became.

    Attributes:
        model: The ONNX model; its ends are still called input_0, ..., output_0, ...
        folds: What became of each batch normalization.
        dropped: Layers that only matter in training.
        halves: Of a float16 file, what shows whether it overflows.
        lost: Names of nodes, and how many of their channels int8 has made zero.
    """

    model: ir.Model
    folds: list[Fold]
    dropped: list[str]
    halves: Halves | None = None
    lost: dict[str, int] = field(default_factory=dict)


def convert_program(
    program: Program,
    ends: Ends,
    stored: Format,
    opset: int | None,
    calibration: Sequence[Arrays],
    clock: Clock,
    careful: bool = False,
) -> Conversion:
    """Convert a program; the same program gives the same model every time.

    Args:
        program: The model.
        ends: How the ends of the file differ from the model's.
        stored: Numbers of the file.
        opset: ONNX operator set; None for the usual one, or the first that has the operators.
        calibration: Batches on which int8 ranges are measured.
        clock: Takes the time.
        careful: As in `convert.convert`.

    Raises:
        ConversionError: A layer has no ONNX form.
    """
    import onnx_ir as ir

    model_of_keras = program if isinstance(program, KerasProgram) else None
    nodes = model_of_keras.graph.nodes if model_of_keras else ()
    with plain_names(nodes), model_of_keras.apart() if model_of_keras else nullcontext():
        with clock.stage("fold", "folding"):
            graph, folds, dropped = plan(program, stored)
        with clock.stage("convert", "converting"):
            if graph is None:
                model = convert_fast(program, program.inputs, opset, careful=careful)
            else:
                model = convert_graph(graph, opset, careful)
                folds = fold_onnx(model, graph, folds, stored)
            half = stored.name == "float16"
            guard(model, half)
            if not half:
                write_tails(model)
                write_steps(model)
            ends.transpose(model, program.inputs)
            if opset is None or stored is not FLOAT32:
                raise_to_operators(model)
            wide = ir.to_proto(model) if half else None
            lost = lost_channels(model, stored)
            batches = [ends.arrays(program.inputs, x) for x in calibration]
            model = quantize(model, stored, batches, _weightless(model, graph))
            halves = Halves(ir.to_proto(model), wide) if wide is not None else None
            if half:  # in float32 even there, so not before the rest is float16
                write_steps(model)
            if opset is not None:
                raise_opset(model, opset)
            settle(model)
    return Conversion(model, folds, dropped, halves, lost)


def _weightless(model: ir.Model, graph: Graph | None) -> set[str]:
    """Names of the ONNX nodes of layers that have no weights, or those of a Fourier transform: what
    they multiply with has not been learnt."""
    if graph is None:
        return set()
    names = [node.name for node in graph.nodes]
    without = {
        node.name
        for node in graph.nodes
        if not getattr(node.operation, "weights", ())
        or isinstance(node.operation, keras.layers.STFTSpectrogram)
    }
    return {str(n.name) for n in model.graph if n.name and layer_of(n.name, names) in without}


def plan(program: Program, stored: Format = FLOAT32) -> tuple[Graph | None, list[Fold], list[str]]:
    """The graph to convert, what becomes of each batch normalization, and which layers leave."""
    if not isinstance(program, KerasProgram):
        return None, [], []
    graph = without_bfloat16(trace(program.model))
    graph.input_ports = program.inputs
    dropped = drop_training_only(graph)
    folds = fold(graph, stored)
    graph.exact.clear()  # only folding needs them, and they take as much as the weights
    pin_shapes(graph)
    return graph, folds, dropped
