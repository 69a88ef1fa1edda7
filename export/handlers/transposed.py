"""Transposed convolutions whose results are larger than what their windows cover.

A window of k pixels at n places, at steps s, covers s (n − 1) + k pixels. Where a result has more,
the rest is zeros behind, for which tf2onnx writes borders of less than nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import HANDLERS, Formula


def _transposed(graph: Any, node: Any, name: str, args: Any) -> None:
    formula = Formula(graph, node)
    missing = _missing(formula)
    if missing is not None and max(missing) > 0:
        kernel, given = node.input[1:3]
        formula.finish([_padded(formula, kernel, given, missing)])
        return
    from tf2onnx.onnx_opset.nn import ConvTranspose

    ConvTranspose.version_1(graph, node)


for _operation in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
    HANDLERS[_operation] = (_transposed, [])


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
    rank, last = len(axes), axes[-1] < len(axes) + 1
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
    zeros = np.array([0] * (rank + 4) + [max(each, 0) for each in missing], np.int64)
    y = f.Pad(y, zeros, 0.0)
    return str(f.Transpose(y, perm=[0, *range(2, rank + 2), 1]) if last else y)
