"""Resizing: images resampled by linear maps of their rows, and then of their columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .formula import Formula, Number, converts


@converts("ResizeArea", "ResizeBicubic", "ResizeBilinear")
def _resize(f: Formula, images: str, size: str) -> Any:
    if f.node.type == "ResizeBilinear" and f.dtype_of(images) not in (np.float32, np.float16):
        return _lerped(f, images, size)
    if f.known(size) is None or min(f.shape(images)[1:]) < 0:
        return _resized(f, images, size)
    target = [int(extent) for extent in f.value(size)]
    flags = {
        name: bool(f.attribute(name))
        for name in ("align_corners", "half_pixel_centers")
        if f.attribute(name) is not None
    }
    return _resampled(f, images, lambda axis: {"size": [target[axis - 1], 1], **flags})


def _resized(f: Formula, images: str, size: str) -> Any:
    """By matrices whose extents are free."""
    _want_half_pixels(f)
    f.dtype = np.dtype(np.float32)
    given, target = f.Shape(images), f.cast(size, np.int64)

    def matrix(axis: int) -> str:
        old, new = f.slice(given, axis, axis + 1, 0), f.slice(target, axis - 1, axis, 0)
        scale = f.Div(f.cast(old, np.float32), f.cast(new, np.float32))
        return FREE[f.node.type](f, _steps(f, old), f.unsqueeze(_steps(f, new), 1), scale)

    return _mapped(f, images, target, matrix)


def _want_half_pixels(f: Formula) -> None:
    half = f.node.type == "ResizeArea" or f.attribute("half_pixel_centers")
    if f.attribute("align_corners") or not half:
        raise ValueError("only half-pixel centers have a form for free extents")


def _steps(f: Formula, extent: str) -> str:
    """0, 1, 2, ..."""
    steps = f.Range(np.int64(0), f.Squeeze(extent), np.int64(1))
    return f.cast(steps, np.float32)


def _mapped(f: Formula, images: str, target: str, matrix: Callable[[int], str]) -> Any:
    """Rows, then columns, mapped by matrices of the rows and of the columns."""
    given, known = f.Shape(images), f.shape(images)[3]
    channels = [known] if known >= 0 else f.slice(given, 3, 4, 0)
    if f.dtype_of(images) != np.float32:
        images = f.cast(images, np.float32)
    height, width = (f.slice(given, i, i + 1, 0) for i in (1, 2))

    def each(axis: int) -> str:
        # One matrix per image: onnxruntime does not multiply one by no images.
        copies = f.Concat(f.slice(given, 0, 1, 0), [1] * (axis + 1), axis=0)
        return str(f.Expand(matrix(axis), copies))

    flat = f.Reshape(images, f.Concat([-1], height, f.Mul(width, channels), axis=0))
    tall = f.MatMul(each(1), flat)
    tall = f.Reshape(tall, f.Concat([-1], f.slice(target, 0, 1, 0), width, channels, axis=0))
    return f.MatMul(each(2), tall)


def _bilinear(f: Formula, old: str, new: str, scale: str) -> str:
    """Pixel i of the result is read at s = (i + ½) h / h′ − ½, and pixel j counts 1 − |s − j|."""
    read = f.Sub(f.Mul(f.Add(new, 0.5), scale), 0.5)
    read = f.Min(f.Max(read, 0.0), f.ReduceMax(old, keepdims=0))
    return str(f.Relu(f.Sub(1.0, f.Abs(f.Sub(read, old)))))


def _bicubic(f: Formula, old: str, new: str, scale: str) -> str:
    """Keys' cubic with a = −½, which TensorFlow reads at 1,024 places between pixels."""
    read = f.Sub(f.Mul(f.Add(new, 0.5), scale), 0.5)
    below = f.Floor(read)
    part = f.Div(f.Round(f.Mul(f.Sub(read, below), 1024.0)), 1024.0)
    gap = f.Abs(f.Add(f.Sub(below, old), part))
    return _shares(f, _cubic(f, gap))


def _area(f: Formula, old: str, new: str, scale: str) -> str:
    """How much of each pixel a pixel of the result covers."""
    low, high = f.Mul(new, scale), f.Mul(f.Add(new, 1.0), scale)
    cover = f.Sub(f.Min(high, f.Add(old, 1.0)), f.Max(low, old))
    return str(f.Div(f.Relu(cover), scale))


FREE: dict[str, Callable[[Formula, str, str, str], str]] = {
    "ResizeArea": _area,
    "ResizeBicubic": _bicubic,
    "ResizeBilinear": _bilinear,
}
"""What old pixels 0, 1, ... count for new ones, (new, 1), at this ratio of the extents."""


def _shares(f: Formula, weights: str) -> str:
    """Weights of which each row adds up to 1."""
    total = f.ReduceSum(weights, [-1], keepdims=1)
    return str(f.Div(weights, total))


def _cubic(f: Formula, gap: str) -> str:
    near = f.Add(f.Mul(f.Mul(f.Sub(f.Mul(gap, 1.5), 2.5), gap), gap), 1.0)
    far = f.Sub(f.Mul(f.Add(f.Mul(f.Sub(2.5, f.Mul(gap, 0.5)), gap), -4.0), gap), -2.0)
    return str(f.Where(f.Less(gap, 1.0), near, f.Where(f.Less(gap, 2.0), far, 0.0)))


def _lanczos(radius: float) -> Callable[[Formula, str], str]:
    def weight(f: Formula, gap: str) -> str:
        # In float64: onnxruntime's sines in float32 lose a digit.
        gap = f.cast(gap, np.float64)
        angle = f.Max(f.Mul(gap, np.float64(np.pi)), np.float64(1e-6))
        sines = [f.Sin(x) for x in (angle, f.Div(angle, np.float64(radius)))]
        top = f.Mul(f.Mul(*sines), np.float64(radius))
        inside = f.cast(f.LessOrEqual(gap, np.float64(radius)), np.float64)
        return str(f.Mul(f.Div(top, f.Mul(angle, angle)), inside))

    return weight


KERNELS: dict[str, Callable[[Formula, str], str]] = {
    "triangle": lambda f, gap: str(f.Relu(f.Sub(1.0, gap))),
    "keyscubic": _cubic,
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
}


def _lerped(f: Formula, images: str, size: str) -> Any:
    """Bilinear as TensorFlow rounds it, for whole numbers, which end between two of them, and for
    float64: a + (b − a) t along rows, then along columns."""
    _want_half_pixels(f)
    f.dtype = np.dtype(np.float32)
    given, target = f.Shape(images), f.cast(size, np.int64)
    images = f.cast(images, np.float32)
    for axis in (2, 1):
        old, new = f.slice(given, axis, axis + 1, 0), f.slice(target, axis - 1, axis, 0)
        scale = f.Div(f.cast(old, np.float32), f.cast(new, np.float32))
        read = f.Sub(f.Mul(f.Add(_steps(f, new), 0.5), scale), 0.5)
        below = f.Floor(read)
        last = f.Sub(old, [1])
        first, second = (
            f.Gather(images, f.Min(f.Max(f.cast(place, np.int64), [0]), last), axis=axis)
            for place in (below, f.Ceil(read))
        )
        share = f.unsqueeze(f.Sub(read, below), *range(1, 4 - axis))
        images = f.Add(first, f.Mul(f.Sub(second, first), share))
    return images


@converts("ResizeNearestNeighbor")
def _nearest(f: Formula, images: str, size: str) -> Any:
    """Rows, then columns, gathered at the places that TensorFlow reads.

    It rounds h / h′ to float32 before it multiplies, and so does this: ONNX's Resize may read the
    pixel beside where (i + ½) h / h′ is a whole number.
    """
    given, target = f.Shape(images), f.cast(size, np.int64)
    for axis, known in ((1, f.shape(images)[1]), (2, f.shape(images)[2])):
        old = np.array(known) if known >= 0 else f.Gather(given, np.int64(axis))
        places = _nearest_places(f, old, f.Gather(target, np.int64(axis - 1)))
        images = f.Gather(images, places, axis=axis)
    return images


def _nearest_places(f: Formula, old: str | Number, new: str) -> str:
    """Where each of the new pixels is read along an axis, numbers from 0 to old − 1."""
    zero, one, half = np.int64(0), np.int64(1), np.float32(0.5)
    places = f.cast(f.Range(zero, new, one), np.float32)
    last = f.Sub(old, one)
    if f.attribute("align_corners"):
        gaps = f.cast(f.Max(f.Sub(new, one), one), np.float32)
        scale = f.Div(f.cast(last, np.float32), gaps)
        read = f.Floor(f.Add(f.Mul(places, scale), half))
    else:
        if f.attribute("half_pixel_centers"):
            places = f.Add(places, half)
        top, bottom = (f.cast(f.constant(extent), np.float32) for extent in (old, new))
        read = f.Floor(f.Mul(places, f.Div(top, bottom)))
    return str(f.Min(f.cast(read, np.int64), last))


@converts("ScaleAndTranslate")
def _scale_and_translate(f: Formula, images: str, size: str, scale: str, shift: str) -> Any:
    known = [f.known(name) for name in (size, scale, shift)]
    if min(f.shape(images)[1:]) < 0 or any(value is None for value in known):
        return _scaled(f, images, size, scale, shift)
    target, factors, shifts = (f.value(name) for name in (size, scale, shift))
    flags = {"kernel_type": f.attribute("kernel_type"), "antialias": bool(f.attribute("antialias"))}
    return _resampled(
        f,
        images,
        lambda axis: {
            "size": [int(target[axis - 1]), 1],
            "scale": [factors[axis - 1], 1.0],
            "translation": [shifts[axis - 1], 0.0],
            **flags,
        },
    )


def _inverse(f: Formula, x: str) -> str:
    """1 / x, rounded before it is multiplied: onnxruntime makes a · (1 / x) a / x."""
    return str(f.Neg(f.Div(-1.0, x)))


def _scaled(f: Formula, images: str, size: str, scale: str, shift: str) -> Any:
    """By matrices whose extents are free; where the picture shrinks, the kernel grows."""
    kernel = KERNELS.get(f.attribute("kernel_type"))
    if kernel is None or np.any(f.value(shift)):
        raise ValueError(f"no form of {f.attribute('kernel_type')} for free extents")
    weight = kernel
    f.dtype = np.dtype(np.float32)
    given, target = f.Shape(images), f.cast(size, np.int64)

    def matrix(axis: int) -> str:
        old, new = f.slice(given, axis, axis + 1, 0), f.slice(target, axis - 1, axis, 0)
        ratio = _inverse(f, f.slice(scale, axis - 1, axis, 0))
        read = f.Mul(f.Add(f.unsqueeze(_steps(f, new), 1), 0.5), ratio)
        gap = f.Abs(f.Sub(f.Add(_steps(f, old), 0.5), read))
        if f.attribute("antialias"):
            gap = f.Mul(gap, _inverse(f, f.Max(ratio, 1.0)))
        return f.cast(_shares(f, weight(f, gap)), np.float32)

    return _mapped(f, images, target, matrix)


def _resampled(f: Formula, images: str, arguments: Callable[[int], dict[str, Any]]) -> Any:
    """Rows, then columns of (batch, rows, columns, channels) mapped by matrices.

    The matrices are what TensorFlow's own operation does to unit images, one pixel wide.
    """
    height, width, channels = f.extents(images, 1, 2, 3)
    rows, columns = (
        _unit_response(f.node.type, n, arguments(i)) for i, n in ((1, height), (2, width))
    )
    if f.dtype_of(images) != np.float32:
        images = f.cast(images, np.float32)
    flat = f.Reshape(images, [-1, height, width * channels])
    tall = f.Reshape(f.MatMul(rows, flat), [-1, len(rows), width, channels])
    return f.MatMul(columns, tall)


def _unit_response(operation: str, extent: int, arguments: dict[str, Any]) -> np.ndarray:
    import tensorflow as tf

    unit = np.eye(extent, dtype=np.float32)[np.newaxis, :, np.newaxis]
    with tf.Graph().as_default() as graph:
        image = getattr(tf.raw_ops, operation)(images=unit, **arguments)
    with tf.compat.v1.Session(graph=graph) as session:
        return np.asarray(session.run(image))[0, :, 0]
