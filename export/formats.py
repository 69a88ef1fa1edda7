"""Formats: the numbers that a file stores and computes with, and how each of them rounds.

| format | weights | results of layers |
|---|---|---|
| float32 | x (1 + δ), δ ≤ 2⁻²⁴ | the same |
| float16 | x (1 + δ) + ε, δ ≤ 2⁻¹¹, ε ≤ 2⁻²⁵ | the same, and the inputs too |
| bfloat16 | matrices: x (1 + δ), δ ≤ 2⁻⁸ | as float32 |
| int8 | matrices: x + ε, ε ≤ max|x| / 126 per output channel | x + ε, ε ≤ (max x − min x) / 510 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .errors import OptionError, shown

SAFETY = 16.0
"""Tolerance as a multiple of the noise, for float32."""


MANY, LARGEST_SCALE = 8.0, 2.0**10
"""Deviations that data may lie off their mean; a scale that kernels in float16 bear, and behind
which numbers are not subnormal."""


Ends = tuple[float, float]
"""The least and the largest number of a range."""


@dataclass(frozen=True)
class Rounding:
    """How far a number may be moved when it is stored.

    Attributes:
        unit: Largest relative error of a floating-point number.
        smallest: Largest absolute error of one that is nearly zero.
        steps: Number of steps of a fixed-point number from one end of its range to the other.
        symmetric: Whether that range is as long on either side of zero.
    """

    unit: float
    smallest: float = 0.0
    steps: int = 0
    symmetric: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers that are stored without an error."""
        return np.dtype("float16" if self.smallest else "float32")

    def noise(
        self,
        values: np.ndarray,
        rng: np.random.Generator,
        *,
        channels: bool = False,
        ends: Ends | None = None,
    ) -> np.ndarray:
        """Random errors of the size of the rounding.

        Args:
            values: What is rounded.
            rng: Draws the errors.
            channels: Whether each channel of the last axis has a range of its own.
            ends: Of a range that was measured beforehand, on other values perhaps.
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
            least, most = (0.0, 0.0) if ends is None else ends
            top = np.max(finite, axis=axes, initial=max(0.0, most))
            bottom = np.min(finite, axis=axes, initial=min(0.0, least))
            if self.symmetric:
                top = np.maximum(top, -bottom)
                bottom = -top
            noise += (top - bottom) / (2 * self.steps * 128)
        drawn = np.frombuffer(rng.bytes(values.size), np.int8).reshape(values.shape)
        noise *= drawn | np.int8(1)
        if self.steps:
            noise[values == 0] = 0.0  # a step of every range
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
        ranges: Those of a file, by the layers whose numbers they are; no other layers multiply
            integers. None where that is not known.
    """

    name: str
    weights: Rounding
    results: Rounding
    safety: float = SAFETY
    matrices_only: bool = False
    inputs: bool = False
    measured: bool = False
    largest: float = np.inf
    ranges: Mapping[str, tuple[Ends, ...]] | None = field(default=None, compare=False)

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

    def rounds(self, layer: str | None) -> bool:
        """Whether the products of a layer are stored in steps."""
        if self.ranges is None or layer is None:
            return self.results.steps > 0
        return layer in self.ranges

    def ends_of(self, layer: str | None, values: np.ndarray) -> Ends | None:
        """The range of these numbers, if it was measured: of those of their layer the smallest
        that holds them, or the largest."""
        known = (self.ranges or {}).get(layer or "", ())
        if not known or not values.size:
            return None
        least, most = float(np.min(values)), float(np.max(values))
        slack = (
            most - least
        ) / self.results.steps  # an end is a step, and may lie within the numbers
        holding = [ends for ends in known if ends[0] <= least + slack and most - slack <= ends[1]]
        return min(holding, key=_extent) if holding else max(known, key=_extent)

    def move_weight(self, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A weight as it might have been stored."""
        if self.matrices_only and value.ndim < 2:
            return FLOAT32.move_weight(value, rng)
        channels = value.ndim == 2 or self.folds_into_convolutions
        moved: np.ndarray = value + self.weights.noise(value, rng, channels=channels)
        return moved


def _extent(ends: Ends) -> float:
    return ends[1] - ends[0]


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
        Rounding(0.0, steps=126, symmetric=True),
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
