"""Linear algebra by elimination, one column after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts

LARGEST = 64
"""Rows of a matrix up to which the elimination is written out."""


@converts("Cholesky")
def _cholesky(f: Formula, a: str) -> Any:
    """Column by column: l = a_j / √a_jj, then a −= l lᵀ."""
    size = _size(f, a)
    columns = []
    for j in range(size):
        column = f.slice(a, j, j + 1, -1)
        below = (np.arange(size) >= j).astype(f.dtype)[:, np.newaxis]
        column = f.Div(f.Mul(column, below), f.Sqrt(f.slice(column, j, j + 1, -2)))
        columns.append(column)
        a = f.Sub(a, f.Mul(column, _transposed(f, column)))
    return f.Concat(*columns, axis=-1)


@converts("MatrixInverse")
def _inverse(f: Formula, a: str) -> Any:
    size = _size(f, a)
    identity = f.Add(f.Mul(f.slice(a, 0, 1, -1), 0.0), np.eye(size, dtype=f.dtype))
    return _solved(f, _adjoint(f, a), identity)[0]


@converts("MatrixSolve")
def _matrix_solve(f: Formula, a: str, b: str) -> Any:
    _size(f, a)
    return _solved(f, _adjoint(f, a), b)[0]


@converts("MatrixTriangularSolve")
def _triangular_solve(f: Formula, a: str, b: str) -> Any:
    """Only one triangle is read; row by row, from the side where it has one number."""
    size = _size(f, a)
    lower = bool(f.attribute("lower"))
    a = f.Trilu(a, upper=int(not lower))
    if f.attribute("adjoint"):
        a, lower = _transposed(f, a), not lower
    done: dict[int, str] = {}
    for i in range(size) if lower else reversed(range(size)):
        row = f.slice(a, i, i + 1, -2)
        rest = f.slice(b, i, i + 1, -2)
        if done:
            known = sorted(done)
            left = f.slice(row, known[0], known[-1] + 1, -1)
            solved = f.Concat(*(done[k] for k in known), axis=-2)
            rest = f.Sub(rest, f.MatMul(left, solved))
        done[i] = f.Div(rest, f.slice(row, i, i + 1, -1))
    return f.Concat(*(done[i] for i in range(size)), axis=-2)


@converts("Lu")
def _lu(f: Formula, a: str) -> Any:
    """Gauss with partial pivoting; the multipliers stay where they made zeros."""
    size = _size(f, a)
    free: str | np.ndarray = np.ones((size, 1), f.dtype)
    chosen = []
    for k in range(size):
        column = f.slice(a, k, k + 1, -1)
        p = _largest_free(f, column, free)
        free = f.Mul(free, f.Sub(1.0, p))
        row = f.sum(f.Mul(p, a), -2, 1)
        pivot = f.slice(row, k, k + 1, -1)
        factor = f.Mul(free, f.Div(column, pivot))
        right = f.Mul(row, (np.arange(size) > k).astype(f.dtype))
        multipliers = f.And(f.Greater(free, 0.0), np.arange(size) == k)
        a = f.Where(multipliers, factor, f.Sub(a, f.Mul(factor, right)))
        chosen.append(p)
    order = _transposed(f, f.Concat(*chosen, axis=-1))
    places = f.cast(f.ArgMax(order, axis=-1, keepdims=0), f.dtype_of(f.node.output[1]))
    return [f.MatMul(order, a), places]


@converts("Qr")
def _qr(f: Formula, a: str) -> Any:
    """Householder: a ← a − 2 v (vᵀ a) / vᵀv with v = x + sign(x₀) |x| e₀, column by column."""
    rows, columns = f.extents(a, -2, -1)
    _size(f, a)
    q = f.Add(f.Mul(f.slice(a, 0, 1, -1), 0.0), np.eye(rows, dtype=f.dtype))
    for k in range(min(rows - 1, columns)):
        below = (np.arange(rows) >= k).astype(f.dtype)[:, np.newaxis]
        here = (np.arange(rows) == k).astype(f.dtype)[:, np.newaxis]
        x = f.Mul(f.slice(a, k, k + 1, -1), below)
        first = f.slice(x, k, k + 1, -2)
        norm = f.Sqrt(f.sum(f.Mul(x, x), -2, 1))
        sign = f.Where(f.GreaterOrEqual(first, 0.0), 1.0, -1.0)
        v = f.Add(x, f.Mul(f.Mul(sign, norm), here))
        tail = f.Mul(x, f.Sub(below, here))
        squares = f.sum(f.Mul(v, v), -2, 1)
        some = f.Greater(f.sum(f.Mul(tail, tail), -2, 1), 0.0)
        weight = f.Where(some, f.Div(2.0, squares), 0.0)
        vᵀ = _transposed(f, v)
        a = f.Sub(a, f.Mul(v, f.Mul(weight, f.MatMul(vᵀ, a))))
        q = f.Sub(q, f.Mul(f.MatMul(q, v), f.Mul(weight, vᵀ)))
    if not f.attribute("full_matrices"):
        a, q = f.slice(a, 0, columns, -2), f.slice(q, 0, min(rows, columns), -1)
    return [q, f.Trilu(a, upper=1)]


@converts("LogMatrixDeterminant")
def _log_determinant(f: Formula, a: str) -> Any:
    """Sign and Σ log|pivot|; the sign of the order of the rows is a determinant of its own."""
    _size(f, a)
    _, pivots, order = _solved(f, a, f.slice(a, 0, 1, -1))
    sign = f.ReduceProd(f.Sign(pivots), [-1], keepdims=0) if f.graph.opset >= 18 else None
    if sign is None:
        sign = f.ReduceProd(f.Sign(pivots), axes=[-1], keepdims=0)
    # onnxruntime has determinants of float32 only.
    parity = f.cast(f.Det(f.cast(order, np.float32)), f.dtype)
    return [f.Mul(sign, parity), f.sum(f.Log(f.Abs(pivots)), -1)]


def _solved(f: Formula, a: str, b: str) -> tuple[str, str, str]:
    """Gauss-Jordan with partial pivoting: x with a x = b, the pivots, the order of the rows.

    In step k the row with the largest |a_ik| that was no pivot before is p (a one at the row).
    It is divided by a_pk, and all other rows lose their multiple of it. In the end row p of the
    right side is x_k.
    """
    size = f.extents(a, -1)[0]
    both = f.Concat(a, b, axis=-1)
    free: str | np.ndarray = np.ones((size, 1), f.dtype)
    chosen, pivots = [], []
    for k in range(size):
        column = f.slice(both, k, k + 1, -1)
        p = _largest_free(f, column, free)
        row = f.sum(f.Mul(p, both), -2, 1)
        pivot = f.slice(row, k, k + 1, -1)
        row = f.Div(row, pivot)
        both = f.Where(f.Greater(p, 0.0), row, f.Sub(both, f.Mul(column, row)))
        free = f.Mul(free, f.Sub(1.0, p))
        chosen.append(p)
        pivots.append(f.sum(pivot, -1))
    order = _transposed(f, f.Concat(*chosen, axis=-1))
    end = np.iinfo(np.int64).max
    solution = f.MatMul(order, f.Slice(both, [size], [end], [-1]))
    return solution, f.Concat(*pivots, axis=-1), order


def _largest_free(f: Formula, column: str, free: str | np.ndarray) -> str:
    """A one at the largest number of a column, among the rows that are free."""
    rows = np.arange(f.extents(column, -2)[0])[:, np.newaxis]
    weight = f.Where(f.Greater(free, 0.0), f.Abs(column), -1.0)
    return f.cast(f.Equal(rows, f.ArgMax(weight, axis=-2, keepdims=1)), f.dtype)


def _size(f: Formula, a: str) -> int:
    size = f.extents(a, -1)[0]
    if size > LARGEST:
        raise ValueError(f"{f.node.type} is written out up to {LARGEST} rows. Received: {size}")
    return size


def _transposed(f: Formula, a: str) -> str:
    rank = len(f.shape(a))
    return str(f.Transpose(a, perm=[*range(rank - 2), rank - 1, rank - 2]))


def _adjoint(f: Formula, a: str) -> str:
    return _transposed(f, a) if f.attribute("adjoint") else a
