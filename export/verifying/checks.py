"""Checks: what comparisons of outputs say, and under which tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from ..errors import OptionError
from .samples import EDGES


@dataclass(frozen=True)
class Tolerance:
    """Bounds that replace the derived tolerance: |y_onnx − y| ≤ atol + rtol · max|y|."""

    rtol: float = 0.0
    atol: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not 0 <= value < math.inf:
                raise OptionError(
                    f"`{name}` must be a non-negative number. Received: {name}={value}. "
                    "Leave it out to have the tolerance derived from a float64 run."
                )

    @classmethod
    def given(cls, rtol: float | None, atol: float | None) -> Tolerance | None:
        """The bounds that a user gives, or None if neither is given."""
        if rtol is None and atol is None:
            return None
        return cls(_number("rtol", rtol), _number("atol", atol))

    def __str__(self) -> str:
        relative = f"{self.rtol:g} · max|y|" if self.rtol else ""
        absolute = f"{self.atol:g}" if self.atol or not self.rtol else ""
        return " + ".join(filter(None, (absolute, relative)))


def _number(name: str, value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(f"`{name}` must be a number. Received: {name}={value!r}.")
    try:
        return float(value)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Derived:
    """What a comparison says by the derived tolerance, where a given one has replaced it.

    Attributes:
        error, tolerance, conclusive: As in `Check`.
    """

    error: float
    tolerance: float
    conclusive: bool


@dataclass(frozen=True)
class Check:
    """One output, compared on one batch under one setting of onnxruntime.

    Attributes:
        output: Name of the output.
        data: `"random"`, `"edges"`, or `"data"` for the user's own.
        batch: Number of rows.
        optimized: Whether onnxruntime's optimizations were on.
        max_error: Largest |y_onnx − y|; infinite where shapes, dtypes or NaNs differ. y is the
            float64 run, or Keras' float32 run where that was enough.
        error: The same, in the channel that is nearest to its tolerance or furthest beyond it.
        tolerance: What was allowed in that channel.
        keras_error: Largest |y₃₂ − y|, Keras' own rounding; None where a file was so near to y₃₂
            that no float64 run was needed.
        magnitude: Largest |y|.
        conclusive: Whether the comparison could have failed.
        histogram: Numbers of the output per bin of |y_onnx − y| in units of the derived
            tolerance; see `histogram.py`.
        derived: The verdict without the tolerance that was given, or None if none was.
        usual: Of edges, the largest |y| on random data; else None.
        clipped: How far the ends of measured ranges move that channel (`clipping.py`). As much is
            allowed besides, but no more than what rounding is allowed; zero where nothing was
            measured.
    """

    output: str
    data: str
    batch: int
    optimized: bool
    max_error: float
    error: float
    tolerance: float
    keras_error: float | None
    magnitude: float
    conclusive: bool = True
    histogram: tuple[int, ...] = ()
    derived: Derived | None = None
    usual: float | None = None
    clipped: float = 0.0

    @property
    def beyond_ranges(self) -> bool:
        """Whether it failed for data beyond the ranges that were measured, and nothing else."""
        derived = self.derived or self
        return not self.passed and derived.tolerance < derived.error <= (
            derived.tolerance + self.clipped
        )

    @property
    def passed(self) -> bool:
        return self.conclusive and self.error <= self.tolerance and self.error < math.inf

    def judged(self, tolerance: Tolerance | None) -> Check:
        """The same result under a given tolerance, or under the derived one.

        Edges may be far from anybody's data, and a user's tolerance is about those: its absolute
        part grows with the numbers, and it never allows less than the derived one.
        """
        derived = self.derived or Derived(self.error, self.tolerance, self.conclusive)
        if tolerance is None:
            return replace(self, **vars(derived), derived=None)
        larger = max(1.0, self.magnitude / self.usual) if self.usual else 1.0
        allowed = tolerance.atol * larger + tolerance.rtol * self.magnitude
        if self.data == EDGES:
            allowed = max(allowed, derived.tolerance)
        return replace(
            self, error=self.max_error, tolerance=allowed, conclusive=True, derived=derived
        )
