"""Variables that are updated at once.

A step over many small variables spends its time on calling kernels, not on arithmetic. So
small variables lie side by side in one vector, their slots too, and one call of the rule
updates them all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.clipping._tensors import maths_dtype

SMALL = 2**14
"""Elements up to which a variable is put together with others; measured on two cores."""


class Group:
    """One variable, or small ones side by side.

    Attributes:
        indices: Places of the variables in the list that the optimizer was built with.
        variables: The variables.
        dtype: Dtype of the variables.
        maths: Dtype of the slots and of the mathematics.
        shape: Shape of a slot: the variable's, or (n,) where several lie side by side.
        size: Number of elements.
        ends: For each variable, where its elements end in the vector.
        constraint: Of the variable; one that has a constraint is alone.
    """

    def __init__(self, indices: Sequence[int], variables: Sequence[Any]) -> None:
        self.indices = tuple(indices)
        self.variables = tuple(variables)
        self.dtype = keras.backend.standardize_dtype(variables[0].dtype)
        self.maths = maths_dtype(self.dtype)
        self.shapes = [tuple(variable.shape) for variable in variables]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.size = sum(self.sizes)
        self.ends = np.cumsum(self.sizes)
        self.together = len(self.variables) > 1
        self.shape = (self.size,) if self.together else self.shapes[0]
        self.constraint = getattr(variables[0], "constraint", None)

    def join(self, tensors: Sequence[Any]) -> Any:
        """One tensor of the group's shape from one per variable."""
        if not self.together:
            return tensors[0]
        return ops.concatenate(
            [
                x if len(shape) == 1 else ops.reshape(x, (n,))
                for x, n, shape in zip(tensors, self.sizes, self.shapes, strict=True)
            ]
        )

    def gather(self, tensors: Mapping[int, Any]) -> Any:
        """`join` of tensors by index, zeros where one is missing; None if all are."""
        if not any(index in tensors for index in self.indices):
            return None
        return self.join(
            [
                tensors[index] if index in tensors else ops.zeros(shape, self.maths)
                for index, shape in zip(self.indices, self.shapes, strict=True)
            ]
        )

    def split(self, tensor: Any) -> list[Any]:
        """The inverse of `join`."""
        if not self.together:
            return [tensor]
        parts = ops.split(tensor, self.ends[:-1].tolist())
        return [
            part if len(shape) == 1 else ops.reshape(part, shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def spread(self, numbers: Sequence[float]) -> Any:
        """One number per variable as what multiplies a tensor of the group's shape."""
        if len(set(numbers)) == 1:
            return numbers[0]
        return ops.convert_to_tensor(np.repeat(numbers, self.sizes), self.maths)

    def spread_slot(self, slot: Any) -> Any:
        """A slot with one number per variable, likewise."""
        if not self.together:
            return ops.reshape(slot, ())
        return ops.repeat(slot, np.array(self.sizes), axis=0)

    def gather_slot(self, slot: Any) -> Any:
        """The inverse of `spread_slot`."""
        if not self.together:
            return ops.reshape(slot, (1,))
        starts = np.cumsum([0, *self.sizes[:-1]])
        return ops.take(slot, starts, axis=0)


def make_groups(
    variables: Sequence[Any], alone: Callable[[Any], bool], skipped: Callable[[Any], bool]
) -> list[Group]:
    """Put small variables of one dtype together.

    Args:
        variables: All variables.
        alone: Whether a variable has to stay by itself.
        skipped: Whether a variable belongs to no group.

    Returns:
        The groups, in the order of their first variables.
    """
    places: dict[Any, list[int]] = {}
    for index, variable in enumerate(variables):
        if not skipped(variable):
            dtype = keras.backend.standardize_dtype(variable.dtype)
            places.setdefault(index if alone(variable) else dtype, []).append(index)
    return [Group(each, [variables[i] for i in each]) for each in places.values()]


def is_small(variable: Any) -> bool:
    return 0 < int(np.prod(tuple(variable.shape))) <= SMALL


def path_of(variable: Any) -> str:
    """How a variable is called in a message."""
    return str(getattr(variable, "path", variable.name))
