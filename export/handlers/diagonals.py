"""Diagonals of matrices, and the shapes of several tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .choice import where
from .formula import Formula, converts


@converts("MatrixSetDiagV3")
def _set_diagonals(f: Formula, x: str, diagonals: str, k: str) -> Any:
    """Entry (i, j) of diagonal j − i = d is that of place i, or of j where d is negative.

    A shorter diagonal lies at the beginning or at the end of its row.
    """
    low, high = (int(f.value(k).ravel()[end]) for end in (0, -1))
    above, below = f.attribute("align").split("_")
    rank = len(f.shape(x))
    height, width = (f.Gather(f.Shape(x), np.int64(axis)) for axis in (rank - 2, rank - 1))
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


@converts("ShapeN")
def _shapes(f: Formula, *tensors: str) -> Any:
    kinds = [f.dtype_of(output) for output in f.node.output]
    return [f.cast(f.Shape(x), kind) for x, kind in zip(tensors, kinds, strict=True)]
