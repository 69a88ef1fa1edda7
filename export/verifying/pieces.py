"""Pieces: batches that Keras ran one by one, instead of all their rows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..formats import SAFETY
from ..programs.program import Arrays
from .channels import channel_errors, channel_noise, is_float


@dataclass(frozen=True)
class Pieces:
    """The outputs of batches that hold every row once.

    Attributes:
        places: Of each batch, the numbers of its rows.
        outputs: Of each batch, one array per output of the model.
    """

    places: list[np.ndarray]
    outputs: list[Arrays]

    def are_all(self, count: int) -> bool:
        """Whether they hold so many rows, and one result for each."""
        numbers = np.concatenate([np.empty(0, int), *self.places])
        return np.array_equal(np.sort(numbers), np.arange(count)) and all(
            y.shape[:1] == places.shape
            for places, outputs in zip(self.places, self.outputs, strict=True)
            for y in outputs
        )

    def joined(self) -> Arrays:
        """The outputs of all rows in turn."""
        order = np.argsort(np.concatenate(self.places))
        return [np.concatenate(column)[order] for column in zip(*self.outputs, strict=True)]

    def are_nearest(self, exact: Arrays) -> bool:
        """Whether all are as near to the float64 run of all rows as float32 can be.

        Then no row depends on those beside it, which were others there. How far rounding goes in
        the model such runs do not tell, so that no more than its last step is granted.
        """
        return all(
            y.shape == wide.shape and _is_nearest(y[places], wide[places])
            for y, wide in zip(self.joined(), exact, strict=True)
            for places in self.places
        )


def _is_nearest(native: np.ndarray, exact: np.ndarray) -> bool:
    if not is_float(native) or not np.isfinite(native).all():
        return False
    last_step = channel_noise(native, native, np.zeros(native.shape))
    return bool(np.all(channel_errors(native, native, exact) <= SAFETY * last_step))
