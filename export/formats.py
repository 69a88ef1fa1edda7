"""Formats: the numbers that a file stores and computes with, and how each of them rounds.

| format | weights | results of layers |
|---|---|---|
| float32 | x (1 + δ), δ ≤ 2⁻²⁴ | the same |
| float16 | x (1 + δ) + ε, δ ≤ 2⁻¹¹, ε ≤ 2⁻²⁵ | the same, and the inputs too |
| bfloat16 | matrices: x (1 + δ), δ ≤ 2⁻⁸ | as float32 |
| int8 | matrices: x + ε, ε ≤ max|x| / 126 per output channel | x + ε, ε ≤ (max x − min x) / 510 |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import OptionError, shown

SAFETY = 16.0
"""Tolerance as a multiple of the noise, for float32."""


MANY, LARGEST_SCALE = 8.0, 2.0**10
"""Deviations that data may lie off their mean; a scale that kernels in float16 bear, and behind
which numbers are not subnormal."""


@dataclass(frozen=True)
class Rounding:
    """How far a number may be moved when it is stored.

    Attributes:
        unit: Largest relative error of a floating-point number.
        smallest: Largest absolute error of one that is nearly zero.
        steps: Number of steps of a fixed-point number from one end of its range to the other.
    """

    unit: float
    smallest: float = 0.0
    steps: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers that are stored without an error."""
        return np.dtype("float16" if self.smallest else "float32")

    def noise(
        self, values: np.ndarray, rng: np.random.Generator, *, channels: bool = False
    ) -> np.ndarray:
        """Random errors of the size of the rounding.

        Args:
            values: What is rounded.
            rng: Draws the errors.
            channels: Whether each channel of the last axis has a range of its own.
        """
        finite = values
        if not np.isfinite(np.sum(values)):  # one pass, where all are finite
            finite = np.where(np.isfinite(values), values, 0.0)
        # In place, and with odd numbers of 8 bits: large models have many values.
        noise: np.ndarray = np.abs(finite, out=np.empty(values.shape))
        noise *= self.unit / 128
        if self.smallest:
            noise += self.smallest / 128
        if self.steps:
            axes = tuple(range(values.ndim - 1)) if channels else None
            top = np.max(finite, axis=axes, initial=0.0)
            bottom = np.min(finite, axis=axes, initial=0.0)
            noise += (top - bottom) / (2 * self.steps * 128)
        drawn = np.frombuffer(rng.bytes(values.size), np.int8).reshape(values.shape)
        noise *= drawn | np.int8(1)
        return noise


@dataclass(frozen=True)
class Format:
    """The numbers of a file.

    Attributes:
        name: As the user writes it.
        weights: Rounding of weights.
        results: Rounding of what layers compute.
        safety: The tolerance as a multiple of what the rounding does to the outputs.
        matrices_only: Whether vectors (biases, statistics) stay in float32.
        inputs: Whether the inputs are rounded, too.
        measured: Whether ranges were measured beforehand, so that products are rounded, too, and
            not their factors alone.
        largest: The largest number.
    """

    name: str
    weights: Rounding
    results: Rounding
    safety: float = SAFETY
    matrices_only: bool = False
    inputs: bool = False
    measured: bool = False
    largest: float = np.inf

    @property
    def reach_factor(self) -> float:
        """What a reach is multiplied by, so that SAFETY times it is this format's tolerance."""
        return self.safety / SAFETY

    @property
    def folds_forwards(self) -> bool:
        """Whether a product may absorb what is in front of it: not where all channels of its
        factor are rounded in one range."""
        return not self.results.steps

    @property
    def folds_into_convolutions(self) -> bool:
        """Whether a convolution may absorb what is behind it: not where its kernel is rounded in
        one range, as onnxruntime does if ranges are not measured."""
        return not self.results.steps or self.measured

    def holds(self, scale: np.ndarray, shift: np.ndarray) -> bool:
        """Whether it holds what a map makes numbers up to 8 of, and about as well."""
        if self.largest == np.inf:
            return True
        small, shift = np.abs(scale), np.abs(shift)
        held = MANY + shift <= self.largest * small
        return bool(np.all(held & (shift <= MANY) & (small <= LARGEST_SCALE)))

    def move_weight(self, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A weight as it might have been stored."""
        if self.matrices_only and value.ndim < 2:
            return FLOAT32.move_weight(value, rng)
        channels = value.ndim == 2 or self.folds_into_convolutions
        moved: np.ndarray = value + self.weights.noise(value, rng, channels=channels)
        return moved


FLOAT32 = Format("float32", Rounding(2.0**-24), Rounding(2.0**-24))
FORMATS = {
    "float32": FLOAT32,
    "float16": Format(
        "float16",
        Rounding(2.0**-11, 2.0**-25),
        Rounding(2.0**-11, 2.0**-25),
        safety=8.0,
        inputs=True,
        largest=65504.0,
    ),
    "bfloat16": Format(
        "bfloat16", Rounding(2.0**-8), Rounding(2.0**-24), safety=8.0, matrices_only=True
    ),
    # Weights have 7 of the 8 bits, or products overflow on processors without VNNI.
    "int8": Format(
        "int8",
        Rounding(0.0, steps=126),
        Rounding(0.0, steps=255),
        safety=4.0,
        matrices_only=True,
        inputs=True,
    ),
}


STATIC_INT8 = replace(FORMATS["int8"], measured=True)


def format_of(name: str) -> Format:
    """The format of that name.

    Raises:
        OptionError: There is none.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise OptionError(
            f"`precision` must be one of {', '.join(FORMATS)}. Received: {shown(name)}."
        )
    return FORMATS[name]
