"""Diagonals of matrices, and the shapes of several tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .choice import WIDER, where
from .formula import Formula, converts


@converts("MatrixSetDiagV3")
def _set_diagonals(f: Formula, x: str, diagonals: str, k: str) -> Any:
    """Entry (i, j) of diagonal j − i = d is that of place i, or of j where d is negative.

    A shorter diagonal lies at the beginning or at the end of its row.
    """
    rank = len(f.shape(x))
    height, width = (f.Gather(f.Shape(x), np.int64(axis)) for axis in (rank - 2, rank - 1))
    return _with_diagonals(f, x, diagonals, k, height, width)


@converts("MatrixDiagV3")
def _matrices(f: Formula, diagonals: str, k: str, rows: str, columns: str, padding: str) -> Any:
    """Diagonals in matrices of padding, the smallest if no extent is given, square if none is."""
    low, high = _bounds(f, k)
    longest = f.Gather(f.Shape(diagonals), np.int64(-1))
    height = f.Add(longest, np.int64(-min(high, 0)))
    width = f.Add(longest, np.int64(max(low, 0)))
    given = [f.known(name) for name in (rows, columns)]
    if any(extent is None for extent in given):
        raise ValueError(f"{f.node.type} needs num_rows and num_cols as constants")
    row_count, column_count = (int(extent) for extent in given if extent is not None)
    if row_count < 0 and column_count < 0:
        height = width = f.Max(height, width)
    height = height if row_count < 0 else f.constant(np.array(row_count, np.int64))
    width = width if column_count < 0 else f.constant(np.array(column_count, np.int64))
    return _with_diagonals(f, padding, diagonals, k, height, width)


def _bounds(f: Formula, k: str) -> tuple[int, int]:
    """The lowest and the highest of the diagonals."""
    numbers = f.value(k).ravel()
    return int(numbers[0]), int(numbers[-1])


def _with_diagonals(f: Formula, x: str, diagonals: str, k: str, height: str, width: str) -> Any:
    low, high = _bounds(f, k)
    above, below = f.attribute("align").split("_")
    zero, one = np.int64(0), np.int64(1)
    rows, columns = (f.Range(zero, extent, one) for extent in (height, width))
    place = f.Sub(columns, f.unsqueeze(rows, 1))
    room = f.Gather(f.Shape(diagonals), np.int64(-1))
    for d in range(low, high + 1):
        own = f.Gather(diagonals, np.int64(high - d), axis=-2) if low < high else diagonals
        length = f.Min(f.Add(height, np.int64(min(d, 0))), f.Sub(width, np.int64(max(d, 0))))
        read = f.Min(columns if d < 0 else rows, f.Sub(length, one))
        if (d >= 0 and above == "RIGHT") or (d <= 0 and below == "RIGHT"):
            read = f.Add(read, f.Sub(room, length))
        spread = f.unsqueeze(f.Gather(own, read, axis=-1), -2 if d < 0 else -1)
        x = where(f, f.Equal(place, np.int64(d)), spread, x)
    return x


TRIANGLES_SINCE = 14
"""The operator set of Trilu."""
WIDE = {"int8", "int16", "uint8", "uint16", "uint32", "uint64"}
"""What onnxruntime's Trilu does not take."""


@converts("MatrixBandPart")
def _band(f: Formula, x: str, lower: str, upper: str) -> Any:
    """Up to so many diagonals below and above the main one, all if negative; zeros beyond.

    tf2onnx multiplies by 0, which makes NaN of what is infinite.
    """
    dtype, known = f.dtype_of(x), [f.known(name) for name in (lower, upper)]
    if f.graph.opset < TRIANGLES_SINCE or any(count is None for count in known):
        return where(f, _in_band(f, x, lower, upper), x, f.constant(np.zeros((), dtype)))
    y = f.cast(x, WIDER[dtype.name]) if dtype.name in WIDE else x
    below, above = (int(count) for count in known if count is not None)
    if above >= 0:
        y = f.Trilu(y, np.int64(above), upper=0)
    if below >= 0:
        y = f.Trilu(y, np.int64(-below), upper=1)
    return f.cast(y, dtype) if dtype.name in WIDE else f.Identity(y)


def _in_band(f: Formula, x: str, lower: str, upper: str) -> Any:
    rank = len(f.shape(x))
    zero, one = np.int64(0), np.int64(1)
    extents = [f.Gather(f.Shape(x), np.int64(axis)) for axis in (rank - 2, rank - 1)]
    rows, columns = (f.Range(zero, extent, one) for extent in extents)
    place = f.Sub(columns, f.unsqueeze(rows, 1))
    inside = []
    for count, distance in ((lower, f.Neg(place)), (upper, place)):
        count = f.cast(count, np.int64)
        inside.append(f.Or(f.Less(count, zero), f.LessOrEqual(distance, count)))
    return f.And(*inside)


@converts("ShapeN")
def _shapes(f: Formula, *tensors: str) -> Any:
    kinds = [f.dtype_of(output) for output in f.node.output]
    return [f.cast(f.Shape(x), kind) for x, kind in zip(tensors, kinds, strict=True)]
