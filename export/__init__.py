"""From a trained model to an ONNX file that is proved right before it exists.

>>> from kerasdl import export
>>> sorted(name for name in export.__all__ if name[0].islower())
['fold', 'inspect', 'to_onnx', 'verify']

The line runs source → inference form → fold → convert → tidy → verify → write → report, one file
per step; `pipeline.py` is the line itself.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import (
    ConversionError,
    ExportError,
    OptionError,
    SourceError,
    TargetError,
)
from .folded import fold
from .folding.folding import Fold
from .inspection import Inspection, inspect
from .pipeline import to_onnx, verify
from .ports import Port
from .reporting.parity_error import ParityError
from .reporting.report import Report
from .verifying.checks import Check

__all__ = [
    "Check",
    "ConversionError",
    "ExportError",
    "Fold",
    "Inspection",
    "OptionError",
    "ParityError",
    "Port",
    "Report",
    "SourceError",
    "TargetError",
    "fold",
    "inspect",
    "to_onnx",
    "verify",
]

if TYPE_CHECKING:
    from . import testing as testing
else:

    def __getattr__(name: str) -> ModuleType:
        """`export.testing`, which is imported when it is asked for."""
        if name == "testing":
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
