"""Patches: what lies under a window, at every place of it, along the axis of the channels.

Nothing is computed, so that every number of every type stays what it is. Windows that lie side by
side, as many as is known, are a reshape and a transpose. Others are gathered along one axis after
the other: n pixels give places (windows, pixels of a window).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .formula import Formula, Number, converts

PADDED = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64")
"""Types that onnxruntime pads; others are padded as int64."""


@dataclass(frozen=True)
class Windows:
    """Windows along an axis: pixels of each, from window to window, and from pixel to pixel."""

    axis: int
    size: int
    step: int
    rate: int

    @property
    def reach(self) -> int:
        return (self.size - 1) * self.rate + 1

    @property
    def side_by_side(self) -> bool:
        return self.size == self.step and self.rate == 1

    def count(self, given: int, padding: str) -> int:
        if padding == "SAME":
            return -(-given // self.step)
        return max((given - self.reach + self.step) // self.step, 0)

    def border(self, given: int) -> int:
        """How many pixels `SAME` adds."""
        return max((self.count(given, "SAME") - 1) * self.step + self.reach - given, 0)


@converts("ExtractImagePatches", "ExtractVolumePatches")
def _patches(f: Formula, images: str) -> Any:
    sizes, steps = f.attribute("ksizes"), f.attribute("strides")
    rates = f.attribute("rates") or [1] * len(sizes)
    windows = [Windows(i, sizes[i], steps[i], rates[i]) for i in range(1, len(sizes) - 1)]
    given = f.shape(images)
    if len(given) != len(sizes):
        raise ValueError(f"{f.node.type} needs images of {len(sizes)} axes")
    extents = [
        _given(f, images, axis) if extent < 0 else extent for axis, extent in enumerate(given)
    ]
    channels = extents[-1]
    counts = [_count(f, each, extents[each.axis]) for each in windows]
    if f.attribute("padding") == "SAME":
        images = _padded(f, images, windows, extents, counts)
    # For a Reshape, 0 is not the number of windows.
    known = all(isinstance(count, int) and count > 0 for count in counts)
    if known and all(each.side_by_side for each in windows):
        patches = _split(f, images, windows, counts, channels)
    else:
        patches = _gathered(f, images, windows, counts)
    rank = len(windows)
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1]
    size = math.prod(each.size for each in windows)
    depth = size * channels if isinstance(channels, int) else f.Mul(channels, [size])
    shape = _shape(f, [0, *counts, depth])
    return f.Reshape(f.Transpose(patches, perm=order), shape)


def _given(f: Formula, x: str, axis: int) -> str:
    """A free extent, as a list of one."""
    return f.slice(f.Shape(x), axis, axis + 1, 0)


def _shape(f: Formula, parts: list[Any]) -> Number | str:
    if all(isinstance(part, int) for part in parts):
        return list(parts)
    return str(f.Concat(*([part] if isinstance(part, int) else part for part in parts), axis=0))


def _count(f: Formula, window: Windows, given: Any) -> Any:
    """How many windows there are, known or not."""
    padding = f.attribute("padding")
    if isinstance(given, int):
        return window.count(given, padding)
    first = 1 if padding == "SAME" else window.reach
    return f.Max(f.Div(f.Add(given, [window.step - first]), [window.step]), [0])


def _padded(
    f: Formula, images: str, windows: list[Windows], extents: list[Any], counts: list[Any]
) -> str:
    """Zeros around, one more behind than in front where they are odd."""
    front: list[Any] = [0]
    behind: list[Any] = [0]
    for window, count in zip(windows, counts, strict=True):
        given = extents[window.axis]
        if isinstance(given, int):
            border = window.border(given)
            front.append(border // 2)
            behind.append(border - border // 2)
        else:
            needed = f.Add(f.Mul(f.Sub(count, [1]), [window.step]), [window.reach])
            border = f.Max(f.Sub(needed, given), [0])
            front.append(f.Div(border, [2]))
            behind.append(f.Sub(border, front[-1]))
    pads = [*front, 0, *behind, 0]
    if not any(pads):
        return images
    dtype = f.dtype_of(images)
    stored = dtype if dtype.name in PADDED else np.dtype(np.int64)
    padded = f.Pad(
        f.cast(images, stored) if stored != dtype else images, _shape(f, pads), np.zeros((), stored)
    )
    return str(padded if stored == dtype else f.cast(padded, dtype))


def _split(
    f: Formula, images: str, windows: list[Windows], counts: list[int], channels: Any
) -> str:
    """(batch, windows × pixels, ..., channels) → (batch, windows, pixels, ..., channels)."""
    whole = [count * window.size for window, count in zip(windows, counts, strict=True)]
    if f.attribute("padding") == "VALID" and f.shape(images)[1:-1] != whole:
        axes = [window.axis for window in windows]
        images = f.Slice(images, [0] * len(axes), whole, axes)
    parts = (part for pair in zip(counts, windows, strict=True) for part in (pair[0], pair[1].size))
    return str(f.Reshape(images, _shape(f, [0, *parts, channels])))


def _gathered(f: Formula, images: str, windows: list[Windows], counts: list[Any]) -> str:
    """The same; an axis that is cut becomes two, so the last is cut first."""
    for window, count in zip(reversed(windows), reversed(counts), strict=True):
        within = window.rate * np.arange(window.size, dtype=np.int64)
        if isinstance(count, int):
            places: Any = window.step * np.arange(count, dtype=np.int64)[:, np.newaxis] + within
        else:
            end = f.Reshape(f.Mul(count, [window.step]), np.zeros(0, np.int64))
            starts = f.Range(np.int64(0), end, np.int64(window.step))
            places = f.Add(f.unsqueeze(starts, 1), within)
        images = f.Gather(images, places, axis=window.axis)
    return images
