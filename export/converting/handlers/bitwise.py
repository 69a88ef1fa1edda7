"""Bit by bit: and, or, exclusive or, not; ONNX has them from operator set 18 on.

Before, numbers are taken apart: one axis more holds their bits, as 0 and 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts

OPERATORS_SINCE = 18


@converts("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _bitwise(f: Formula, x: str, y: str) -> Any:
    kind, dtype = f.node.type, f.dtype_of(x)
    if f.graph.opset >= OPERATORS_SINCE:
        return getattr(f, kind)(x, y)
    lowest = np.iinfo(dtype).min
    if kind == "BitwiseAnd" and lowest < 0:
        for number, mask in ((x, y), (y, x)):
            if _is(f, mask, lowest):
                return _sign(f, number, mask)
    a, b = _bits(f, x), _bits(f, y)
    both = f.Mul(a, b)
    if kind == "BitwiseAnd":
        bits = both
    else:
        bits = f.Sub(f.Add(a, b), both if kind == "BitwiseOr" else f.Add(both, both))
    # A product and no sum: onnxruntime's sum of 64 bits is rounded, and wrong of nothing.
    powers = np.left_shift(np.uint64(1), _places(dtype))
    total = f.Squeeze(f.MatMul(bits, powers[:, np.newaxis]), [-1])
    return f.cast(f.cast(total, np.int64) if dtype.kind == "i" else total, dtype)


@converts("Invert")
def _invert(f: Formula, x: str) -> Any:
    dtype = f.dtype_of(x)
    if f.graph.opset >= OPERATORS_SINCE:
        return f.BitwiseNot(x)
    return f.cast(f.Sub(np.int64(-1), f.cast(x, np.int64)), dtype)


def _is(f: Formula, name: str, number: int) -> bool:
    source = f.graph.get_node_by_output(name)
    if source is None or not source.is_const():
        return False
    value = f.value(name)
    return value.ndim == 0 and value.item() == number


def _sign(f: Formula, x: str, mask: str) -> Any:
    """The sign bit alone, which is the lowest number."""
    dtype = f.dtype_of(x)
    wide = f.cast(x, np.int64)
    negative = f.Less(wide, np.int64(0))
    return f.cast(f.Where(negative, f.cast(mask, np.int64), np.int64(0)), dtype)


def _places(dtype: np.dtype[Any]) -> np.ndarray:
    return np.arange(8 * dtype.itemsize, dtype=np.uint64)


def _bits(f: Formula, x: str) -> str:
    """In uint64, along one more axis at the end, the lowest first."""
    dtype = f.dtype_of(x)
    if dtype.kind == "i":
        x = f.cast(x, np.int64)
    wide = f.unsqueeze(f.cast(x, np.uint64), -1)
    shifted = f.BitShift(wide, _places(dtype), direction="RIGHT")
    return str(f.Mod(shifted, np.uint64(2)))
