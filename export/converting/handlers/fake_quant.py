"""Numbers rounded to the steps of a quantized type, in float32 as TensorFlow's kernels do it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts


@converts("FakeQuantWithMinMaxArgs")
def _by_attributes(f: Formula, x: str) -> Any:
    return _rounded(f, x, np.float32(f.attribute("min")), np.float32(f.attribute("max")))


@converts("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
def _by_inputs(f: Formula, x: str, low: str, high: str) -> Any:
    """A range from 0 to 0 has no numbers but 0."""
    ends = [f.value(end).astype(np.float32) for end in (low, high)]
    nothing = (ends[0] == 0) & (ends[1] == 0)
    result = _rounded(f, x, *ends)
    return f.Where(nothing, 0.0, result) if nothing.any() else result


def _rounded(f: Formula, x: str, low: Any, high: Any) -> str:
    """⌊(x − l) / s − z + ½⌋ s with x kept inside [l, h]; l and h are moved so that 0 is a step.

    The operation with a range per call divides by s, the others multiply by 1 / s.
    """
    half = np.float32(0.5)
    first = np.float32(bool(f.attribute("narrow_range")))
    last = np.float32(2 ** f.attribute("num_bits") - 1)
    with np.errstate(all="ignore"):
        scale, inverse = (high - low) / (last - first), (last - first) / (high - low)
        # Half a step is added in float64, where the sum is exact.
        place = np.floor((first - low / scale).astype(np.float64) + 0.5)
        place = np.clip(place, first, last).astype(np.float32)
        bottom, top = (first - place) * scale, (last - place) * scale
        zero = np.floor(-bottom * inverse + half)
    above = f.Sub(f.Max(f.Min(x, top), bottom), bottom)
    by_call = f.node.type == "FakeQuantWithMinMaxVars"
    steps = f.Div(above, scale) if by_call else f.Mul(above, inverse)
    return str(f.Mul(f.Floor(f.Add(f.Sub(steps, zero), half)), scale))
