"""Reading ONNX files that somebody else may have damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SourceError, reason, shown
from ..programs.source import SUFFIXES

if TYPE_CHECKING:
    import onnx

REMARKS = {"doc_string"}
"""Fields that are for people alone; other exporters write what they like there."""
PROTOBUF = "protobuf"
"""The format of ONNX files; onnx itself goes by their names."""
KERAS = (b"PK\x03\x04", b"\x89HDF")
"""How Keras' files begin: a large one need not be read to know that it is no ONNX file."""
ORDER = "The model comes first, and the ONNX file second."


def read(path: str | os.PathLike[str], *, beside_model: bool = True) -> onnx.ModelProto:
    """An ONNX model, checked.

    Args:
        path: The file.
        beside_model: Whether it is given behind a model, so that the two may be in wrong order.

    Raises:
        SourceError: The file is missing, closed, damaged, or no ONNX model.
    """
    import onnx.checker
    from google.protobuf.message import DecodeError

    if not isinstance(path, str | os.PathLike):
        raise SourceError(f"The ONNX file must be a path. Received: {shown(path)}.")
    file, proto = Path(path), None
    _check_place(file, beside_model)
    try:
        proto = onnx.load(file, PROTOBUF, load_external_data=False)
        # What lies in other files is looked at there, and not read.
        onnx.checker.check_model(str(file))
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise SourceError(_explain(file, proto, error, beside_model)) from error
    wrong = next(_wrong_texts(proto, "model"), None) or next(_wrong_types(proto), None)
    if wrong is not None:
        raise SourceError(f"{file} is no valid ONNX file: {wrong}.")
    if beside_model and has_foreign_name(file):
        raise SourceError(
            f"{file} is an ONNX file with the name of another format. Let its name end in .onnx."
        )
    return proto


def has_foreign_name(file: Path) -> bool:
    """Whether onnx takes a file of this name for one of its other formats, such as JSON."""
    import onnx

    known = onnx.serialization.registry.get_format_from_file_extension(file.suffix)
    return known not in {None, PROTOBUF}


def is_onnx(file: Path) -> bool:
    """Whether a file holds an ONNX model, whatever its name.

    Raises:
        SourceError: It cannot be read.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            if stream.read(4) in KERAS:
                return False
        proto = onnx.load(file, PROTOBUF, load_external_data=False)
    except DecodeError:
        return False
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {reason(error)}.") from error
    return proto.ir_version > 0 and proto.HasField("graph")


def names_of_ends(graph: onnx.GraphProto) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs; old files list their constants among the inputs."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [end.name for end in graph.input if end.name not in constants]
    return inputs, [end.name for end in graph.output]


def size_of(path: Path, proto: onnx.ModelProto) -> int:
    """Bytes of a file and of the other files it reads."""
    places = {path.parent / place for place in _places(proto)}
    return path.stat().st_size + sum(place.stat().st_size for place in places)


def _places(proto: onnx.ModelProto) -> Iterator[str]:
    """The other files that hold weights, as the file names them."""
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                yield entry.value


def _check_place(file: Path, beside_model: bool) -> None:
    """Tell what is no file, or none that may be read, from a damaged one."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"The name of {file} is not UTF-8. Rename it.") from error
    try:
        if not file.exists():
            raise SourceError(f"{file} does not exist. Give an ONNX file.")
        if not file.is_file():
            what = "a folder" if file.is_dir() else "no ordinary file"
            order = f" {ORDER}" if beside_model and file.is_dir() else ""
            raise SourceError(f"{file} is {what}. Give an ONNX file.{order}")
        file.open("rb").close()
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {reason(error)}.") from error


def _explain(
    file: Path, proto: onnx.ModelProto | None, error: Exception, beside_model: bool
) -> str:
    """Why a file cannot be read, and what to do where that is known."""
    for place in () if proto is None else map(Path, _places(proto)):
        inside = not place.is_absolute() and ".." not in place.parts
        if inside and not os.path.exists(file.parent / place):
            return (
                f"{file} is incomplete: the weights file `{place}` is missing beside it; copy both."
            )
    if beside_model and file.suffix.lower() in SUFFIXES:
        return f"{file} is no ONNX file. {ORDER}"
    return f"{file} is no valid ONNX file: {reason(error)}"


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
