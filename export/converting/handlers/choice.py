"""Choices: one of two numbers, one class of many, the largest of a row.

tf2onnx multiplies by a mask instead of choosing, so that a NaN or an infinity on the side that is
not chosen spoils the result; counts negative classes from the end; and compares whole numbers as
float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts

WIDER = {
    "bool": "int32",
    "float16": "float32",
    "int8": "int32",
    "int16": "int32",
    "uint8": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
"""For numbers that onnxruntime's Where and TopK do not take: some that hold them all."""


@converts("Select", "SelectV2")
def _select(f: Formula, condition: str, x: str, y: str) -> Any:
    """Of the older operation the condition may be one per row."""
    if f.node.type == "Select":
        rank, own = len(f.shape(x)), len(f.shape(condition))
        if own == 1 and rank > 1:
            condition = f.Reshape(condition, [-1] + [1] * (rank - 1))
    return where(f, condition, x, y)


def where(f: Formula, condition: str, x: str, y: str) -> Any:
    """A choice between numbers of any type."""
    dtype = f.dtype_of(x)
    wider = WIDER.get(dtype.name)
    if wider is None:
        return f.Where(condition, x, y)
    return f.cast(f.Where(condition, f.cast(x, wider), f.cast(y, wider)), dtype)


def larger(f: Formula, x: str, y: str) -> Any:
    """onnxruntime's Max takes int64 from 2³¹ to 2³² for smaller than 0, and no int16."""
    return where(f, f.Greater(x, y), x, y)


@converts("OneHot")
def _one_hot(f: Formula, indices: str, depth: str, on: str, off: str) -> Any:
    """Classes from 0 on; a row without one of them is off throughout."""
    axis, rank = f.attribute("axis"), len(f.shape(indices))
    axis = rank if axis == -1 else axis
    classes = f.Range(np.int64(0), f.cast(depth, np.int64), np.int64(1))
    if axis < rank:
        classes = f.Reshape(classes, [-1] + [1] * (rank - axis))
    own = f.Equal(f.unsqueeze(f.cast(indices, np.int64), axis), classes)
    return where(f, own, on, off)


@converts("TopKV2")
def _top_k(f: Formula, x: str, k: str) -> Any:
    """The first of equal ones comes first."""
    dtype = f.dtype_of(x)
    if dtype == np.uint64:
        raise ValueError(f"no form of {f.node.type} for {dtype}")
    wider = WIDER.get(dtype.name)
    count = f.Reshape(f.cast(k, np.int64), [1])
    given = x if wider is None else f.cast(x, wider)
    values, places = f.TopK(given, count, outputs=2, axis=-1, sorted=int(f.attribute("sorted")))
    values = f.Identity(values) if wider is None else f.cast(values, dtype)
    return [values, f.cast(places, f.dtype_of(f.node.output[1]))]


@converts("InTopKV2")
def _in_top_k(f: Formula, predictions: str, targets: str, k: str) -> Any:
    """Fewer than k classes are more probable; false where a number is not finite.

    False for a target that is no class, too.
    """
    targets = f.cast(targets, np.int64)
    classes = f.Gather(f.Shape(predictions), np.int64(1))
    zero = np.int64(0)
    known = f.And(f.GreaterOrEqual(targets, zero), f.Less(targets, classes))
    inside = f.unsqueeze(f.Where(known, targets, zero), 1)
    own = f.GatherElements(predictions, inside, axis=1)
    above = f.sum(f.cast(f.Greater(predictions, own), np.int32), 1)
    difference = f.Sub(predictions, predictions)
    finite = f.Equal(f.sum(difference, 1), 0.0)
    return f.And(known, f.And(f.Less(above, f.cast(k, np.int32)), finite))
