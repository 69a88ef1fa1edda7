"""Reading ONNX files that somebody else may have damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SourceError, reason, shown

if TYPE_CHECKING:
    import onnx

REMARKS = {"doc_string"}
"""Fields that are for people alone; other exporters write what they like there."""


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """An ONNX model, checked.

    Raises:
        SourceError: The file is missing, closed, damaged, or no ONNX model.
    """
    import onnx.checker
    from google.protobuf.message import DecodeError

    if not isinstance(path, str | os.PathLike):
        raise SourceError(f"The ONNX file must be a path. Received: {shown(path)}.")
    file = Path(path)
    _check_place(file)
    try:
        # What lies in other files is looked at there, and not read.
        onnx.checker.check_model(str(file))
        proto = onnx.load(file, load_external_data=False)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise SourceError(f"{file} is no valid ONNX file: {reason(error)}") from error
    wrong = next(_wrong_texts(proto, "model"), None) or next(_wrong_types(proto), None)
    if wrong is not None:
        raise SourceError(f"{file} is no valid ONNX file: {wrong}.")
    return proto


def size_of(path: Path, proto: onnx.ModelProto) -> int:
    """Bytes of a file and of the other files it reads."""
    places = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return path.stat().st_size + sum((path.parent / place).stat().st_size for place in places)


def _check_place(file: Path) -> None:
    """Tell what is no file, or none that may be read, from a damaged one."""
    try:
        if not file.exists():
            raise SourceError(f"{file} does not exist. Give an ONNX file.")
        if not file.is_file():
            what = "a folder" if file.is_dir() else "no ordinary file"
            raise SourceError(f"{file} is {what}. Give an ONNX file.")
        file.open("rb").close()
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {reason(error)}.") from error


def _wrong_texts(message: Any, where: str) -> Iterator[str]:
    """Texts that are not UTF-8, which the Protocol Buffers hand out as bytes."""
    from google.protobuf.message import Message

    for field, value in message.ListFields():
        if field.name in REMARKS or field.type not in {field.TYPE_STRING, field.TYPE_MESSAGE}:
            continue
        for item in [value] if isinstance(value, str | bytes | Message) else value:
            if isinstance(item, Message):
                yield from _wrong_texts(item, field.name)
            elif isinstance(item, bytes):
                yield f"the text {shown(item)} ({where}.{field.name}) is not UTF-8"


def _wrong_types(proto: onnx.ModelProto) -> Iterator[str]:
    """Inputs and outputs of an element type that ONNX does not have."""
    import onnx

    known = onnx.TensorProto.DataType.values()
    for end in (*proto.graph.input, *proto.graph.output):
        kind = end.type.tensor_type.elem_type
        if kind not in known:
            yield f"`{end.name}` has the element type {kind}, which ONNX does not have"
