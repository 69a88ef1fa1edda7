"""Maps: y = scale · x + shift, element by element, the same for every sample.

Scale and shift are arrays of the rank of x that broadcast against it, batch axis included. They
are kept compact: of extent 1 along every axis along which they do not change. So the shape of a
map says what it depends on: that of a batch normalization changes along the channels only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Map:
    """y = scale · x + shift, in float64."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, scale: np.ndarray, shift: np.ndarray) -> Map:
        """A map of any two arrays of equal rank, made compact."""
        return cls(compact(scale), compact(shift))

    @classmethod
    def along(cls, axis: int, rank: int, scale: np.ndarray, shift: np.ndarray) -> Map:
        """A map of two vectors over one axis of a value of this rank."""
        shape = [1] * rank
        shape[axis] = -1
        return cls.of(np.reshape(scale, shape), np.reshape(shift, shape))

    @classmethod
    def identity(cls, rank: int) -> Map:
        return cls(np.ones((1,) * rank), np.zeros((1,) * rank))

    @property
    def scales(self) -> bool:
        return bool(np.any(self.scale != 1.0))

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift != 0.0))

    @property
    def nodes(self) -> int:
        """ONNX nodes that compute it: a multiplication, an addition, both or none."""
        return self.scales + self.shifts

    @property
    def numbers(self) -> int:
        """Numbers that have to be stored for it."""
        return self.scales * self.scale.size + self.shifts * self.shift.size

    @property
    def is_positive(self) -> bool:
        return bool(np.all(self.scale > 0.0))

    @property
    def axes(self) -> set[int]:
        """The axes along which it changes."""
        return varies(self.scale) | varies(self.shift)

    def then(self, other: Map) -> Map:
        """This map, followed by another one."""
        return Map.of(self.scale * other.scale, self.shift * other.scale + other.shift)

    def only_scale(self) -> Map:
        return Map(self.scale, np.zeros((1,) * self.scale.ndim))

    def only_shift(self) -> Map:
        return Map(np.ones((1,) * self.shift.ndim), self.shift)

    def shift_first(self) -> Map | None:
        """The shift alone that gives this map if the scale comes behind it, if there is one."""
        if np.any((self.scale == 0.0) & (self.shift != 0.0)):
            return None
        shift = self.shift / np.where(self.scale == 0.0, 1.0, self.scale)
        return Map.of(np.ones_like(self.scale), shift)

    def equals(self, other: Map) -> bool:
        """NaN equals NaN, so that folding comes to an end."""
        pairs = ((self.scale, other.scale), (self.shift, other.shift))
        return all(np.array_equal(one, two, equal_nan=True) for one, two in pairs)


def compact(array: np.ndarray) -> np.ndarray:
    """Extent 1 along every axis along which the array does not change."""
    array = np.asarray(array, np.float64)
    for axis, size in enumerate(array.shape):
        first = np.take(array, [0], axis) if size > 1 else array
        if size > 1 and np.all(array == first):
            array = first
    return array


def varies(array: np.ndarray) -> set[int]:
    """The axes along which a compact array changes."""
    return {axis for axis, size in enumerate(array.shape) if size > 1}


def spread(array: np.ndarray, shape: Shape, axes: Iterable[int]) -> np.ndarray | None:
    """A compact array at its full extent along some axes; None if an extent is not known."""
    target = list(array.shape)
    for axis in axes:
        size = shape[axis]
        if size is None:
            return None
        target[axis] = size
    return np.broadcast_to(array, target)


def vector(array: np.ndarray, axis: int, size: int) -> np.ndarray | None:
    """The array as a vector over one axis; None if it changes along another one."""
    if not varies(array) <= {axis}:
        return None
    return np.array(np.broadcast_to(array.reshape(-1), (size,)))


def align(array: np.ndarray, letters: str, target: Collection[str]) -> np.ndarray | None:
    """Axes named by letters, put in the order of other letters; None if one is left over."""
    if any(size > 1 and x not in target for x, size in zip(letters, array.shape, strict=True)):
        return None
    keep = [letter for letter in letters if letter in target]
    squeezed = array.reshape([array.shape[letters.index(letter)] for letter in keep])
    ordered = [letter for letter in target if letter in keep]
    moved = np.transpose(squeezed, [keep.index(letter) for letter in ordered])
    shape = iter(moved.shape)
    return moved.reshape([next(shape) if letter in keep else 1 for letter in target])
