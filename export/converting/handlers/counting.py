"""Counts and rows: how often each number occurs in a row, which place it has there.

Ragged rows are of different lengths, one behind the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import ADDS_SINCE, HANDLERS, Formula, converts


@converts("RaggedBincount")
def _count_ragged(f: Formula, splits: str, values: str, size: str, weights: str) -> Any:
    splits = f.cast(splits, np.int64)
    rows = f.Sub(f.Shape(splits), [1])
    return _counts(f, rows_of(f, splits, values), values, rows, size, weights)


def _dense(graph: Any, node: Any, name: str, args: Any) -> None:
    """Where ScatterND does not add up, in tf2onnx's own form."""
    from tf2onnx.onnx_opset.tensor import Bincount

    if graph.opset < ADDS_SINCE:
        if 0 not in Formula(graph, node).shape(node.input[2]):
            raise ValueError(f"{node.type} with weights needs opset {ADDS_SINCE}")
        Bincount.any_version(graph.opset, graph, node)
        return
    formula = Formula(graph, node)
    formula.finish([_count_dense(formula, *node.input)])


HANDLERS["DenseBincount"] = (_dense, [])


def _count_dense(f: Formula, values: str, size: str, weights: str) -> Any:
    if len(f.shape(values)) == 1:
        return _counts(f, None, values, None, size, weights)
    rows, columns = (f.slice(f.Shape(values), axis, axis + 1, 0) for axis in (0, 1))
    places = f.Range(np.int64(0), f.Reshape(rows, np.zeros(0, np.int64)), np.int64(1))
    owners = f.Expand(f.unsqueeze(places, 1), f.Concat(rows, columns, axis=0))
    flat = f.Reshape(values, [-1])
    return _counts(f, f.Reshape(owners, [-1]), flat, rows, size, weights)


def _counts(f: Formula, owners: Any, values: str, rows: Any, size: str, weights: str) -> Any:
    """One row of counts, or of sums of weights, per owner, or a single one."""
    dtype, binary = f.dtype_of(weights), f.attribute("binary_output")
    weighted = 0 not in f.shape(weights) and not binary
    if weighted and f.graph.opset < ADDS_SINCE:
        raise ValueError(f"{f.node.type} with weights needs opset {ADDS_SINCE}")
    values, size = f.cast(values, np.int64), f.cast(size, np.int64)
    counted = f.And(f.GreaterOrEqual(values, np.int64(0)), f.Less(values, size))
    places, shape = f.unsqueeze(values, 1), f.Reshape(size, [1])
    if owners is not None:
        places = f.Concat(f.unsqueeze(owners, 1), places, axis=1)
        shape = f.Concat(rows, shape, axis=0)
    places = f.Compress(places, counted, axis=0)
    if weighted:
        added = f.Compress(f.Reshape(weights, [-1]), counted, axis=0)
    else:
        added = f.Expand(np.ones(1, dtype), f.slice(f.Shape(places), 0, 1, 0))
    nothing = f.Expand(np.zeros((), dtype), shape)
    reduction = {} if binary else {"reduction": "add"}
    return f.ScatterND(nothing, places, added, **reduction)


@converts("HistogramFixedWidth")
def _histogram(f: Formula, values: str, limits: str, bins: str) -> Any:
    """Numbers beyond the limits are counted in the first and the last bin.

    One on the border of two bins may be rounded into the other one.
    """
    if f.graph.opset < ADDS_SINCE:
        raise ValueError(f"{f.node.type} needs opset {ADDS_SINCE}")
    f.dtype = np.dtype(np.float64)
    dtype, count = f.dtype_of(f.node.output[0]), f.cast(bins, np.int64)
    low, high = (f.Gather(limits, np.int64(i)) for i in (0, 1))
    step = f.Div(f.cast(f.Sub(high, low), np.float64), f.cast(count, np.float64))
    above = f.cast(f.Sub(f.Max(values, low), low), np.float64)
    last = f.Sub(count, np.int64(1))
    place = f.Min(f.Div(f.Reshape(above, [-1]), step), f.cast(last, np.float64))
    places = f.unsqueeze(f.cast(place, np.int64), 1)
    ones = f.Expand(np.ones(1, dtype), f.slice(f.Shape(places), 0, 1, 0))
    nothing = f.Expand(np.zeros((), dtype), f.Reshape(count, [1]))
    return f.ScatterND(nothing, places, ones, reduction="add")


def _to_dense(graph: Any, node: Any, name: str, args: Any) -> None:
    """Of rows of numbers; what has more axes is left to tf2onnx."""
    from tf2onnx.onnx_opset.tensor import RaggedTensorToTensor

    f = Formula(graph, node)
    kinds = [kind.decode() for kind in f.attribute("row_partition_types")]
    shape, values, default, *parts = node.input
    known = kinds in (["ROW_SPLITS"], ["FIRST_DIM_SIZE", "VALUE_ROWIDS"])
    if not known or len(f.shape(values)) != 1 or graph.opset < ADDS_SINCE:
        RaggedTensorToTensor.version_11(graph, node)
        return
    if len(parts) == 1:
        splits = f.cast(parts[0], np.int64)
        owners, count = rows_of(f, splits, values), f.Sub(f.Shape(splits), [1])
    else:
        owners, count = f.cast(parts[1], np.int64), f.Reshape(f.cast(parts[0], np.int64), [1])
    f.finish([_dense_rows(f, shape, values, default, owners, count)])


HANDLERS["RaggedTensorToTensor"] = (_to_dense, [])


def _dense_rows(f: Formula, shape: str, values: str, default: str, owners: str, count: str) -> Any:
    """Rows filled up, or cut off, to one length."""
    lengths, columns = columns_of(f, owners, count)
    extents = f.Concat(count, f.ReduceMax(f.Concat(lengths, [0], axis=0), [0]), axis=0)
    if f.shape(shape):
        shape = f.cast(shape, np.int64)
        extents = f.Where(f.Less(shape, np.int64(0)), extents, shape)
    places = f.Concat(f.unsqueeze(owners, 1), f.unsqueeze(columns, 1), axis=1)
    outside = f.sum(f.cast(f.GreaterOrEqual(places, extents), np.int64), 1)
    inside = f.Equal(outside, np.int64(0))
    places, values = (f.Compress(x, inside, axis=0) for x in (places, values))
    return f.ScatterND(f.Expand(default, extents), places, values)


def rows_of(f: Formula, splits: str, entries: str) -> str:
    """Of each entry the row, given where rows begin and end."""
    extent = f.Shape(entries)
    ends = f.Slice(splits, [1], [-1], [0])
    steps = f.Expand([0], f.Add(extent, [1]))
    ones = f.Expand([1], f.Shape(ends))
    steps = f.ScatterND(steps, f.unsqueeze(ends, 1), ones, reduction="add")
    return str(f.CumSum(f.Slice(steps, [0], extent, [0]), np.int64(0)))


def columns_of(f: Formula, owners: str, count: str) -> tuple[str, str]:
    """How many entries each of so many rows has, and the place of each entry in its row."""
    ones = f.Expand([1], f.Shape(owners))
    lengths = f.ScatterND(f.Expand([0], count), f.unsqueeze(owners, 1), ones, reduction="add")
    starts = f.CumSum(lengths, np.int64(0), exclusive=1)
    return lengths, f.Sub(range_of(f, owners), f.Gather(starts, owners))


def range_of(f: Formula, entries: str) -> Any:
    """0, 1, ... for the entries."""
    extent = f.Reshape(f.Shape(entries), np.zeros(0, np.int64))
    return f.Range(np.int64(0), extent, np.int64(1))
