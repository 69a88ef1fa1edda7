"""Reading ONNX files that somebody else may have damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SourceError, reason

if TYPE_CHECKING:
    import onnx


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """An ONNX model, checked.

    Raises:
        SourceError: The file is missing, damaged, or no ONNX model.
    """
    import onnx.checker
    from google.protobuf.message import DecodeError

    if not isinstance(path, str | os.PathLike):
        raise SourceError(f"The ONNX file must be a path. Received: {path!r}.")
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"{file} does not exist. Give an ONNX file.")
    try:
        # What lies in other files is looked at there, and not read.
        onnx.checker.check_model(str(file))
        proto = onnx.load(file, load_external_data=False)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise SourceError(f"{file} is no valid ONNX file: {reason(error)}") from error
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
