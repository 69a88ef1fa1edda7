"""Transposed convolutions that tf2onnx gets wrong.

A window of k pixels at n places, at steps s, covers s (n − 1) + k pixels. Where a result has more,
the rest is zeros behind, for which tf2onnx writes borders of less than nothing. Where it has less,
what is beyond is cut off; with channels first tf2onnx cuts other axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import HANDLERS, Formula


def _transposed(graph: Any, node: Any, name: str, args: Any) -> None:
    formula = Formula(graph, node)
    sizes, kernel, given = node.input[:3]
    missing, last = _missing(formula), _is_last(formula)
    if missing is not None and (max(missing) > 0 or not last):
        formula.finish([_padded(formula, kernel, given, missing)])
        return
    if not last:
        formula.finish([_cut(formula, sizes, kernel, given)])
        return
    from tf2onnx.onnx_opset.nn import ConvTranspose

    ConvTranspose.version_1(graph, node)


for _operation in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
    HANDLERS[_operation] = (_transposed, [])


def _is_last(f: Formula) -> bool:
    """Whether the channels are."""
    return bool(f.attribute("data_format").endswith("C"))


def _along(f: Formula, attribute: str) -> list[int]:
    given = f.attribute(attribute)
    return [given[axis] if given else 1 for axis in f.spatial_axes()]


def _missing(f: Formula) -> list[int] | None:
    """Pixels of the result beyond the last window, along each axis; None if extents are free."""
    shapes = [f.graph.get_shape(name) for name in (*f.node.input[1:3], f.node.output[0])]
    if None in shapes:
        return None
    kernel, given, result = shapes
    missing = []
    for place, axis in enumerate(f.spatial_axes()):
        size, old, new = kernel[place], given[axis], result[axis]
        if min(size, old, new) < 0:
            return None
        window = _along(f, "dilations")[place] * (size - 1) + 1
        missing.append(new - _along(f, "strides")[place] * (old - 1) - window)
    return missing


def _padded(f: Formula, kernel: str, x: str, missing: list[int]) -> str:
    """What the windows cover beyond the result is cut off on both sides, the odd pixel behind."""
    axes = f.spatial_axes()
    rank, last = len(axes), _is_last(f)
    if last:
        x = f.Transpose(x, perm=[0, rank + 1, *axes])
    kernel = f.Transpose(kernel, perm=[rank + 1, rank, *range(rank)])
    beyond = [max(-each, 0) for each in missing]
    front = [each // 2 for each in beyond]
    behind = [each - each // 2 for each in beyond]
    y = f.ConvTranspose(
        x,
        kernel,
        strides=_along(f, "strides"),
        dilations=_along(f, "dilations"),
        pads=[*front, *behind],
    )
    if max(missing) > 0:
        zeros = np.array([0] * (rank + 4) + [max(each, 0) for each in missing], np.int64)
        y = f.Pad(y, zeros, 0.0)
    return str(f.Transpose(y, perm=[0, *range(2, rank + 2), 1]) if last else y)


def _cut(f: Formula, sizes: str, kernel: str, x: str) -> str:
    """With channels first, to extents that are computed; the same front and rear as `_padded`."""
    steps, dilations = _along(f, "strides"), _along(f, "dilations")
    rank = len(steps)
    kernel_shape = f.extents(kernel, *range(rank))
    windows = [a * (k - 1) + 1 for a, k in zip(dilations, kernel_shape, strict=True)]
    kernel = f.Transpose(kernel, perm=[rank + 1, rank, *range(rank)])
    y = f.ConvTranspose(x, kernel, strides=steps, dilations=dilations)
    wanted = f.slice(f.cast(sizes, np.int64), 2, rank + 2, 0)
    axes, nothing = list(range(2, rank + 2)), [0] * rank
    missing = f.Sub(wanted, f.slice(f.Shape(y), 2, rank + 2, 0))
    same = f.attribute("padding") == "SAME"
    if same and any(window > 1 for window in windows):
        front = f.Div(f.Max(f.Neg(missing), nothing), [2] * rank)
        y = f.Slice(y, front, f.Add(front, wanted), axes)
    rest = zip(steps, windows, strict=True)
    if any(step > (window if same else 1) for step, window in rest):
        behind = f.Max(missing, nothing)
        y = f.Pad(y, f.Concat([0] * (rank + 4), behind, axis=0), 0.0)
    return str(y)
