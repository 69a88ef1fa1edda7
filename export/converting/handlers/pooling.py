"""Pooling with steps longer than its windows, over extents that are free; dilation.

tf2onnx leaves the borders of free extents to onnxruntime (`auto_pad`), which subtracts the steps
from the windows and fails where nothing is left to pad. Here the borders are computed as
TensorFlow does: n pixels give m = ⌈n / s⌉ windows of k pixels at steps s, so
p = max((m − 1) s + k − n, 0) pixels are added, ⌊p / 2⌋ of them in front.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .choice import larger
from .formula import FLOATS, HANDLERS, Formula, converts

LONG = {"int32", "int64"}
"""Whole numbers that float32 does not hold."""


def _pool(graph: Any, node: Any, name: str, args: Any) -> None:
    formula = Formula(graph, node)
    if formula.dtype_of(node.input[0]).name in LONG:
        formula.finish([_pool_of_long_numbers(formula, *node.input)])
        return
    if _fails(formula):
        formula.finish([_padded_pool(formula, *node.input)])
        return
    from tf2onnx.onnx_opset.nn import PoolOp

    operation = node.type
    node.type = "AveragePool" if operation.startswith("Avg") else "MaxPool"
    PoolOp.version_11(graph, node, tf_op=operation)


for _operation in ("AvgPool", "AvgPool3D", "MaxPool", "MaxPool3D"):
    HANDLERS[_operation] = (_pool, [])


def _fails(f: Formula) -> bool:
    """Whether onnxruntime would be asked for borders of less than nothing."""
    shape = f.graph.get_shape(f.node.input[0])
    if f.attribute("padding") != "SAME" or shape is None:
        return False
    given = [shape[axis] for axis in f.spatial_axes()]
    longer = any(step > size for step, size in zip(_steps(f), _windows(f), strict=True))
    return longer and min(given) < 0


def _pool_of_long_numbers(f: Formula, x: str) -> str:
    """Along one axis after the other: the larger of two windows that begin side by side is that of
    a window up to twice as long."""
    axes, end = f.spatial_axes(), np.iinfo(np.int64).max
    if f.attribute("padding") == "SAME":
        lowest = np.array(np.iinfo(f.dtype_of(x)).min, f.dtype_of(x))
        given = f.Gather(f.Shape(x), axes)
        borders = same_borders(f, given, _windows(f), _steps(f))
        # They are those of channels in front.
        place = [2 + axes.index(axis) if axis in axes else 0 for axis in range(len(axes) + 2)]
        order = [*place, *(len(place) + entry for entry in place)]
        x = f.Pad(x, f.Gather(borders, order), lowest)
    for axis, window, step in zip(axes, _windows(f), _steps(f), strict=True):
        reach = 1
        while reach < window:
            shift = min(reach, window - reach)
            one, other = f.slice(x, 0, -shift, axis), f.slice(x, shift, end, axis)
            x = larger(f, one, other)
            reach += shift
        x = f.Slice(x, [0], [end], [axis], [step]) if step > 1 else x
    return str(f.Identity(x))


def _windows(f: Formula) -> list[int]:
    return [f.attribute("ksize")[axis] for axis in f.spatial_axes()]


def _steps(f: Formula) -> list[int]:
    return [f.attribute("strides")[axis] for axis in f.spatial_axes()]


def _padded_pool(f: Formula, x: str) -> str:
    """Averages are of what lies within the image: of x, over the average of ones."""
    axes, own = f.spatial_axes(), f.dtype_of(x)
    if own not in FLOATS.values():
        x, f.dtype = f.cast(x, np.float64), np.dtype(np.float64)
    last = axes[-1] < len(axes) + 1
    if last:
        x = f.Transpose(x, perm=[0, len(axes) + 1, *axes])
    given = f.Slice(f.Shape(x), [2], [len(axes) + 2])
    borders = same_borders(f, given, _windows(f), _steps(f))
    window = {"kernel_shape": _windows(f), "strides": _steps(f)}
    if f.node.type.startswith("Avg"):
        ones = f.Expand(f.constant(1.0), f.Concat([1, 1], given, axis=0))
        total, share = (f.AveragePool(f.Pad(part, borders, 0.0), **window) for part in (x, ones))
        y = f.Div(total, share)
    else:
        y = f.MaxPool(f.Pad(x, borders, -np.inf), **window)
    if last:
        y = f.Transpose(y, perm=[0, *(axis + 1 for axis in axes), 1])
    return str(y if own in FLOATS.values() else f.cast(y, own))


def same_borders(f: Formula, given: str, windows: list[int], steps: list[int]) -> str:
    """Pixels to add, in front along each axis and then behind, for ONNX's Pad."""
    whole = f.Div(f.Sub(given, [1] * len(steps)), steps)
    needed = f.Add(f.Mul(whole, steps), windows)
    added = f.Max(f.Sub(needed, given), [0] * len(steps))
    front = f.Div(added, [2] * len(steps))
    return str(f.Concat([0, 0], front, [0, 0], f.Sub(added, front), axis=0))


MANY = 121
"""Numbers of a structuring element that are written out, one by one."""


@converts("Dilation2D")
def _dilated(f: Formula, x: str, element: str) -> Any:
    """The largest of what a window covers plus the numbers of the element; −∞ beyond the image."""
    height, width = f.extents(element, 0, 1)
    if f.dtype_of(x) not in FLOATS.values() or height * width > MANY:
        raise ValueError(
            f"{f.node.type} has a form for float32, float16 and float64 and elements of up to "
            f"{MANY} numbers. Received: {f.dtype_of(x)}, {height} x {width}"
        )
    steps, rates = f.attribute("strides")[1:3], f.attribute("rates")[1:3]
    reach = [rate * (size - 1) for rate, size in zip(rates, (height, width), strict=True)]
    x = f.Transpose(x, perm=[0, 3, 1, 2])
    if f.attribute("padding") == "SAME":
        given = f.slice(f.Shape(x), 2, 4, 0)
        windows = [each + 1 for each in reach]
        x = f.Pad(x, same_borders(f, given, windows, steps), -float("inf"))
    element = f.unsqueeze(f.Transpose(element, perm=[2, 0, 1]), 0)
    y = None
    for row, column in np.ndindex(height, width):
        first = [rates[0] * row, rates[1] * column]
        ends = [
            start - all_of if start < all_of else np.iinfo(np.int64).max
            for start, all_of in zip(first, reach, strict=True)
        ]
        part = f.Slice(x, first, ends, [2, 3], list(steps))
        own = f.Slice(element, [row, column], [row + 1, column + 1], [2, 3])
        part = f.Add(part, own)
        y = part if y is None else f.Max(y, part)
    return f.Transpose(y, perm=[0, 2, 3, 1])
