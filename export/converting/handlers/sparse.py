"""Sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import ADDS_SINCE, Formula, converts


@converts("SparseTensorDenseMatMul")
def _times_dense(f: Formula, places: str, values: str, shape: str, b: str) -> Any:
    """Rows of b times the values, added to the rows that they belong to.

    What is not in the matrix meets no NaN and no infinity this way.
    """
    if f.graph.opset < ADDS_SINCE:
        raise ValueError(f"{f.node.type} needs opset {ADDS_SINCE}")
    dtype = f.dtype_of(b)
    turned = int(bool(f.attribute("adjoint_a")))
    if f.attribute("adjoint_b"):
        b = f.Transpose(b, perm=[1, 0])
    places = f.cast(places, np.int64)
    rows = f.slice(places, turned, turned + 1, 1)
    columns = f.Gather(places, np.int64(1 - turned), axis=1)
    products = f.Mul(f.unsqueeze(values, 1), f.Gather(b, columns, axis=0))
    height = f.slice(f.cast(shape, np.int64), turned, turned + 1, 0)
    zeros = f.Expand(np.zeros((), dtype), f.Concat(height, f.slice(f.Shape(b), 1, 2, 0), axis=0))
    return f.ScatterND(zeros, rows, products, reduction="add")
