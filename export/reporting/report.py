"""The report: one object; text, JSON and HTML are views of it.

JSON holds all of it, so that `Report.from_json` gives back the same report, which `judged` looks at
again under other bounds, without the model or the file.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import OptionError, SourceError, reason, shown
from ..files.write import check_target, write
from ..folding.folding import Fold
from ..ports import Port
from ..verifying import samples
from ..verifying.checks import Check, Tolerance
from ..verifying.constants import Constants, WrongConstant
from ..verifying.histogram import EDGES
from ..verifying.latency import Latency
from ..verifying.layers import LayerCheck
from .plain import from_plain, to_plain

FORMAT = 1
"""Of the JSON; a report with a higher number was written by a newer version."""
LARGEST = 2**63
"""No count of a report reaches it; formatting larger ones fails."""
SUFFIXES = (".html", ".json", ".txt")
INCONCLUSIVE = (
    "rounding alone may move the output by a quarter of itself, or no number of it is finite, so "
    "that a wrong file would not be noticed; give {} with `data`, or a bound with `rtol` and "
    "`atol` (on the command line `--data`, `--rtol`, `--atol`){}"
)
COARSE = "; {} may be too coarse for the model, which gains by inputs that are normalized"
BEYOND_RANGES = (
    "the data lie beyond the ranges that the file was calibrated on; calibrate it on more rows, "
    "and on some like these"
)
NOT_WRITTEN = "the file was not written"
"""The note of an export that failed."""
NEAR_ENOUGH = (
    "Keras' float32 run where the file is so near to it that a float64 run could not say "
    "otherwise, else a float64 run of the model"
)
EDGES_ARE = "zeros, empty and odd strings, large numbers, last indices, ties"
LAYERS_AS_DERIVED = (
    "layers are judged by what is derived; the tolerance that was given is about the outputs"
)


@dataclass
class Report:
    """Everything that is known about an export or a verification.

    Attributes:
        source: The model's path, or its name if it was in memory.
        target: The ONNX file.
        model: The model's name.
        inputs, outputs: Ends of the file.
        opset: ONNX operator set of the file.
        precision: Format of its numbers (`formats.py`).
        folds: One entry per batch normalization; empty for a verification.
        dropped: Layers that only matter in training.
        operations_by_kind: Number of the model's Keras operations per class, before anything is
            folded; None where they cannot be seen.
        nodes: Number of ONNX nodes per operator.
        size: Bytes of the file.
        checks: One entry per output, batch and onnxruntime setting.
        tolerance: The bounds that were given instead of the derived ones, or None.
        float64_failure: Why the tolerance does not come from a float64 run, or None.
        layer: Where a failed comparison begins to differ, or None. It is looked for in the run
            itself, and kept when the report is judged anew.
        beyond: Where the data go furthest beyond a range that was measured, if that is all that is
            wrong.
        layers: One entry per Keras layer, if asked for.
        constants: The constants of the file compared with those that the model gives
            (`constants.py`); None where they cannot be.
        latency: Of onnxruntime's default session, one entry per batch size.
        versions: Versions of the packages that took part.
        seconds: Time per stage.
        notes: What else a user should know.
    """

    source: str
    target: str
    model: str
    inputs: list[Port]
    outputs: list[Port]
    opset: int = 0
    precision: str = "float32"
    folds: list[Fold] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    operations_by_kind: Counter[str] | None = None
    nodes: Counter[str] = field(default_factory=Counter)
    size: int = 0
    checks: list[Check] = field(default_factory=list)
    tolerance: Tolerance | None = None
    float64_failure: str | None = None
    layer: str | None = None
    beyond: str = ""
    layers: list[LayerCheck] = field(default_factory=list)
    constants: Constants | None = None
    latency: list[Latency] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every comparison passed, and there was at least one."""
        return self.outputs_agree and not self.wrong_constants

    @property
    def outputs_agree(self) -> bool:
        """Whether every comparison of outputs that counts passed, and there was at least one."""
        return bool(self.checks) and all(check.passed for check in self.counting)

    @property
    def counting(self) -> list[Check]:
        """The comparisons without those on random data that tell nothing, where the user's own
        data tell."""
        own = [check for check in self.checks if check.data == samples.DATA]
        silent = {check.output for check in own if not check.conclusive}
        told = {check.output for check in own} - silent
        return [check for check in self.checks if check.conclusive or check.output not in told]

    @property
    def has_edges(self) -> bool:
        """Whether edges were compared, which random data leaves out."""
        return any(check.data == samples.EDGES for check in self.checks)

    @property
    def needs_no_float64(self) -> bool:
        """Whether the file was so near to Keras' own run somewhere that no other was needed."""
        return any(check.keras_error is None for check in self.checks)

    @property
    def failure(self) -> str:
        """What is wrong, as the end of a sentence; empty where no more can be said."""
        layer = f"layer `{self.layer}`" if self.layer else ""
        causes = []
        if self.beyond_ranges:
            causes.append(f"{BEYOND_RANGES}{self.beyond and f' ({self.beyond})'}")
        if self.wrong_constants and (self.outputs_agree or self.beyond_ranges):
            total = self.constants.compared if self.constants else 0
            agree = "the outputs agree, but " if self.outputs_agree else ""
            where = f", first in layer {self.wrong_constants[0].place}" if layer else ""
            causes.append(
                f"{agree}{len(self.wrong_constants)} of {total} constants are not the model's"
                + where
            )
        elif layer:
            causes.append(f"it begins to differ at {layer}")
        return "; ".join(causes)

    @property
    def beyond_ranges(self) -> bool:
        """Whether outputs differ where data lie beyond ranges that were measured, and nowhere
        else."""
        failed = [check for check in self.counting if not check.passed]
        return bool(failed) and all(check.beyond_ranges for check in failed)

    @property
    def wrong_constants(self) -> tuple[WrongConstant, ...]:
        """Those that count: a tolerance of the user's own is about outputs alone."""
        if self.constants is None or self.tolerance is not None:
            return ()
        return self.constants.wrong

    @property
    def operations(self) -> int | None:
        """Number of Keras operations in the model; None where they cannot be seen."""
        kinds = self.operations_by_kind
        return None if kinds is None else sum(kinds.values())

    @property
    def remaining(self) -> int | None:
        """Number of Keras operations after folding."""
        if self.operations is None:
            return None
        gone = sum(fold.reason is None and not fold.closed for fold in self.folds)
        return self.operations - len(self.dropped) - gone

    @property
    def conclusive(self) -> bool:
        """Whether every comparison that counts could have failed."""
        return all(check.conclusive for check in self.counting)

    @property
    def untold(self) -> str:
        """Why nothing can be told, and what may help."""
        given = any(check.data == samples.DATA for check in self.checks)
        coarse = "" if self.precision == "float32" else COARSE.format(self.precision)
        return INCONCLUSIVE.format("other data" if given else "data of your own", coarse)

    @property
    def worst(self) -> Check | None:
        """The comparison nearest to, or furthest beyond, its tolerance."""
        return max(self.checks, key=strain_of, default=None)

    @property
    def max_error(self) -> float:
        """Largest difference between ONNX and the truth (`Check.max_error`); of edges only if it is
        too large, for there the numbers themselves may be large."""
        checks = (one for one in self.checks if one.data != samples.EDGES or not one.passed)
        return max((check.max_error for check in checks), default=math.nan)

    def judged(self, rtol: float | None = None, atol: float | None = None) -> Report:
        """The same results under other bounds, without running anything.

        It says what `to_onnx` or `verify` would have said with these bounds, but for the layer,
        which is looked for only where a comparison fails at first.

        Args:
            rtol: Allowed error, relative to the largest output.
            atol: Allowed absolute error. With neither, the derived tolerance is back.

        Returns:
            A new report.

        Raises:
            OptionError: A bound is negative or no number.

        Example:

        >>> import keras, tempfile, os
        >>> from kerasdl import export
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = export.to_onnx(model, os.path.join(folder, "model.onnx"))
        >>> report.judged(rtol=1e-12).passed, report.judged(rtol=1e-12).judged() == report
        (False, True)

        References: N4 (ONNX conversion).
        """
        tolerance = Tolerance.given(rtol, atol)
        checks = [check.judged(tolerance) for check in self.checks]
        return replace(deepcopy(self), checks=checks, tolerance=tolerance)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; numbers that JSON lacks become null."""
        data = {"format": FORMAT, **to_plain(self)}
        for check, plain in zip(self.checks, data["checks"], strict=True):
            plain["passed"] = check.passed
        return data | {
            "nodes": dict(sorted(self.nodes.items())),
            "histogram_edges": list(EDGES),
            "operations": self.operations,
            "remaining": self.remaining,
            "passed": self.passed,
            "conclusive": self.conclusive,
            "max_error": to_plain(self.max_error),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report of which this is the plain data.

        Args:
            data: What `to_dict` returned, or what the command line prints with `--json`.

        Returns:
            The same report. The verdict is taken anew from the comparisons.

        Raises:
            SourceError: It is no report, or one of a newer version.

        Example:

        >>> from kerasdl.export import Report
        >>> report = Report("model.keras", "model.onnx", "tiny", [], [])
        >>> Report.from_dict(report.to_dict()) == report
        True

        References: N4 (ONNX conversion).
        """
        if isinstance(data, dict) and "format" not in data and isinstance(data.get("report"), dict):
            data = data["report"]
        number = data.get("format") if isinstance(data, dict) else None
        if type(number) is not int:
            raise SourceError(
                "This is no report of kerasdl: `format` is missing. Write one with "
                "`Report.to_json()`, or with `--json` on the command line."
            )
        if number > FORMAT:
            raise SourceError(
                f"The report has format {number}, this version of kerasdl reads up to {FORMAT}. "
                "Install a newer one."
            )
        report: Report = from_plain(cls, data, "report")
        _check_ports(report)
        _check_counts(report)
        return report

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report of which this is the JSON document.

        Raises:
            SourceError: It is no JSON, no report, or one of a newer version.
        """
        try:
            data = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise SourceError(f"This is no JSON: {reason(error)}.") from error
        return cls.from_dict(data)

    def to_html(self) -> str:
        """The report as one page that needs nothing else, for a browser or for print."""
        from .html import to_html

        return to_html(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report; an old file stays until the new one is complete.

        Args:
            path: The file; `.html`, `.json` or `.txt` says which view.

        Raises:
            OptionError: The name has another suffix.
            TargetError: The file cannot be written.

        Example:

        >>> import tempfile, os
        >>> from kerasdl.export import Report
        >>> report = Report("model.keras", "model.onnx", "tiny", [], [])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "report.json")
        ...     report.save(path)
        ...     Report.load(path) == report
        True

        References: N4 (ONNX conversion).
        """
        suffix = check_suffix(path)
        view = {".html": self.to_html, ".json": self.to_json, ".txt": self.to_text}[suffix]
        # What a name on the disk cannot say in UTF-8 is escaped, as JSON would.
        content = f"{view()}\n".encode(errors="backslashreplace")
        write(check_target(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The report in a JSON file.

        Raises:
            SourceError: It cannot be read, is no report, or one of a newer version.
        """
        if not isinstance(path, str | os.PathLike):
            raise SourceError(f"The report must be the path of a file. Received: {shown(path)}.")
        try:
            if Path(path).exists() and not Path(path).is_file():
                raise SourceError(f"{path} is no ordinary file. Give a report's JSON file.")
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SourceError(f"{path} cannot be read: {reason(error)}.") from error
        try:
            return cls.from_json(text)
        except (SourceError, OptionError) as error:
            raise SourceError(f"{path}: {error}") from error

    def to_text(self) -> str:
        """The report as a person reads it."""
        from .text import to_text

        return to_text(self)


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix that says which view of a report a file holds."""
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"A report's file must be a path. Received: {shown(path)}.")
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        allowed = ", ".join(f"`{each}`" for each in SUFFIXES)
        raise OptionError(f"A report's file must end in one of {allowed}. Received: {path}.")
    return suffix


def _check_ports(report: Report) -> None:
    for port in (*report.inputs, *report.outputs):
        if port.symbols and len(port.symbols) != len(port.shape):
            raise SourceError(
                "The inputs and outputs of a report must have one symbol per axis. Received: "
                f"{shown(port.shape)} with {shown(port.symbols)} of `{port.name}`."
            )


def _check_counts(report: Report) -> None:
    for count in _integers(to_plain(report)):
        if not 0 <= count < LARGEST:
            raise SourceError(
                f"The integers of a report must be in 0..2^63 − 1. Received: {shown(count)}."
            )


def _integers(plain: Any) -> Iterator[int]:
    if isinstance(plain, int):
        yield plain
    elif isinstance(plain, dict | list):
        for item in plain.values() if isinstance(plain, dict) else plain:
            yield from _integers(item)


def strain_of(check: Check) -> float:
    """The error in units of what is allowed."""
    if check.tolerance > 0:
        return check.error / check.tolerance
    return math.inf if check.error > 0 else 0.0
