"""Transposed convolutions that tf2onnx gets wrong.

A window of k pixels at n places, at steps s, covers s (n − 1) + k pixels. Where a result has more,
the rest is zeros behind, for which tf2onnx writes borders of less than nothing. Where it has less,
what is beyond is cut off; with channels first tf2onnx cuts other axes. By then tf2onnx has made a
bias behind the convolution its fourth input: it is added to the zeros, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import HANDLERS, Formula


def _transposed(graph: Any, node: Any, name: str, args: Any) -> None:
    formula = Formula(graph, node)
    sizes, kernel, given, *bias = node.input
    missing = _missing(formula)
    if missing is None:
        formula.finish([_cut(formula, sizes, kernel, given, bias)])
        return
    if max(missing) > 0 or not _is_last(formula):
        formula.finish([_padded(formula, kernel, given, bias, missing)])
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


def _padded(f: Formula, kernel: str, x: str, bias: list[str], missing: list[int]) -> str:
    """What the windows cover beyond the result is cut off on both sides, the odd pixel behind."""
    rank = len(missing)
    beyond = [max(-each, 0) for each in missing]
    front = [each // 2 for each in beyond]
    behind = [each - each // 2 for each in beyond]
    padded = max(missing) > 0
    y = _windows(f, kernel, x, [] if padded else bias, pads=[*front, *behind])
    if padded:
        zeros = np.array([0] * (rank + 4) + [max(each, 0) for each in missing], np.int64)
        y = _biased(f, f.Pad(y, zeros, 0.0), bias, rank)
    return _given_back(f, y, rank)


def _cut(f: Formula, sizes: str, kernel: str, x: str, bias: list[str]) -> str:
    """To extents that are computed; the same front and rear as `_padded`."""
    steps, dilations = _along(f, "strides"), _along(f, "dilations")
    rank = len(steps)
    kernel_shape = f.extents(kernel, *range(rank))
    windows = [a * (k - 1) + 1 for a, k in zip(dilations, kernel_shape, strict=True)]
    same = f.attribute("padding") == "SAME"
    rest = zip(steps, windows, strict=True)
    padded = any(step > (window if same else 1) for step, window in rest)
    y = _windows(f, kernel, x, [] if padded else bias)
    first = f.spatial_axes()[0]
    wanted = f.slice(f.cast(sizes, np.int64), first, first + rank, 0)
    axes, nothing = list(range(2, rank + 2)), [0] * rank
    missing = f.Sub(wanted, f.slice(f.Shape(y), 2, rank + 2, 0))
    if same and any(window > 1 for window in windows):
        front = f.Div(f.Max(f.Neg(missing), nothing), [2] * rank)
        y = f.Slice(y, front, f.Add(front, wanted), axes)
    if padded:
        behind = f.Max(missing, nothing)
        y = f.Pad(y, f.Concat([0] * (rank + 4), behind, axis=0), 0.0)
        y = _biased(f, y, bias, rank)
    return _given_back(f, y, rank)


def _windows(f: Formula, kernel: str, x: str, bias: list[str], **attributes: Any) -> str:
    """All that the windows cover, channels first."""
    axes = f.spatial_axes()
    rank = len(axes)
    if _is_last(f):
        x = f.Transpose(x, perm=[0, rank + 1, *axes])
    kernel = f.Transpose(kernel, perm=[rank + 1, rank, *range(rank)])
    steps = {"strides": _along(f, "strides"), "dilations": _along(f, "dilations")}
    return str(f.ConvTranspose(x, kernel, *bias, **steps, **attributes))


def _biased(f: Formula, y: str, bias: list[str], rank: int) -> str:
    return str(f.Add(y, f.Reshape(bias[0], [-1, *[1] * rank]))) if bias else y


def _given_back(f: Formula, y: str, rank: int) -> str:
    """In the layout of the node."""
    return str(f.Transpose(y, perm=[0, *range(2, rank + 2), 1])) if _is_last(f) else y
