"""Inspection: what a model or an ONNX file is, without exporting anything."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .alone import alone
from .clock import Clock
from .errors import ConversionError
from .formats import FLOAT32
from .opset import DEFAULT_OPSET

if TYPE_CHECKING:
    import keras

    from .conversion import Conversion
    from .program import Program


@dataclass
class Inspection:
    """What was found.

    Attributes:
        source: Path or name.
        kind: `"Keras"`, `"SavedModel"` or `"ONNX"`.
        name: The model's name.
        inputs, outputs: One line per end.
        operations: How many layers or nodes of each type.
        parameters: Number of weights.
        folds: Per batch normalization, what an export would do with it.
        facts: Further properties, such as the opset.
    """

    source: str
    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    operations: dict[str, int]
    parameters: int
    folds: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The inspection as plain data."""
        return dict(vars(self))

    def to_text(self) -> str:
        """The inspection as a person reads it."""
        operations = ", ".join(f"{count} {kind}" for kind, count in self.operations.items())
        lines = [
            f"{self.source}: {self.kind} model `{self.name}`",
            *(f"  input  {line}" for line in self.inputs),
            *(f"  output {line}" for line in self.outputs),
            f"  {self.parameters:,} parameters",
            f"  {operations or 'no operations'}",
            *(f"  {key}: {value}" for key, value in self.facts.items()),
        ]
        if self.folds:
            lines += [
                "Batch normalization, if exported",
                *(f"  {line}" for line in self.folds),
            ]
        return "\n".join(lines)


@alone
def inspect(
    model: keras.Model | str | os.PathLike[str],
    *,
    unsafe: bool = False,
    imports: Sequence[str] = (),
) -> Inspection:
    """Describe a Keras model, a SavedModel or an ONNX file.

    Args:
        model: A built Keras model, or a path to a `.keras`, `.h5` or `.onnx` file or a SavedModel.
        unsafe: As in `to_onnx`.
        imports: As in `to_onnx`.

    Returns:
        The inspection, with `to_text()` and `to_dict()`.

    Raises:
        SourceError: Nothing readable is there.

    Example:

    >>> import keras
    >>> from kerasdl import export
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head"),
    ...                           keras.layers.BatchNormalization(name="bn")])
    >>> export.inspect(model).folds
    ['bn: folded into head']

    References: N4 (ONNX conversion).
    """
    if isinstance(model, str | os.PathLike) and Path(model).suffix.lower() == ".onnx":
        return _inspect_onnx(Path(model))
    return _inspect_program(model, unsafe, imports)


def _inspect_onnx(path: Path) -> Inspection:
    from .onnx_file import read

    proto = read(path)
    constants = {tensor.name for tensor in proto.graph.initializer}
    return Inspection(
        source=str(path),
        kind="ONNX",
        name=proto.graph.name,
        inputs=[_end(end) for end in proto.graph.input if end.name not in constants],
        outputs=[_end(end) for end in proto.graph.output],
        operations=_counted(node.op_type for node in proto.graph.node),
        parameters=sum(math.prod(t.dims) for t in proto.graph.initializer),
        facts={
            "opset": ", ".join(f"{e.domain or 'ai.onnx'} {e.version}" for e in proto.opset_import),
            "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
            **{entry.key: entry.value for entry in proto.metadata_props},
        },
    )


def _end(end: Any) -> str:
    import onnx

    sort = end.type.WhichOneof("value") or "unknown"
    if sort != "tensor_type":
        return f"{end.name}: {sort.removesuffix('_type')}"
    tensor = end.type.tensor_type
    axes = ", ".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{end.name}: {kind}[{axes}]"


def _inspect_program(model: Any, unsafe: bool, imports: Sequence[str]) -> Inspection:
    from .conversion import plan
    from .program import KerasProgram
    from .source import open_source

    program = open_source(model, unsafe=unsafe, imports=imports)
    nodes = program.graph.nodes if isinstance(program, KerasProgram) else None
    folds, facts = plan(program)[1], {}
    if any(fold.closed and fold.reason for fold in folds):
        try:
            folds = _converted(program).folds
        except ConversionError as error:
            facts["cannot be exported"] = str(error)
    return Inspection(
        source=os.fspath(model) if isinstance(model, str | os.PathLike) else program.name,
        kind="SavedModel" if nodes is None else "Keras",
        name=program.name,
        inputs=[str(port) for port in program.inputs],
        outputs=[str(port) for port in program.outputs],
        operations=_counted(node.kind for node in nodes or ()),
        parameters=program.parameters(),
        folds=[str(entry) for entry in folds],
        facts=facts,
    )


def _converted(program: Program) -> Conversion:
    """What closed layers hold is folded in the ONNX graph, and not before."""
    from .conversion import convert_program
    from .ends import Ends

    return convert_program(program, Ends(), FLOAT32, DEFAULT_OPSET, (), Clock())


def _counted(kinds: Any) -> dict[str, int]:
    return dict(sorted(Counter(kinds).items()))
