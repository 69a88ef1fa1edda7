"""What can go wrong on the way to a verified file.

ExportError
├── SourceError        2  the model cannot be read, or is not one
├── OptionError        2  an option or the data given is not usable (also a ValueError)
├── TargetError        2  the target cannot be written
├── ConversionError    3  a layer has no ONNX form; `layer` names it
└── ParityError        4  the file disagrees with Keras; `report` says where

The last one is in `reporting/parity_error.py`, beside the report that it carries. The numbers are
the exit codes of the command line.
"""

from __future__ import annotations

import re
from typing import Any

WRAPPED = "Exception encountered: "
"""How Keras begins the line with the reason, behind all of a model's configuration."""
LONGEST = 200
"""Characters of a value that an error quotes."""


class ExportError(Exception):
    """Base of all errors of `kerasdl.export`."""

    exit_code = 2


class SourceError(ExportError):
    """The model cannot be read, or is not a model that can be run."""


class OptionError(ExportError, ValueError):
    """An option, or the data given for the comparison, cannot be used."""


class TargetError(ExportError):
    """The target file cannot be written; what stood there is untouched."""


class ConversionError(ExportError):
    """A layer has no ONNX form.

    Attributes:
        layer: Name of the Keras layer, or None where it could not be determined.
    """

    exit_code = 3

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer


def reason(error: BaseException) -> str:
    """The one line of an error that tells: without terminal colours and Keras' wrapping."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:]
    if lines and lines[0].startswith("in user code"):
        lines = lines[-1:]
    if lines and "could not be deserialized properly" in lines[0]:
        inner = [line.removeprefix(WRAPPED) for line in lines if line.startswith(WRAPPED)]
        lines = inner[-1:] or lines
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = [" ".join(lines[:2])]
    return lines[0][:300] if lines else type(error).__name__


def shown(value: Any) -> str:
    """A value as an error quotes it: only its beginning, if it is long."""
    try:
        text = repr(value)
    # The class may be the user's own, and Python refuses integers of too many digits.
    except Exception:  # noqa: BLE001
        text = f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
