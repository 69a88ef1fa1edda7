"""Metadata: what a file says of itself.

From what it was made, by which versions, what became of each batch normalization, how its numbers
and ends differ from the model's, and, added when it has been verified, how well it agrees.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import SourceError, reason
from ..folding.folding import Fold
from ..formats import Format
from .ends import Ends
from .serialize import metadata_entry

PACKAGES = ("kerasdl", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime")
CHUNK = 2**20
CAREFUL = "converted_carefully"


def metadata(
    source: Any,
    versions: dict[str, str],
    folds: Sequence[Fold],
    stored: Format,
    ends: Ends,
    careful: bool,
) -> dict[str, str]:
    """The entries that are known before the file is verified.

    Args:
        source: The model, or its path.
        versions: Of the packages that take part.
        folds: What became of each batch normalization.
        stored: Numbers of the file.
        ends: How its ends differ from the model's.
        careful: As in `convert.convert`.

    Raises:
        SourceError: The model's file cannot be read any more.
    """
    entries = {f"{name}_version": version for name, version in versions.items()}
    entries["batch_normalization"] = json.dumps([str(entry) for entry in folds])
    entries["precision"] = stored.name
    entries |= ends.metadata()
    if careful:
        entries[CAREFUL] = "true"
    if isinstance(source, str | os.PathLike):
        entries["source_sha256"] = sha256(Path(source))
    return entries


def is_careful(metadata: Mapping[str, str]) -> bool:
    """Whether a file says that tf2onnx's optimizer of transposes was left out."""
    return CAREFUL in metadata


def parity_entry(figures: Mapping[str, Any]) -> bytes:
    """What is added to the end of a file that passed."""
    return metadata_entry("parity", json.dumps(figures, ensure_ascii=False))


def versions() -> dict[str, str]:
    """Versions of the packages that take part."""
    # Not the metadata of the distributions: TensorFlow comes under several names.
    return {name: str(import_module(name).__version__) for name in PACKAGES}


def sha256(source: Path) -> str:
    """The hash of a file, or of the names and contents of all files in a folder.

    Raises:
        SourceError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if source.is_dir():
            for file in sorted(path for path in source.rglob("*") if path.is_file()):
                digest.update(f"{file.relative_to(source).as_posix()}\0".encode())
                digest.update(sha256(file).encode())
            return digest.hexdigest()
        with source.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {reason(error)}.") from error
    return digest.hexdigest()
