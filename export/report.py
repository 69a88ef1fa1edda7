"""The report: one object; text and JSON are views of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from .fold import Fold
from .parity import Check
from .ports import Port

INCONCLUSIVE = (
    "float32 rounding alone may move the output by a quarter of itself, or no number "
    "of it is finite, so that a wrong file would not be noticed; `--rtol` and `--atol` set a "
    "bound of your own"
)


@dataclass
class Report:
    """Everything that is known about an export or a verification.

    Attributes:
        source: The model's path, or its name if it was in memory.
        target: The ONNX file.
        model: The model's name.
        inputs, outputs: Ends of the model.
        opset: ONNX operator set of the file.
        folds: One entry per batch normalization; empty for a verification.
        dropped: Layers that only matter in training.
        operations: Number of Keras operations in the model; None where they cannot be seen.
        nodes: Number of ONNX nodes per operator.
        size: Bytes of the file.
        checks: One entry per output, batch and onnxruntime setting.
        float64_failure: Why the tolerance does not come from a float64 run, or None.
        layer: Where a failed comparison begins to differ, or None.
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
    folds: list[Fold] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    operations: int | None = None
    nodes: Counter[str] = field(default_factory=Counter)
    size: int = 0
    checks: list[Check] = field(default_factory=list)
    float64_failure: str | None = None
    layer: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every comparison passed, and there was at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def remaining(self) -> int | None:
        """Number of Keras operations after folding."""
        if self.operations is None:
            return None
        gone = sum(fold.reason is None and not fold.closed for fold in self.folds)
        return self.operations - len(self.dropped) - gone

    @property
    def conclusive(self) -> bool:
        """Whether every comparison could have failed."""
        return all(check.conclusive for check in self.checks)

    @property
    def worst(self) -> Check | None:
        """The comparison nearest to, or furthest beyond, its tolerance."""
        return max(self.checks, key=_strain, default=None)

    @property
    def max_error(self) -> float:
        """Largest difference between ONNX and the float64 run."""
        return max((check.max_error for check in self.checks), default=math.nan)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; numbers that JSON lacks become null."""
        data = asdict(self)
        data["passed"] = self.passed
        data["max_error"] = self.max_error
        data["remaining"] = self.remaining
        data["nodes"] = dict(sorted(self.nodes.items()))
        for check, plain in zip(self.checks, data["checks"], strict=True):
            plain["passed"] = check.passed
        data["conclusive"] = self.conclusive
        return _plain(data)

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_text(self) -> str:
        """The report as a person reads it."""
        lines = [
            f"{self.source} → {self.target}",
            f"  {sum(self.nodes.values())} nodes, {self.size:,} bytes, opset {self.opset}",
            *(f"  input  {port}" for port in self.inputs),
            *(f"  output {port}" for port in self.outputs),
        ]
        lines += self._fold_lines() + self._parity_lines()
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _fold_lines(self) -> list[str]:
        lines = ["Batch normalization"] if self.folds else []
        lines += [f"  {fold}" for fold in self.folds]
        if self.dropped:
            lines.append(f"Training only, left out: {', '.join(self.dropped)}")
        if self.remaining != self.operations:
            lines.append(f"Keras operations: {self.operations} → {self.remaining}")
        return lines

    def _parity_lines(self) -> list[str]:
        lines = ["Parity with Keras in onnxruntime"]
        for key in dict.fromkeys((c.output, c.data, c.batch) for c in self.checks):
            group = [c for c in self.checks if (c.output, c.data, c.batch) == key]
            worst = max(group, key=_strain)
            lines.append(
                f"  {verdict_of(worst)} {key[0]}, {key[1]} batch of {key[2]}: "
                f"error {worst.error:.2e}, allowed {worst.tolerance:.2e} "
                f"(Keras' own rounding {worst.keras_error:.2e})"
            )
        truth = "float64 run of the model, runtime optimizations off and on"
        if self.float64_failure is not None:
            truth = f"Keras' float32 run (no float64 run: {self.float64_failure})"
        lines.append(f"  compared with: {truth}")
        if not self.conclusive:
            lines.append(f"  ?: {INCONCLUSIVE}")
        verdict = "verified" if self.passed else f"FAILED{self._at()}"
        return [*lines, f"Result: {verdict}"]

    def _at(self) -> str:
        return f", it begins to differ at layer `{self.layer}`" if self.layer else ""


def verdict_of(check: Check) -> str:
    """Four letters: passed, failed, or nothing could be told."""
    if check.conclusive:
        return "ok  " if check.passed else "FAIL"
    return "?   "


def _strain(check: Check) -> float:
    if check.tolerance > 0:
        return check.error / check.tolerance
    return math.inf if check.error > 0 else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
