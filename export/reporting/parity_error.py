"""The error of a file that disagrees with its model; it carries the report."""

from __future__ import annotations

from typing import Any

from ..errors import ExportError
from .report import Report


class ParityError(ExportError):
    """ONNX and Keras disagree by more than rounding; nothing was written.

    Attributes:
        report: The complete report, with every comparison.
        layer: Name of the Keras layer where the two begin to differ, or None.
    """

    exit_code = 4

    def __init__(self, message: str, report: Report, layer: str | None = None) -> None:
        super().__init__(message)
        self.report = report
        self.layer = layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.report, self.layer)
