"""Images: pixels at places that are computed, colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts
from .left import converts_some


@converts_some("CropAndResize")
def _crop(f: Formula, images: str, boxes: str, owners: str, size: str) -> Any:
    """The nearest pixel; halfway it is the later one, which ONNX's Resize cannot be relied on for.

    Row i of n is read at y₁ (h − 1) + i (y₂ − y₁)(h − 1) / (n − 1), a single row in the middle.
    """
    if f.attribute("method") != "nearest":
        return None
    f.dtype = np.dtype(np.float32)
    given, size = f.Shape(images), f.cast(size, np.int64)
    inside, places = [], [f.Reshape(f.cast(owners, np.int64), [-1, 1, 1, 1])]
    for axis in (0, 1):
        extent = f.Gather(size, np.int64(axis))
        last = f.cast(f.Sub(f.Gather(given, np.int64(axis + 1)), np.int64(1)), np.float32)
        low, high = (f.slice(boxes, end, end + 1, 1) for end in (axis, axis + 2))
        gaps = f.cast(f.Max(f.Sub(extent, np.int64(1)), np.int64(1)), np.float32)
        scale = f.Div(f.Mul(f.Sub(high, low), last), gaps)
        steps = f.cast(f.Range(np.int64(0), extent, np.int64(1)), np.float32)
        read = f.Add(f.Mul(low, last), f.Mul(steps, scale))
        middle = f.Mul(f.Mul(f.Add(low, high), 0.5), last)
        read = f.Where(f.Equal(extent, np.int64(1)), middle, read)
        there = f.And(f.GreaterOrEqual(read, 0.0), f.LessOrEqual(read, last))
        read = f.Where(there, read, 0.0)
        nearest = _half_up(f, read)
        other = [2, 3] if axis == 0 else [1, 3]
        inside.append(f.unsqueeze(there, *other))
        places.append(f.unsqueeze(f.cast(nearest, np.int64), *other))
    shape = f.Concat(f.slice(f.Shape(boxes), 0, 1, 0), size, [1], axis=0)
    pixels = f.GatherND(images, f.Concat(*(f.Expand(part, shape) for part in places), axis=-1))
    return f.Where(f.And(*inside), f.cast(pixels, np.float32), f.attribute("extrapolation_value"))


def _rounded(f: Formula, x: str) -> str:
    """To the nearest whole number; what is halfway, away from zero."""
    return str(f.Mul(f.Sign(x), _half_up(f, f.Abs(x))))


def _half_up(f: Formula, x: str) -> str:
    """To the nearest whole number, without a sum that rounds."""
    below = f.Floor(x)
    return str(f.Where(f.GreaterOrEqual(f.Sub(x, below), 0.5), f.Add(below, 1.0), below))


@converts("ImageProjectiveTransformV3")
def _projective(f: Formula, images: str, maps: str, size: str, fill: str) -> Any:
    """Pixel (x, y) of the result is read at (a₀x + a₁y + a₂, b₀x + b₁y + b₂) / (c₀x + c₁y + 1)."""
    mode, method = f.attribute("fill_mode"), f.attribute("interpolation")
    if f.dtype_of(images) != np.float32:
        raise ValueError(f"{f.node.type} has a form for float32 alone, not {f.dtype_of(images)}")
    height, width = f.extents(images, 1, 2)
    rows, columns = (int(extent) for extent in f.value(size))
    y, x = (grid.astype(np.float32) for grid in np.mgrid[:rows, :columns])
    entries = [f.unsqueeze(f.slice(maps, i, i + 1, 1), 2) for i in range(8)]

    def affine(first: int, constant: str | float) -> str:
        linear = f.Add(f.Mul(entries[first], x), f.Mul(entries[first + 1], y))
        return str(f.Add(linear, constant))

    bottom = affine(6, 1.0)
    nowhere = f.unsqueeze(f.Equal(bottom, 0.0), 3)
    places = []
    for first, extent in ((3, height), (0, width)):
        place = f.Div(affine(first, entries[first + 2]), bottom)
        place = f.Where(f.Equal(bottom, 0.0), 0.0, place)
        if mode in {"REFLECT", "WRAP"}:
            place = (_reflected if mode == "REFLECT" else _wrapped)(f, place, extent)
        low, high = (-2.0, extent + 1.0) if mode == "CONSTANT" else (0.0, extent - 1.0)
        places.append(f.Min(f.Max(place, low), high))
    if method == "NEAREST":
        nearest = [_rounded(f, place) for place in places]
        return f.Where(nowhere, fill, _pixel(f, images, fill, nearest))
    floors = [f.Floor(place) for place in places]
    shares = [f.unsqueeze(f.Sub(a, b), 3) for a, b in zip(places, floors, strict=True)]
    result = None
    for down in (0, 1):
        for right in (0, 1):
            corner = [f.Add(floors[0], float(down)), f.Add(floors[1], float(right))]
            weight = f.Mul(
                shares[0] if down else f.Sub(1.0, shares[0]),
                shares[1] if right else f.Sub(1.0, shares[1]),
            )
            part = f.Mul(weight, _pixel(f, images, fill, corner))
            result = part if result is None else f.Add(result, part)
    return f.Where(nowhere, fill, result)


def _reflected(f: Formula, place: str, extent: int) -> str:
    """Of pixels abcd: ... dcba abcd dcba ..., as TensorFlow rounds it."""
    double = 2.0 * extent
    turns = f.Floor(f.Div(f.Abs(place), double))
    behind = f.Sub(place, f.Mul(turns, double))
    behind = f.Where(f.GreaterOrEqual(behind, float(extent)), f.Sub(double - 1, behind), behind)
    front = f.Add(place, f.Mul(turns, double))
    past = f.Less(front, -float(extent))
    front = f.Where(past, f.Add(front, double), f.Sub(f.Neg(front), 1.0))
    return str(f.Where(f.Less(place, 0.0), front, behind))


def _wrapped(f: Formula, place: str, extent: int) -> str:
    """Of pixels abcd: ... abcd abcd abcd ..., as TensorFlow rounds it."""
    turns = f.Floor(f.Div(f.Abs(place), float(max(extent - 1, 1))))
    behind = f.Sub(place, f.Mul(turns, float(extent)))
    behind = f.Where(f.Greater(place, extent - 1.0), behind, place)
    front = f.Add(place, f.Mul(f.Add(turns, 1.0), float(extent)))
    return str(f.Where(f.Less(place, 0.0), front, behind))


def _pixel(f: Formula, images: str, fill: str, places: list[str]) -> str:
    """The pixels at whole places; the fill value outside."""
    kept = [
        f.Min(f.Max(place, 0.0), extent - 1.0)
        for place, extent in zip(places, f.extents(images, 1, 2), strict=True)
    ]
    inside = f.And(*(f.Equal(a, b) for a, b in zip(kept, places, strict=True)))
    grid = f.Concat(*(f.unsqueeze(f.cast(place, np.int64), 3) for place in kept), axis=-1)
    batch = f.Concat(f.Slice(f.Shape(images), [0], [1]), [1, 1, 1], axis=0)
    grid = f.Expand(grid, batch)
    pixels = f.GatherND(images, grid, batch_dims=1)
    return str(f.Where(f.unsqueeze(inside, 3), pixels, fill))


@converts("RGBToHSV")
def _rgb_to_hsv(f: Formula, images: str) -> Any:
    red, green, blue = (f.slice(images, i, i + 1, -1) for i in range(3))
    value = f.Max(red, green, blue)
    spread = f.Sub(value, f.Min(red, green, blue))
    saturation = f.Where(f.Greater(value, 0.0), f.Div(spread, value), 0.0)
    norm = f.Div(1.0, f.Mul(spread, 6.0))
    hue = f.Where(
        f.Equal(red, value),
        f.Mul(norm, f.Sub(green, blue)),
        f.Where(
            f.Equal(green, value),
            f.Add(f.Mul(norm, f.Sub(blue, red)), 2 / 6),
            f.Add(f.Mul(norm, f.Sub(red, green)), 4 / 6),
        ),
    )
    hue = f.Where(f.Greater(spread, 0.0), hue, 0.0)
    hue = f.Where(f.Less(hue, 0.0), f.Add(hue, 1.0), hue)
    return f.Concat(hue, saturation, value, axis=-1)


@converts("HSVToRGB")
def _hsv_to_rgb(f: Formula, images: str) -> Any:
    hue, saturation, value = (f.slice(images, i, i + 1, -1) for i in range(3))
    sixth = f.Mul(hue, 6.0)
    colours = [
        f.Sub(f.Abs(f.Sub(sixth, 3.0)), 1.0),
        f.Sub(2.0, f.Abs(f.Sub(sixth, 2.0))),
        f.Sub(2.0, f.Abs(f.Sub(sixth, 4.0))),
    ]
    pure = f.Min(f.Max(f.Concat(*colours, axis=-1), 0.0), 1.0)
    return f.Mul(f.Add(f.Sub(1.0, saturation), f.Mul(saturation, pure)), value)


@converts("AdjustSaturation")
def _adjust_saturation(f: Formula, images: str, factor: str) -> Any:
    """HSV with the saturation times a factor, from 0 to 1."""
    hsv = _rgb_to_hsv(f, images)
    hue, saturation, value = (f.slice(hsv, i, i + 1, -1) for i in range(3))
    factor = f.cast(factor, f.dtype)
    saturation = f.Min(f.Max(f.Mul(saturation, factor), 0.0), 1.0)
    return _hsv_to_rgb(f, f.Concat(hue, saturation, value, axis=-1))
