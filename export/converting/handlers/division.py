"""Division that rounds towards zero, and its rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts


@converts("TruncateDiv")
def _truncate_div(f: Formula, x: str, y: str) -> Any:
    dtype = f.dtype_of(x)
    if dtype.kind == "f":
        quotient = f.Div(x, y)
        zero = np.zeros((), dtype)
        return f.Where(f.Less(quotient, zero), f.Ceil(quotient), f.Floor(quotient))
    return f.cast(f.Div(*_wide(f, x, y)), dtype)


@converts("TruncateMod")
def _truncate_mod(f: Formula, x: str, y: str) -> Any:
    """x − (x / y) y of whole numbers: onnxruntime's Mod with this sign goes by way of float64."""
    dtype = f.dtype_of(x)
    if dtype.kind == "f":
        return f.Mod(x, y, fmod=1)
    if dtype.kind == "u":
        return f.Mod(x, y)
    x, y = _wide(f, x, y)
    return f.cast(f.Sub(x, f.Mul(f.Div(x, y), y)), dtype)


def _wide(f: Formula, *numbers: str) -> list[str]:
    """Of types that ONNX divides before operator set 14 too."""
    dtype = f.dtype_of(numbers[0])
    return [f.cast(x, np.int32 if dtype.itemsize < 4 else dtype) for x in numbers]
