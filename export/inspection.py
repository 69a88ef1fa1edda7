"""Inspection: what a model or an ONNX file is, without exporting anything."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .alone import alone
from .clock import Clock
from .errors import ConversionError
from .formats import FLOAT32

if TYPE_CHECKING:
    import keras

    from .conversion import Conversion
    from .programs.program import Program

ACCEPTED = "a .keras file, a .h5 file, an .onnx file or a SavedModel folder"
FOLDS = "batch_normalization"
"""The metadata of our own files that say what became of each."""
DEEPEST = 20
"""Levels of the metadata that are taken apart."""


@dataclass
class Inspection:
    """What was found.

    Attributes:
        source: Path or name.
        kind: `"Keras"`, `"SavedModel"` or `"ONNX"`.
        name: The model's name.
        inputs, outputs: One line per end.
        operations: How many layers or nodes of each type; None where they cannot be seen.
        parameters: Number of weights.
        folds: Per batch normalization, what an export would do with it, or has done with it in an
            ONNX file of kerasdl.
        facts: Further properties, such as the opset, and what an ONNX file says of itself.
    """

    source: str
    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    operations: dict[str, int] | None
    parameters: int
    folds: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The inspection as plain data."""
        return dict(vars(self))

    def to_text(self) -> str:
        """The inspection as a person reads it."""
        what = self.kind if self.kind == "SavedModel" else f"{self.kind} model"
        lines = [
            f"{self.source}: {what} `{self.name}`",
            *(f"  input  {line}" for line in self.inputs),
            *(f"  output {line}" for line in self.outputs),
            f"  {self.parameters:,} parameters",
            f"  {self._operations()}",
            *(line for key, value in self.facts.items() for line in _lines(key, value, "  ")),
        ]
        if self.folds:
            lines.append("Folding" if self.kind == "ONNX" else "Folding, if exported")
            lines += [f"  {line}" for line in self.folds]
        return "\n".join(lines)

    def _operations(self) -> str:
        if self.operations is None:
            return f"operations: not visible in a {self.kind}"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.operations.items())
        return counts or "no operations"


@alone
def inspect(
    model: keras.Model | str | os.PathLike[str],
    *,
    unsafe: bool = False,
    imports: Sequence[str] = (),
) -> Inspection:
    """Describe a Keras model, a SavedModel or an ONNX file.

    Args:
        model: A built Keras model, or a path to a `.keras` or `.h5` file, to an ONNX file of any
            name, or to a SavedModel.
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
    from .files.onnx_file import is_onnx

    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if path.suffix.lower() == ".onnx" or is_onnx(path):
            return _inspect_onnx(path)
    return _inspect_program(model, unsafe, imports)


def _inspect_onnx(path: Path) -> Inspection:
    from .files.onnx_file import read

    proto = read(path, beside_model=False)
    constants = {tensor.name for tensor in proto.graph.initializer}
    noted = {entry.key: _value(entry.value) for entry in proto.metadata_props}
    folds = noted.pop(FOLDS) if _are_texts(noted.get(FOLDS)) else []
    own = {
        "opset": ", ".join(f"{e.domain or 'ai.onnx'} {e.version}" for e in proto.opset_import),
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
    }
    return Inspection(
        source=str(path),
        kind="ONNX",
        name=proto.graph.name,
        inputs=[_end(end) for end in proto.graph.input if end.name not in constants],
        outputs=[_end(end) for end in proto.graph.output],
        operations=_counted(node.op_type for node in proto.graph.node),
        parameters=sum(math.prod(t.dims) for t in proto.graph.initializer),
        folds=folds,
        facts=own | noted | own,
    )


def _value(text: str) -> Any:
    """What a file says of itself: objects and lists where it is JSON, else the text.

    Anybody may have written it, so that it must be what JSON can say again.
    """
    try:
        value = json.loads(text)
        if isinstance(value, dict | list) and _depth(value) <= DEEPEST:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
            return value
    except (ValueError, RecursionError):
        return text
    return text


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _lines(key: str, value: Any, indent: str) -> Iterator[str]:
    """A fact in a line, and the members of an object below it."""
    if isinstance(value, dict) and value:
        yield f"{indent}{key}:"
        for name, member in value.items():
            yield from _lines(name, member, f"{indent}  ")
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{indent}{key}: {text}"


def _end(end: Any) -> str:
    sort = end.type.WhichOneof("value") or "unknown"
    if sort != "tensor_type":
        return f"{end.name}: {sort.removesuffix('_type')}"
    tensor = end.type.tensor_type
    axes = ", ".join(
        str(getattr(axis, axis.WhichOneof("value") or "", "?")) for axis in tensor.shape.dim
    )
    return f"{end.name}: {_dtype(tensor.elem_type)}[{axes}]"


def _dtype(kind: int) -> str:
    """The element type as NumPy and Keras call it."""
    import onnx

    if kind == onnx.TensorProto.UNDEFINED:
        return "unknown"
    if kind == onnx.TensorProto.STRING:
        return "string"
    return onnx.helper.tensor_dtype_to_np_dtype(kind).name


def _inspect_program(model: Any, unsafe: bool, imports: Sequence[str]) -> Inspection:
    from .conversion import plan
    from .graphs.plain_names import plain_names
    from .programs.program import KerasProgram
    from .programs.source import open_source

    program = open_source(model, unsafe=unsafe, imports=imports, accepted=ACCEPTED)
    nodes = program.graph.nodes if isinstance(program, KerasProgram) else None
    with plain_names(nodes or ()):
        folds = plan(program)[1]
    facts: dict[str, Any] = {}
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
        operations=None if nodes is None else _counted(node.kind for node in nodes),
        parameters=program.parameters(),
        folds=[str(entry) for entry in folds],
        facts=facts,
    )


def _converted(program: Program) -> Conversion:
    """What closed layers hold is folded in the ONNX graph, and not before."""
    from .conversion import convert_program
    from .files.ends import Ends

    return convert_program(program, Ends(), FLOAT32, None, (), Clock())


def _counted(kinds: Any) -> dict[str, int]:
    return dict(sorted(Counter(kinds).items()))
