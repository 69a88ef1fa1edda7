"""Reductions: of the types that onnxruntime lacks, of segments, of all numbers up to a place."""

from __future__ import annotations

from typing import Any

import numpy as np

from .choice import WIDER
from .elementary import log1p
from .formula import ADDS_SINCE, COMPARES_SINCE, FLOATS, HANDLERS, Formula, converts
from .left import converts_some, leave
from .products import along_the_first, scan

SMALL = {"int8", "int16", "uint8", "uint16", "uint32"}
LONG = {"int32", "int64", "uint64"}
FEW = 64
"""Numbers along an axis whose product is written out."""
MOVING = {"Cast", "Concat", "Gather", "GatherV2", "Identity", "Pack", "Slice", "Squeeze"}
MOVING |= {"ConcatV2", "StridedSlice", "Unsqueeze"}
LACKING = {
    "Sum": SMALL,
    "Mean": SMALL,
    "Max": {"int16", "uint16", "uint32"},
    "Min": {"int16", "uint16", "uint32"},
    "ArgMax": {"bool", "int16", "uint16", "uint32"},
    "ArgMin": {"bool", "int16", "uint16", "uint32"},
}
"""What onnxruntime does not reduce; all of these numbers are numbers of float64."""
DOUBLE = 11
"""ONNX's number of the type."""
SEGMENTS = {
    "SegmentSum": ("add", ADDS_SINCE),
    "SegmentMean": ("add", ADDS_SINCE),
    "SegmentProd": ("mul", ADDS_SINCE),
    "SegmentMax": ("max", COMPARES_SINCE),
    "SegmentMin": ("min", COMPARES_SINCE),
}


def _reduce(graph: Any, node: Any, name: str, args: Any) -> None:
    """Sums of small types in int64, which onnxruntime adds in float64.

    The largest in float64: onnxruntime takes int64 from 2³¹ to 2³² for smaller than 0.
    """
    f = Formula(graph, node)
    x, result = node.input[0], node.output[0]
    if node.type == "Sum" and _may_be_large(f, x, node.input[1]):
        f.finish([_exact_sum(f, x, node.input[1])])
        return
    if node.type in {"Max", "Min"} and _is_long(f, x, node.input[1]):
        f.finish([_of_long_numbers(f, x, node.input[1])])
        return
    if graph.get_dtype(x) and f.dtype_of(x).name in LACKING[node.type]:
        wide = np.int64 if node.type in {"Sum", "Mean"} else np.float64
        graph.replace_input(node, x, f.cast(x, wide), 0)
        if not node.type.startswith("Arg"):
            kind, shape = graph.get_dtype(result), graph.get_shape(result)
            back = graph.insert_new_node_on_output("Cast", result, to=kind).output[0]
            graph.set_dtype(result, graph.get_dtype(node.input[0]))
            graph.set_dtype(back, kind)
            graph.set_shape(back, shape)
    leave(graph, node)
    _count_from_the_end(graph, node)


def _may_be_large(f: Formula, x: str, axes: str) -> bool:
    """Whether a sum may not be a number of float64, or wrap."""
    rank, known, source = f.graph.get_rank(x), f.known(axes), f.graph.get_node_by_output(x)
    if not f.graph.get_dtype(x) or rank is None or known is None or _is_of_extents(f, x):
        return False
    dtype = f.dtype_of(x)
    if source is not None and source.type == "Cast":
        given = f.dtype_of(source.input[0])
        if given == np.bool_ or (given.name in SMALL - {"uint32"} and dtype == np.int64):
            return False
    return dtype.name in LONG | {"uint32"}


def _exact_sum(f: Formula, x: str, axes: str) -> Any:
    """One axis after the other, as a product with ones, which wraps.

    Signed, since onnxruntime refuses unsigned products of nothing.
    """
    shape, dtype = f.shape(x), f.dtype_of(x)
    wide = np.dtype(WIDER.get(dtype.name, dtype.name))
    x = f.cast(x, wide) if wide != dtype else f.Identity(x)
    gone = sorted({axis % len(shape) for axis in f.value(axes).ravel().tolist()})
    for axis in reversed(gone):
        rest = [place for place in range(len(shape)) if place != axis]
        if axis < len(shape) - 1:
            x = f.Transpose(x, perm=[*rest, axis])
        x = f.Squeeze(f.MatMul(x, _ones(f, x, shape[axis], wide)), [-1])
        shape = [shape[place] for place in rest]
        f.graph.set_shape(x, shape)
    x = f.unsqueeze(x, *gone) if f.attribute("keep_dims") and gone else x
    return f.cast(x, dtype) if wide != dtype else x


def _ones(f: Formula, x: str, count: int, dtype: np.dtype[Any]) -> Any:
    """As many as the last axis of x has numbers: a column, since onnxruntime refuses the product
    of an empty x and a row."""
    if 0 <= count <= FEW:
        return np.ones((count, 1), dtype)
    extent = f.Slice(f.Shape(x), [-1], [np.iinfo(np.int64).max])
    return f.Expand(np.ones((), dtype), f.Concat(extent, [1], axis=0))


def _is_long(f: Formula, x: str, axes: str) -> bool:
    rank, known = f.graph.get_rank(x), f.known(axes)
    if f.dtype_of(x) != np.int64 or not rank or known is None:
        return False
    return rank - 1 in {axis % rank for axis in known.ravel().tolist()}


def _of_long_numbers(f: Formula, x: str, axes: str) -> Any:
    """With an axis of extent 1 behind: along the last one onnxruntime takes some numbers from 2³¹
    on for smaller ones."""
    rank = len(f.shape(x))
    gone = sorted({axis % rank for axis in f.value(axes).ravel().tolist()})
    keep = int(bool(f.attribute("keep_dims")))
    reduce = getattr(f, f"Reduce{f.node.type}")
    x = f.unsqueeze(x, rank)
    if f.graph.opset < COMPARES_SINCE:
        x = reduce(x, axes=gone, keepdims=keep)
    else:
        x = reduce(x, gone, keepdims=keep)
    return f.Squeeze(x, [-1])


def _count_from_the_end(graph: Any, node: Any) -> None:
    """tf2onnx would make a pooling of axes from 2 on, which onnxruntime lacks for float64."""
    rank, axes = graph.get_rank(node.input[0]), node.get_attr_value("axes")
    if rank and axes and graph.get_dtype(node.input[0]) == DOUBLE:
        node.set_attr("axes", [axis - rank if axis >= 0 else axis for axis in axes])


HANDLERS.update({kind: (_reduce, []) for kind in LACKING})


@converts("EuclideanNorm")
def _norm(f: Formula, x: str, axes: str) -> Any:
    """√ Σ x² along axes; of no axis, |x|."""
    keep = int(bool(f.attribute("keep_dims")))
    dtype = f.dtype_of(x)
    if dtype not in FLOATS.values():
        x, f.dtype = f.cast(x, np.float64), np.dtype(np.float64)
    squares = f.Mul(x, x)
    axes = f.Reshape(f.cast(axes, np.int64), [-1])
    total = f.ReduceSum(squares, axes, keepdims=keep, noop_with_empty_axes=1)
    y = f.Sqrt(total)
    return y if dtype in FLOATS.values() else f.cast(y, dtype)


@converts_some("Prod")
def _product(f: Formula, x: str, axes: str) -> Any:
    """One axis after the other: TensorFlow's products wrap, those of ONNX do not.

    Along an axis of few numbers halves times halves, else step by step.
    """
    dtype, known = f.dtype_of(x), f.known(axes)
    left = known is None and dtype in {np.dtype(np.int32), np.dtype(np.int64)}
    if dtype.name not in SMALL | LONG or left or _is_of_extents(f, x):
        return None
    shape = f.shape(x)
    gone = sorted({axis % len(shape) for axis in f.value(axes).ravel().tolist()})
    wide = WIDER.get(dtype.name)
    x = f.Identity(x) if wide is None else f.cast(x, wide)
    for axis in reversed(gone):
        few = 0 < shape[axis] <= FEW
        x = _halved_product(f, x, axis, shape[axis]) if few else _last_product(f, x, axis)
        del shape[axis]
        f.graph.set_shape(x, shape)
    x = x if wide is None else f.cast(x, dtype)
    return f.unsqueeze(x, *gone) if f.attribute("keep_dims") and gone else x


def _is_of_extents(f: Formula, x: str) -> bool:
    """Whether numbers are extents of tensors, whose products do not overflow."""
    source = f.graph.get_node_by_output(x)
    if source is None or source.type not in {"Shape", "Const", *MOVING}:
        return False
    return source.type not in MOVING or all(_is_of_extents(f, name) for name in source.input)


def _halved_product(f: Formula, x: str, axis: int, extent: int) -> str:
    while extent > 1:
        half = extent // 2
        y = f.Mul(f.slice(x, 0, half, axis), f.slice(x, half, 2 * half, axis))
        x = f.Concat(y, f.slice(x, 2 * half, extent, axis), axis=axis) if extent % 2 else y
        extent -= half
    return str(f.Squeeze(x, [axis]))


def _last_product(f: Formula, x: str, axis: int) -> str:
    """The last of the products along an axis, behind a one."""
    shape = f.shape(x)
    rest = [*range(axis), *range(axis + 1, len(shape))]
    x = f.Transpose(x, perm=[axis, *rest])
    extents = f.slice(f.Shape(x), 1, len(shape), 0)
    one = f.Expand(np.ones((), f.dtype_of(x)), f.Concat([1], extents, axis=0))
    row = f.Concat(one, x, axis=0)
    f.graph.set_shape(row, [-1, *(shape[axis] for axis in rest)])
    result = f.Gather(along_the_first(f, row), np.int64(-1), axis=0)
    f.graph.set_shape(result, [shape[axis] for axis in rest])
    return str(result)


@converts_some(*SEGMENTS)
def _segments(f: Formula, data: str, ids: str) -> Any:
    """Scattered into rows of the neutral number; of an empty segment, 0 or a product of 1."""
    kind, dtype = f.node.type, f.dtype_of(data)
    reduction, since = SEGMENTS[kind]
    if f.graph.opset < since:
        if kind in {"SegmentSum", "SegmentProd"}:
            return None
        raise ValueError(f"{kind} needs opset {since}")
    if dtype == np.uint64:
        raise ValueError(f"no form of {kind} for {dtype}")
    wide = np.dtype(WIDER.get(dtype.name, dtype.name))
    ids, data = f.cast(ids, np.int64), f.cast(data, wide)
    end = np.iinfo(np.int64).max
    rows = f.Add(f.Slice(f.Concat([-1], ids, axis=0), [-1], [end], [0]), [1])
    inner = f.Slice(f.Shape(data), [1], [end], [0])
    start = f.Expand(_neutral(reduction, wide), f.Concat(rows, inner, axis=0))
    places = f.unsqueeze(ids, 1)
    total = f.ScatterND(start, places, data, reduction=reduction)
    if kind not in {"SegmentSum", "SegmentProd"}:
        ones = f.Expand(np.int64(1), f.Shape(ids))
        counts = f.ScatterND(f.Expand(np.int64(0), rows), places, ones, reduction="add")
        counts = f.Reshape(counts, [-1] + [1] * (len(f.shape(data)) - 1))
        if kind == "SegmentMean":
            total = f.Div(total, f.cast(f.Max(counts, np.int64(1)), wide))
        else:
            total = f.Where(f.Equal(counts, np.int64(0)), np.zeros((), wide), total)
    return f.cast(total, dtype)


def _neutral(reduction: str, dtype: np.dtype[Any]) -> np.ndarray:
    """What changes no number that it is reduced with."""
    if reduction in {"add", "mul"}:
        return np.asarray(reduction == "mul", dtype)
    sign = -1 if reduction == "max" else 1
    if dtype.kind == "f":
        return np.asarray(sign * np.inf, dtype)
    limits = np.iinfo(dtype)
    return np.asarray(limits.min if sign < 0 else limits.max, dtype)


@converts("CumulativeLogsumexp")
def _log_of_sums(f: Formula, x: str, axis: str) -> Any:
    """A Scan along the first axis, from −∞ on, with one step more where there may be none."""
    dtype = f.dtype_of(x)
    f.dtype = np.dtype(WIDER.get(dtype.name, dtype.name))
    rank = len(f.shape(x))
    place = int(f.value(axis)) % rank
    first = [place, *(axis for axis in range(rank) if axis != place)]
    backwards, end = bool(f.attribute("reverse")), np.iinfo(np.int64).max
    x = f.Transpose(f.cast(x, f.dtype) if f.dtype != dtype else x, perm=first)
    nothing = f.Expand(-float("inf"), f.slice(f.Shape(x), 1, rank, 0))
    more = f.unsqueeze(nothing, 0)
    x = f.Concat(*((more, x) if backwards else (x, more)), axis=0)
    y = scan(f, nothing, x, backwards, _added)
    y = f.slice(y, 1, end, 0) if backwards else f.slice(y, 0, -1, 0)
    y = f.Transpose(y, perm=np.argsort(first).tolist())
    return f.cast(y, dtype) if f.dtype != dtype else y


def _added(step: Formula, before: str, number: str) -> str:
    """m + log(1 + e^(n − m)) of the larger and the smaller number."""
    large = step.Max(before, number)
    gap = step.Sub(step.Min(before, number), large)
    grown = step.Add(large, log1p(step, step.Exp(gap)))
    return str(step.Where(step.Equal(large, -float("inf")), large, grown))
