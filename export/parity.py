"""Parity: does the file compute what Keras computes?

The truth is the Keras model run in float64, y. Keras' own float32 run is off it by rounding,
and so may ONNX be, but by nothing else. For every output, channel by channel (the last axis), and
over all rows of the same kind of data

    noise     = max( max|y₃₂ − y|,  reach,  2⁻²⁴ max|y| )
    tolerance = 16 · noise

where reach is how far y goes when weights and results of layers are moved as rounding might move
them (`rounding.py`). A file passes if |y_onnx − y| stays within the tolerance everywhere, for every
batch size, with onnxruntime's optimizations off and on. Integers, booleans and strings
must be equal, NaN and infinities must stand where Keras has them.

A comparison that could not have failed is none: where the tolerance exceeds a quarter of the
output, or no number is finite, the file does not pass unless the user gives a tolerance.

Where a model cannot be run in float64 (a custom layer that insists on float32), y is Keras'
float32 run and reach is taken as 2⁻²⁰ max|y|; the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .channels import channel_errors, channel_maxima, channel_noise, is_float
from .errors import OptionError
from .ports import Port
from .program import Arrays, Program
from .samples import Rows
from .truth import SAFETY, Truth, Witness

COARSEST = 0.25


@dataclass(frozen=True)
class Tolerance:
    """Bounds that replace the derived tolerance: |y_onnx − y| ≤ atol + rtol · max|y|."""

    rtol: float = 0.0
    atol: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not (np.isfinite(value) and value >= 0):
                raise OptionError(
                    f"`{name}` must be a non-negative number. Received: {name}={value}. "
                    "Leave it out to have the tolerance derived from a float64 run."
                )


@dataclass(frozen=True)
class Check:
    """One output, compared on one batch under one setting of onnxruntime.

    Attributes:
        output: Name of the output.
        data: `"random"`, or `"data"` for the user's own.
        batch: Number of rows.
        optimized: Whether onnxruntime's optimizations were on.
        max_error: Largest |y_onnx − y|; infinite where shapes, dtypes or NaNs differ.
        error: The same, in the channel that is nearest to its tolerance or furthest beyond it.
        tolerance: What was allowed in that channel.
        keras_error: Largest |y₃₂ − y|, Keras' own rounding.
        magnitude: Largest |y|.
        conclusive: Whether the comparison could have failed.
    """

    output: str
    data: str
    batch: int
    optimized: bool
    max_error: float
    error: float
    tolerance: float
    keras_error: float
    magnitude: float
    conclusive: bool = True

    @property
    def passed(self) -> bool:
        return self.conclusive and self.error <= self.tolerance


class Judge:
    """Computes the truth of batches once, and compares files with it.

    Args:
        program: The model.
        tolerance: Replaces the derived tolerance.

    Attributes:
        truths: Of every batch so far.
    """

    def __init__(self, program: Program, tolerance: Tolerance | None = None) -> None:
        self.program = program
        self.tolerance = tolerance
        self.truths: list[Truth] = []
        self._witness = Witness(program)

    @property
    def float64_failure(self) -> str | None:
        """Why there is no float64 run, or None."""
        return self._witness.float64_failure

    def add(self, rows: Sequence[Rows], data: str) -> None:
        """Run the model on batches of these rows."""
        for each in rows:
            self.truths += self._witness.of(each, data)

    def compare(self, file: Path | bytes, progress: Callable[[str], None]) -> list[Check]:
        """Run the file on every batch, with onnxruntime's optimizations off and on."""
        checks = []
        for optimized in (False, True):
            progress(f"comparing, onnxruntime optimizations {'on' if optimized else 'off'}")
            session = open_session(file, optimized)
            for truth in self.truths:
                results = run_session(session, self.program, truth.inputs)
                for index, port in enumerate(self.program.outputs):
                    checks.append(self._check(truth, index, port, results[index], optimized))
        return checks

    def _check(
        self, truth: Truth, index: int, port: Port, result: np.ndarray, optimized: bool
    ) -> Check:
        native, exact = truth.native[index], truth.exact[index]
        error = channel_errors(result, native, exact)
        magnitude = channel_maxima(native, exact)
        allowed = SAFETY * self.noise(truth.data, index)
        if self.tolerance is not None:
            allowed = self.tolerance.atol + self.tolerance.rtol * np.full(1, magnitude.max())
        errors, limits = np.broadcast_arrays(error, allowed)
        worst = int(np.argmax(_strain(errors, limits)))
        return Check(
            output=port.name,
            data=truth.data,
            batch=len(truth.inputs[0]) if truth.inputs[0].ndim else 1,
            optimized=optimized,
            max_error=float(error.max()),
            error=float(errors[worst]),
            tolerance=float(limits[worst]),
            keras_error=float(channel_errors(native, native, exact).max()),
            magnitude=float(magnitude.max()),
            conclusive=self.tolerance is not None or _could_fail(native, magnitude, limits),
        )

    def noise(self, data: str, index: int) -> np.ndarray:
        """Noise of an output per channel, over all rows of one kind of data."""
        parts = [
            channel_noise(truth.native[index], truth.exact[index], truth.reach[index])
            for truth in self.truths
            if truth.data == data
        ]
        same = len({part.shape for part in parts}) == 1
        return np.max(parts if same else [[part.max()] for part in parts], axis=0)


def _could_fail(native: np.ndarray, magnitude: np.ndarray, limits: np.ndarray) -> bool:
    """Whether a wrong file would have been noticed."""
    if not is_float(native) or native.size == 0:
        return True
    if not np.isfinite(native).any():
        return False
    return bool(limits.max() <= COARSEST * magnitude.max() or magnitude.max() == 0)


def _strain(error: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """How much of what is allowed is used up."""
    exhausted = np.where(error > 0, np.inf, 0.0)
    return np.divide(error, allowed, out=exhausted, where=allowed > 0)


def open_session(file: Path | bytes, optimized: bool) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    model = file if isinstance(file, bytes) else str(file)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, program: Program, arrays: Arrays) -> Arrays:
    """Run a session on the program's inputs, by name; outputs in the program's order."""
    names = end_names(session, program)
    feeds = dict(zip(names[0], arrays, strict=True))
    return list(session.run(names[1], feeds))


def end_names(session: Any, program: Program) -> tuple[list[str], list[str]]:
    """The file's names for the program's inputs and outputs.

    Equal names belong together; a single input or output belongs to the only one there is.

    Raises:
        OptionError: The file has other inputs or outputs than the model.
    """
    pairs = (
        ("inputs", [port.name for port in program.inputs], session.get_inputs()),
        ("outputs", [port.name for port in program.outputs], session.get_outputs()),
    )
    found = []
    for kind, wanted, ends in pairs:
        present = [end.name for end in ends]
        if len(wanted) == len(present) == 1:
            found.append(present)
        elif set(wanted) == set(present):
            found.append(wanted)
        else:
            raise OptionError(
                f"The ONNX file has the {kind} {present}, the model has {wanted}. "
                "Is it the file of another model?"
            )
    return found[0], found[1]
