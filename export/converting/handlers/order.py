"""Search and order, sums over segments, whole numbers, shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .formula import ADDS_SINCE, COMPARES_SINCE, Formula, converts


@converts("LowerBound", "UpperBound")
def _bound(f: Formula, ordered: str, values: str) -> Any:
    """How many of the ordered numbers of the same row come before each value."""
    before = f.Less if f.node.type == "LowerBound" else f.LessOrEqual
    found = before(f.unsqueeze(ordered, 1), f.unsqueeze(values, 2))
    return f.sum(f.cast(found, np.int32), 2)


@converts("Bucketize")
def _bucketize(f: Formula, x: str) -> Any:
    """How many boundaries a number reaches; NaN comes behind all of them."""
    boundaries = np.asarray(f.attribute("boundaries"), np.float32)
    if f.dtype_of(x).kind != "f":
        x = f.cast(x, np.float32)
    below = f.Less(f.unsqueeze(x, -1), boundaries.astype(f.dtype_of(x)))
    return f.sum(f.cast(f.Not(below), np.int32), -1)


REDUCTION = {"Sum": "add", "Prod": "mul", "Max": "max", "Min": "min"}


@converts(*(f"UnsortedSegment{kind}" for kind in REDUCTION))
def _segment(f: Formula, data: str, ids: str, count: str) -> Any:
    """Scattered into rows of the neutral number; negative ids go into a row that is cut off."""
    kind = f.node.type.removeprefix("UnsortedSegment")
    since = ADDS_SINCE if kind in {"Sum", "Prod"} else COMPARES_SINCE
    if f.graph.opset < since:
        raise ValueError(f"{f.node.type} needs opset {since}")
    dtype = f.dtype_of(data)
    rank = len(f.shape(ids))
    rows = f.Reshape(f.cast(count, np.int64), [1])
    ids = f.cast(ids, np.int64)
    ids = f.Where(f.Less(ids, 0), rows, ids)
    inner = f.Slice(f.Shape(data), [rank], [len(f.shape(data))], [0])
    shape = f.Concat(f.Add(rows, 1), inner, axis=0)
    start = f.Expand(np.asarray(_neutral(kind, dtype), dtype), shape)
    total = f.ScatterND(start, f.unsqueeze(ids, -1), data, reduction=REDUCTION[kind])
    return f.Slice(total, [0], rows, [0])


def _neutral(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a segment without rows is."""
    if kind in {"Sum", "Prod"}:
        return int(kind == "Prod")
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return limits.min if kind == "Max" else limits.max


@converts("FloorDiv")
def _floor_div(f: Formula, x: str, y: str) -> Any:
    quotient = f.Div(x, y)
    if f.dtype_of(x).kind == "f":
        return f.Floor(quotient)
    dtype = f.dtype_of(x)
    if dtype.kind == "u":
        return quotient
    rest = f.Sub(x, f.Mul(quotient, y))
    zero = np.zeros((), dtype)
    opposite = f.Xor(f.Less(rest, zero), f.Less(y, zero))
    down = f.And(f.Not(f.Equal(rest, zero)), opposite)
    return f.Sub(quotient, f.cast(down, dtype))


@converts("FloorMod")
def _floor_mod(f: Formula, x: str, y: str) -> Any:
    """The rest of a division, with the sign of the divisor."""
    dtype = f.dtype_of(x)
    if dtype.kind != "f":
        return f.Mod(x, y)
    zero = np.zeros((), dtype)
    rest = f.Mod(x, y, fmod=1)
    opposite = f.Xor(f.Less(rest, zero), f.Less(y, zero))
    moved = f.And(f.Not(f.Equal(rest, zero)), opposite)
    return f.Where(moved, f.Add(rest, y), rest)


@converts("BroadcastArgs")
def _broadcast_args(f: Formula, a: str, b: str) -> Any:
    """The shape that two shapes broadcast to."""
    dtype = f.dtype_of(a)
    lengths = [f.extents(x, 0)[0] for x in (a, b)]
    ones = [np.ones(max(lengths) - length, np.int64) for length in lengths]
    a, b = (
        f.Concat(one, f.cast(x, np.int64), axis=0) if one.size else f.cast(x, np.int64)
        for one, x in zip(ones, (a, b), strict=True)
    )
    return f.cast(f.Where(f.Equal(a, [1]), b, a), dtype)


@converts("XlaDynamicUpdateSlice")
def _update_slice(f: Formula, x: str, update: str, start: str) -> Any:
    """The update and a mask, both padded to the whole shape; a start too late is moved back."""
    room = f.Sub(f.Shape(x), f.Shape(update))
    start = f.Max(f.Min(f.cast(start, np.int64), room), [0])
    pads = f.Concat(start, f.Sub(room, start), axis=0)
    zero = np.zeros((), f.dtype_of(x))
    mask = f.Expand(np.ones((), np.int64), f.Shape(update))
    inside = f.Equal(f.Pad(mask, pads, np.zeros((), np.int64)), [1])
    return f.Where(inside, f.Pad(update, pads, zero), x)


@converts("InvertPermutation")
def _invert_permutation(f: Formula, p: str) -> Any:
    dtype = f.dtype_of(p)
    length = f.Gather(f.Shape(p), np.int64(0))
    places = f.Range(np.int64(0), length, np.int64(1))
    p = f.cast(p, np.int64)
    return f.cast(f.ScatterElements(p, p, places, axis=0), dtype)


@converts("ScatterNd")
def _scatter(f: Formula, indices: str, updates: str, shape: str) -> Any:
    """Numbers that share a place are added."""
    known = f.known(indices)
    several = known is None or _repeats(known)
    if several and f.graph.opset < ADDS_SINCE:
        raise ValueError(f"ScatterNd of indices that may be equal needs opset {ADDS_SINCE}")
    zeros = f.Expand(np.zeros((), f.dtype_of(updates)), f.cast(shape, np.int64))
    options = {"reduction": "add"} if several else {}
    return f.ScatterND(zeros, f.cast(indices, np.int64), updates, **options)


def _repeats(indices: np.ndarray) -> bool:
    rows = indices.reshape(math.prod(indices.shape[:-1]), indices.shape[-1])
    return len(np.unique(rows, axis=0)) < len(rows)


@converts("ReverseV2")
def _reverse(f: Formula, x: str, axes: str) -> Any:
    """From the last to the first; of complex numbers, the axis of pairs stays where it is."""
    shape = f.graph.get_shape(f.node.output[0])
    places = [axis if shape is None else axis % len(shape) for axis in f.value(axes).tolist()]
    if not places:
        return f.Identity(x)
    ends = [np.iinfo(np.int64).min] * len(places)
    return f.Slice(x, [-1] * len(places), ends, places, [-1] * len(places))


@converts("Cross")
def _cross(f: Formula, a: str, b: str) -> Any:
    a, b = (f.Concat(x, x, axis=-1) for x in (a, b))
    left = f.Mul(f.slice(a, 1, 4, -1), f.slice(b, 2, 5, -1))
    return f.Sub(left, f.Mul(f.slice(a, 2, 5, -1), f.slice(b, 1, 4, -1)))
